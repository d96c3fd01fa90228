package opcua

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/opcua/subscription"
)

// hub is one server and user: the only one that connects there, for all devices
// that share it.
type hub struct {
	driver    *Driver
	server    server
	publisher *subscription.Publisher
	stop      context.CancelFunc
	ended     chan struct{}

	// The running goroutine's alone.
	choice  *discovery.Choice // nil to discover anew
	session *session.Session  // nil when a new one is needed
	retry   backoff

	mu      sync.Mutex // guards the following fields
	members map[*conn]struct{}
	changed chan struct{} // closed and made anew when members were added
}

func newHub(d *Driver, s server) *hub {
	return &hub{driver: d, server: s, publisher: subscription.NewPublisher(), ended: make(chan struct{}), members: map[*conn]struct{}{}, changed: make(chan struct{})}
}

func (h *hub) add(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members[c] = struct{}{}
	close(h.changed)
	h.changed = make(chan struct{})
}

// remove reports whether it was the last.
func (h *hub) remove(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.members, c)
	return len(h.members) == 0
}

func (h *hub) snapshot() ([]*conn, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*conn, 0, len(h.members))
	for c := range h.members {
		list = append(list, c)
	}
	return list, h.changed
}

// run connects, serves and connects again until ctx ends.
func (h *hub) run(ctx context.Context) {
	for ctx.Err() == nil {
		members, _ := h.snapshot()
		served, err := false, errors.New("no devices")
		if len(members) > 0 {
			served, err = h.once(ctx, members[0])
		}
		if ctx.Err() != nil {
			break
		}
		members, _ = h.snapshot()
		for _, c := range members {
			c.disconnected(err)
		}
		t := time.NewTimer(h.retry.next(err, served))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
	h.goodbye(ctx)
}

// goodbye ends the session, and leaves the subscriptions to the next one: who comes
// back, as after an update of the agent, finds in them what was measured meanwhile.
func (h *hub) goodbye(ctx context.Context) {
	if h.session == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if h.session.Channel().Err() == nil {
		h.session.Close(ctx, false)
	}
	h.session.Channel().Close()
}

// once connects and serves until the connection fails. of is a device of the
// server, whose secrets are those of all.
func (h *hub) once(ctx context.Context, of *conn) (served bool, err error) {
	l, err := h.connect(ctx, of)
	if err != nil {
		return false, err
	}
	defer l.session.Channel().Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-l.session.Channel().Done():
			cancel(l.session.Channel().Err())
		case <-ctx.Done():
		}
	}()
	err = h.serve(ctx, l)
	if session.Lost(err) {
		h.session = nil
	}
	return true, err
}

// serve runs all members on a link.
func (h *hub) serve(ctx context.Context, l *link) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.publisher.Run(ctx, l.session) })
	g.Go(func() error { return l.heartbeat(ctx) })
	g.Go(func() error {
		serving := map[*conn]bool{}
		for {
			members, changed := h.snapshot()
			for _, c := range members {
				if serving[c] {
					continue
				}
				serving[c] = true
				g.Go(func() error {
					if err := c.serve(ctx, l); err != nil && !errors.Is(err, errLeft) {
						return fmt.Errorf("%s: %w", c.dev.Key(), err)
					}
					return nil
				})
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return g.Wait()
}
