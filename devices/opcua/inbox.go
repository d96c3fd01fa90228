package opcua

import (
	"context"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
)

// entry is a message of a subscription, in its order.
type entry struct {
	sub    *sub
	number uint32
	at     time.Time // when the server sent it
	data   []*ua.MonitoredItemNotification
	// lost: messages before this one are gone.
	lost bool
	// fresh: values come from a new subscription from here on. The entry has no
	// message.
	fresh bool
	// refused: the server has refused items of the subscription. The entry has no
	// message.
	refused bool
}

// inbox is what was received and not yet stored, bounded: push waits for room, so
// that the server keeps what we can't.
type inbox struct {
	mu      sync.Mutex // guards the following fields
	entries []entry
	values  int
	room    chan struct{} // closed and made anew when entries were taken
	filled  chan struct{} // capacity 1
}

const (
	maxInboxEntries = 256
	maxInboxValues  = 50_000
)

func newInbox() *inbox {
	return &inbox{room: make(chan struct{}), filled: make(chan struct{}, 1)}
}

func (b *inbox) push(ctx context.Context, e entry) error {
	for {
		b.mu.Lock()
		if len(b.entries) == 0 || len(b.entries) < maxInboxEntries && b.values+len(e.data) <= maxInboxValues {
			b.entries = append(b.entries, e)
			b.values += len(e.data)
			b.mu.Unlock()
			select {
			case b.filled <- struct{}{}:
			default:
			}
			return nil
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take gives entries of up to about most values, at least one, and keeps them
// counted until done.
func (b *inbox) take(ctx context.Context, most int) ([]entry, error) {
	for {
		b.mu.Lock()
		n, values := 0, 0
		for n < len(b.entries) && (n == 0 || values+len(b.entries[n].data) <= most) {
			values += len(b.entries[n].data)
			n++
		}
		out := append([]entry{}, b.entries[:n]...)
		b.mu.Unlock()
		if n > 0 {
			return out, nil
		}
		select {
		case <-b.filled:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// done removes the first n.
func (b *inbox) done(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries[:n] {
		b.values -= len(e.data)
	}
	b.entries = append([]entry{}, b.entries[n:]...)
	close(b.room)
	b.room = make(chan struct{})
}
