package subscription

import "github.com/gopcua/opcua/ua"

// Sequence puts messages in order. Numbers start at 1 and begin again at 1 after the
// largest (Part 4, 7.25).
type Sequence struct {
	next uint32 // the number that is due
	held map[uint32]*ua.NotificationMessage
}

const maxHeld = 256 // messages that wait for one before them

// NewSequence expects the message after last.
func NewSequence(last uint32) *Sequence {
	return &Sequence{next: After(last), held: map[uint32]*ua.NotificationMessage{}}
}

// After is the number that follows n.
func After(n uint32) uint32 {
	if n == 1<<32-1 {
		return 1
	}
	return n + 1
}

// before reports whether a comes before b, on a circle.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// Next is the number that is due.
func (s *Sequence) Next() uint32 { return s.next }

// Accept takes a message and gives those that are due now, in order. stale reports
// that the message was taken before: it needs another acknowledgement, for the
// first one did not arrive.
func (s *Sequence) Accept(m *ua.NotificationMessage) (due []*ua.NotificationMessage, stale bool) {
	n := m.SequenceNumber
	switch {
	case before(n, s.next):
		return nil, true
	case n != s.next:
		if len(s.held) < maxHeld { // what does not fit is asked for again
			s.held[n] = m
		}
		return nil, false
	}
	due = append(due, m)
	s.next = After(n)
	return append(due, s.ready()...), false
}

func (s *Sequence) ready() (due []*ua.NotificationMessage) {
	for m := s.held[s.next]; m != nil; m = s.held[s.next] {
		delete(s.held, s.next)
		due = append(due, m)
		s.next = After(s.next)
	}
	return due
}

// Missing reports whether messages before upTo, which is known to be the next one
// the server will send, are not there; or, with upTo 0, whether any is held for one
// before it.
func (s *Sequence) Missing(upTo uint32) bool {
	if len(s.held) > 0 {
		return true
	}
	return upTo != 0 && before(s.next, upTo)
}

// Skip gives up the message that is due, and gives those that are due then.
func (s *Sequence) Skip() []*ua.NotificationMessage {
	s.next = After(s.next)
	return s.ready()
}
