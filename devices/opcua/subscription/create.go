package subscription

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/channel"
	"github.com/skerry-io/skerry/devices/opcua/codec"
	"github.com/skerry-io/skerry/devices/opcua/session"
)

// Item is a value to be watched.
type Item struct {
	Handle   uint32 // ours, which comes with each value
	Node     *ua.NodeID
	Sampling time.Duration
	Queue    uint32
	// Filter is the deadband for the server, nil for none.
	Filter *ua.DataChangeFilter
}

// Created is what became of an item.
type Created struct {
	Status ua.StatusCode
	ID     uint32
	// Unfiltered says that the server refused the filter and took the item without.
	Unfiltered bool
}

// Params is how a subscription is made.
type Params struct {
	Publishing time.Duration
	KeepAlive  time.Duration
	Lifetime   time.Duration
}

// Revised is what the server made of it.
type Revised struct {
	ID                  uint32
	Publishing          time.Duration
	KeepAlive, Lifetime time.Duration
}

const milliseconds = float64(time.Millisecond)

// Create makes a subscription (Part 4, 5.13.2).
func Create(ctx context.Context, s *session.Session, p Params) (Revised, error) {
	count := func(d time.Duration) uint32 { return uint32(max(1, (d+p.Publishing-1)/p.Publishing)) }
	keepAlive := count(p.KeepAlive)
	r, err := session.Do[*ua.CreateSubscriptionResponse](ctx, s, &ua.CreateSubscriptionRequest{
		RequestedPublishingInterval: float64(p.Publishing) / milliseconds, RequestedMaxKeepAliveCount: keepAlive,
		RequestedLifetimeCount: max(count(p.Lifetime), 3*keepAlive), PublishingEnabled: true,
	})
	if err != nil {
		return Revised{}, err
	}
	interval := time.Duration(r.RevisedPublishingInterval * milliseconds)
	if interval <= 0 || interval > 24*time.Hour {
		return Revised{}, fmt.Errorf("CreateSubscription: publishing interval of %v ms", r.RevisedPublishingInterval)
	}
	limited := func(n uint32) time.Duration { return min(interval*time.Duration(min(n, 1<<20)), 24*time.Hour) }
	return Revised{r.SubscriptionID, interval, limited(max(1, r.RevisedMaxKeepAliveCount)), limited(r.RevisedLifetimeCount)}, nil
}

// Delete ends subscriptions at the server.
func Delete(ctx context.Context, s *session.Session, ids ...uint32) {
	_, _ = session.Do[*ua.DeleteSubscriptionsResponse](ctx, s, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: ids}) // else they end for want of requests
}

// AddItems has items watched, in as many requests as the server wants. An item whose
// filter is refused is added without. The error is that of the session.
func AddItems(ctx context.Context, s *session.Session, id uint32, items []Item) ([]Created, error) {
	created, err := addItems(ctx, s, id, items)
	if err != nil {
		return nil, err
	}
	var again []Item
	var where []int
	for i, c := range created {
		if items[i].Filter != nil && filterRefused(c.Status) {
			plain := items[i]
			plain.Filter = nil
			again, where = append(again, plain), append(where, i)
		}
	}
	if len(again) == 0 {
		return created, nil
	}
	second, err := addItems(ctx, s, id, again)
	if err != nil {
		return nil, err
	}
	for i, c := range second {
		c.Unfiltered = true
		created[where[i]] = c
	}
	return created, nil
}

func filterRefused(s ua.StatusCode) bool {
	switch s {
	case ua.StatusBadFilterNotAllowed, ua.StatusBadMonitoredItemFilterUnsupported, ua.StatusBadMonitoredItemFilterInvalid, ua.StatusBadDeadbandFilterInvalid:
		return true
	}
	return false
}

func addItems(ctx context.Context, s *session.Session, id uint32, items []Item) ([]Created, error) {
	return session.Batch(ctx, &s.Operations.Items, session.MostItems, items, func(part []Item) ([]Created, error) {
		req := &ua.CreateMonitoredItemsRequest{SubscriptionID: id, TimestampsToReturn: ua.TimestampsToReturnBoth}
		for _, i := range part {
			filter := ua.NewExtensionObject(nil)
			if i.Filter != nil {
				filter = ua.NewExtensionObject(i.Filter)
			}
			req.ItemsToCreate = append(req.ItemsToCreate, &ua.MonitoredItemCreateRequest{
				ItemToMonitor:  &ua.ReadValueID{NodeID: i.Node, AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}},
				MonitoringMode: ua.MonitoringModeReporting,
				RequestedParameters: &ua.MonitoringParameters{
					ClientHandle: i.Handle, SamplingInterval: float64(i.Sampling) / milliseconds, Filter: filter, QueueSize: i.Queue, DiscardOldest: true,
				},
			})
		}
		r, err := session.Do[*ua.CreateMonitoredItemsResponse](ctx, s, req)
		if err != nil {
			return nil, err
		}
		out := make([]Created, len(r.Results))
		for i, c := range r.Results {
			out[i] = Created{Status: c.StatusCode, ID: c.MonitoredItemID}
		}
		return out, nil
	}, func(_ Item, err error) Created { return Created{Status: session.Status(err)} })
}

// Transfer moves subscriptions to a session (Part 4, 5.13.7): for each the numbers
// of the messages that the server still has, or false.
func Transfer(ctx context.Context, s *session.Session, id uint32) ([]uint32, bool, error) {
	r, err := session.Do[*ua.TransferSubscriptionsResponse](ctx, s, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{id}})
	if err != nil {
		if Refused(err) {
			err = nil // that is an answer
		}
		return nil, false, err
	}
	if len(r.Results) != 1 || r.Results[0] == nil || r.Results[0].StatusCode&0x80000000 != 0 {
		return nil, false, nil //nolint:nilerr // err is nil
	}
	return r.Results[0].AvailableSequenceNumbers, true, nil
}

// Republish asks for a message again. A nil message without an error is one that the
// server does not have; gone says that it does not have the subscription either.
func Republish(ctx context.Context, s *session.Session, id, number uint32) (m *ua.NotificationMessage, gone bool, err error) {
	r, err := session.Do[*ua.RepublishResponse](ctx, s, &ua.RepublishRequest{SubscriptionID: id, RetransmitSequenceNumber: number})
	switch {
	case errors.Is(err, ua.StatusBadSubscriptionIDInvalid), errors.Is(err, ua.StatusBadNoSubscription):
		return nil, true, nil
	case errors.Is(err, ua.StatusBadMessageNotAvailable), errors.Is(err, ua.StatusBadServiceUnsupported), errors.Is(err, ua.StatusBadNotImplemented),
		errors.Is(err, codec.ErrMalformed):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case r.NotificationMessage == nil || r.NotificationMessage.SequenceNumber != number:
		return nil, false, fmt.Errorf("republish: another message than %d", number)
	}
	return r.NotificationMessage, false, nil
}

// Refused reports whether the server refused one request and the session lives.
func Refused(err error) bool {
	var f *channel.Fault
	return errors.As(err, &f) && !session.Lost(err)
}
