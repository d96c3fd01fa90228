package opcua

import (
	"context"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/opcua/subscription"
)

// sub is a device's subscription at the server, over as many links as it lives.
type sub struct {
	conn    *conn
	start   int64 // of the server that has it
	revised subscription.Revised
	repair  chan struct{} // capacity 1: a message is missing
	order   chan struct{} // capacity 1: who holds it puts messages into the inbox

	mu       sync.Mutex // guards the following fields
	link     *link      // whose types the values are of
	sequence *subscription.Sequence
	seen     time.Time // when the server was heard last
	upTo     uint32    // a keep-alive says that this number comes next
	lost     bool      // the next message comes after lost ones
	gone     bool      // the server says that it has ended
	blocked  int       // receivers that wait for room: the server is not to blame
}

func newSub(c *conn, l *link, r subscription.Revised, last uint32) *sub {
	return &sub{conn: c, link: l, start: l.start, revised: r, repair: make(chan struct{}, 1), order: make(chan struct{}, 1), sequence: subscription.NewSequence(last), seen: time.Now()}
}

// ID implements subscription.Receiver.
func (s *sub) ID() uint32 { return s.revised.ID }

// Patience implements subscription.Receiver: three keep-alives.
func (s *sub) Patience() time.Duration {
	return 3 * max(s.revised.KeepAlive, s.revised.Publishing)
}

// Receive implements subscription.Receiver.
func (s *sub) Receive(ctx context.Context, m *ua.NotificationMessage, _ []uint32) {
	select {
	case s.order <- struct{}{}:
		defer func() { <-s.order }()
	case <-ctx.Done():
		return
	}
	s.mu.Lock()
	s.seen = time.Now()
	if len(m.NotificationData) == 0 { // a keep-alive, with the number of the next message
		s.upTo = m.SequenceNumber
		missing := s.sequence.Missing(s.upTo)
		s.mu.Unlock()
		if missing {
			s.ask()
		}
		return
	}
	due, stale := s.sequence.Accept(m)
	missing := s.sequence.Missing(0)
	s.mu.Unlock()
	if stale {
		s.conn.count("duplicates", 1)
		s.conn.acknowledgeStale(s, m.SequenceNumber)
	}
	if missing {
		s.ask()
	}
	s.forward(ctx, due)
}

func (s *sub) ask() {
	select {
	case s.repair <- struct{}{}:
	default:
	}
}

// forward puts messages into the inbox. The caller holds order.
func (s *sub) forward(ctx context.Context, due []*ua.NotificationMessage) {
	for _, m := range due {
		e := entry{sub: s, number: m.SequenceNumber, at: m.PublishTime}
		s.mu.Lock()
		e.lost, s.lost = s.lost, false
		s.mu.Unlock()
		for _, object := range m.NotificationData {
			if object == nil {
				continue
			}
			switch n := object.Value.(type) {
			case *ua.DataChangeNotification:
				e.data = append(e.data, n.MonitoredItems...)
			case *ua.StatusChangeNotification:
				s.mu.Lock()
				s.gone = true
				s.mu.Unlock()
				s.ask()
			}
		}
		s.waiting(1)
		err := s.conn.inbox.push(ctx, e)
		s.waiting(-1)
		if err != nil {
			// The link has ended: the server has the message still, and is asked for
			// it when there is a link again.
			s.mu.Lock()
			s.sequence = subscription.NewSequence(beforeNumber(m.SequenceNumber))
			s.lost = s.lost || e.lost
			s.mu.Unlock()
			return
		}
	}
}

func beforeNumber(n uint32) uint32 {
	if n <= 1 {
		return 1<<32 - 1
	}
	return n - 1
}

func (s *sub) waiting(n int) {
	s.mu.Lock()
	s.blocked += n
	s.seen = time.Now()
	s.mu.Unlock()
}

// silent reports whether the server was not heard for too long, else when to look
// again.
func (s *sub) silent() (bool, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocked > 0 {
		return false, s.Patience()
	}
	left := s.Patience() - time.Since(s.seen)
	return left <= 0, max(left, 10*time.Millisecond)
}

// catchUp asks for messages that were sent and did not arrive, in order, until the
// server has no more (Part 4, 5.13.6). live says that Publish requests are in flight,
// so that a message may still be under way: only holes are asked for then. gone
// reports that the server does not have the subscription.
func (s *sub) catchUp(ctx context.Context, link *session.Session, live bool) (gone bool, err error) {
	select {
	case s.order <- struct{}{}:
		defer func() { <-s.order }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	for {
		s.mu.Lock()
		number, hole := s.sequence.Next(), s.sequence.Missing(s.upTo)
		s.mu.Unlock()
		if live && !hole {
			return false, nil
		}
		m, gone, err := subscription.Republish(ctx, link, s.revised.ID, number)
		if err != nil || gone {
			return gone, err
		}
		s.mu.Lock()
		s.seen = time.Now()
		var due []*ua.NotificationMessage
		switch {
		case m != nil:
			due, _ = s.sequence.Accept(m)
		case !hole:
			s.mu.Unlock()
			return false, nil // it was never sent
		default:
			s.lost = true
			due = s.sequence.Skip()
		}
		s.mu.Unlock()
		if m != nil {
			s.conn.count("republished", 1)
		} else {
			s.conn.count("lost_messages", 1)
		}
		s.forward(ctx, due)
	}
}
