package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/channel"
	"github.com/skerry-io/skerry/devices/opcua/codec"
)

// Batch sends items in requests of at most limit. A batch that is refused for its
// size, or whose answer cannot be read, is halved, and halved again, until the item
// is found that is to blame: its error is given to bad, which makes its result. An
// error that is not one of the batch ends the whole.
func Batch[T, R any](ctx context.Context, limit *Limit, most int, items []T, send func([]T) ([]R, error), bad func(T, error) R) ([]R, error) {
	results := make([]R, 0, len(items))
	for len(items) > 0 {
		n := min(limit.Get(most), len(items))
		part, err := halve(ctx, limit, items[:n], send, bad)
		if err != nil {
			return nil, err
		}
		results = append(results, part...)
		items = items[n:]
	}
	return results, nil
}

func halve[T, R any](ctx context.Context, limit *Limit, items []T, send func([]T) ([]R, error), bad func(T, error) R) ([]R, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results, err := send(items)
	if err == nil && len(results) != len(items) {
		err = fmt.Errorf("%w: %d results for %d operations", codec.ErrMalformed, len(results), len(items))
	}
	if err == nil {
		return results, nil
	}
	size, content := ofSize(err), ofContent(err)
	switch {
	case !size && !content:
		return nil, err
	case len(items) == 1:
		return []R{bad(items[0], err)}, nil
	case size:
		limit.learn(len(items))
	}
	middle := len(items) / 2
	left, err := halve(ctx, limit, items[:middle], send, bad)
	if err != nil {
		return nil, err
	}
	right, err := halve(ctx, limit, items[middle:], send, bad)
	return append(left, right...), err
}

// ofSize reports whether fewer operations at once may be taken.
func ofSize(err error) bool {
	for _, s := range []ua.StatusCode{
		ua.StatusBadTooManyOperations, ua.StatusBadEncodingLimitsExceeded, ua.StatusBadRequestTooLarge, ua.StatusBadResponseTooLarge,
		ua.StatusBadTCPMessageTooLarge, ua.StatusBadTCPNotEnoughResources, ua.StatusBadOutOfMemory, ua.StatusBadResourceUnavailable,
	} {
		if errors.Is(err, s) {
			return true
		}
	}
	return errors.Is(err, channel.ErrTooLarge)
}

// ofContent reports whether one of the operations spoils the others: a value that
// cannot be decoded, or a server that answers one bad node by refusing all.
func ofContent(err error) bool {
	if errors.Is(err, codec.ErrMalformed) {
		return true
	}
	var f *channel.Fault
	if !errors.As(err, &f) {
		return false
	}
	switch f.Status {
	case ua.StatusBadInternalError, ua.StatusBadUnexpectedError, ua.StatusBadDecodingError, ua.StatusBadEncodingError, ua.StatusBadInvalidArgument,
		ua.StatusBadNodeIDInvalid, ua.StatusBadNodeIDUnknown, ua.StatusBadAttributeIDInvalid, ua.StatusBadMonitoredItemFilterUnsupported:
		return true
	}
	return false
}
