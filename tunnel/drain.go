package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// leaveTime is how long an edge with nothing that a person waits for gets to go
	// by itself: up to 2 s before it dials, and some round trips.
	leaveTime = 3 * time.Second
	// lateEnd is how much longer than it was told an edge waits for a proxy that is
	// not there any more.
	lateEnd = 5 * time.Second
)

// ErrGoingAway means that the session opens no more streams, because one side
// leaves; another session may.
var ErrGoingAway = errors.New("the session opens no more streams: one side leaves")

// departure is a session that is about to end because one side leaves.
type departure struct {
	told   chan struct{} // closed when the cloud has said so
	by     time.Time     // when the cloud ends it; zero until told
	text   string
	sealed bool          // opens no more streams
	fewer  chan struct{} // closed when a stream was forgotten; nil while nobody waits
}

// GoingAway is closed when the cloud's process is about to stop: the edge should
// dial another session and leave this one, which goes on for a while.
func (s *Session) GoingAway() <-chan struct{} { return s.leaving.told }

// Leave ends an edge's session for which there is another. What this side opened
// is reset with CodeGoingAway, for its owner to open again on the other session;
// what the cloud opened runs to its end. Then, or when ctx ends, or when the cloud
// has waited long enough, the session is closed.
func (s *Session) Leave(ctx context.Context) {
	s.mu.Lock()
	s.leaving.sealed = true
	streams := s.streams.all()
	s.mu.Unlock()
	for _, st := range streams {
		if !st.peer {
			st.moveOn()
		}
	}
	_ = s.without(ctx, func(*Stream) bool { return true })   // closed in any case
	_ = s.Close(wire.CodeOK, "the edge has another session") // never fails
}

// moveOn ends both directions for both sides.
func (st *Stream) moveOn() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return
	}
	err := &StreamError{Code: wire.CodeGoingAway}
	if st.send.err == nil {
		st.send.err = err
	}
	st.abortLocked(wire.CodeGoingAway)
	st.recv.ready = nil
	st.recv.finish(wire.CodeGoingAway, err)
	st.wakeLocked()
	st.s.tell(st)
	st.s.wrote()
}

// without waits until no stream matches. It fails when ctx or the session ends.
func (s *Session) without(ctx context.Context, match func(*Stream) bool) error {
	for {
		s.mu.Lock()
		left := false
		for _, st := range s.streams.streams {
			left = left || match(st)
		}
		if s.leaving.fewer == nil {
			s.leaving.fewer = make(chan struct{})
		}
		fewer := s.leaving.fewer
		s.mu.Unlock()
		if !left {
			return nil
		}
		select {
		case <-fewer:
		case <-s.done:
			return s.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fewerLocked wakes those who wait for the end of streams.
func (s *Session) fewerLocked() {
	if s.leaving.fewer != nil {
		close(s.leaving.fewer)
		s.leaving.fewer = nil
	}
}

// goAway tells the edge, on this carrier and each that comes, when the session
// ends. The cloud opens no more streams.
func (s *Session) goAway(by time.Time, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving.by, s.leaving.text, s.leaving.sealed = by, text, true
	s.sayLocked()
}

// mustWarnLocked reports whether GoAway must still be said on c.
func (s *Session) mustWarnLocked(c *carrier) bool {
	return !s.edge && !s.leaving.by.IsZero() && !c.warned
}

func (s *Session) goAwayLocked(b []byte) []byte {
	ms := max(time.Until(s.leaving.by).Milliseconds(), 0)
	return wire.Append(b, &wire.GoAway{Milliseconds: uint64(ms), Text: s.leaving.text})
}

// toldToGo takes in that the cloud leaves.
func (s *Session) toldToGo(f *wire.GoAway) {
	if !s.edge {
		return // only the cloud's word counts
	}
	within := time.Duration(min(f.Milliseconds, uint64(defaultGrace.Milliseconds()))) * time.Millisecond
	s.mu.Lock()
	s.leaving.by, s.leaving.text = time.Now().Add(within), f.Text
	first := !closed(s.leaving.told)
	if first {
		close(s.leaving.told)
	}
	s.mu.Unlock()
	if first {
		s.log.Info("the proxy goes away", "within", within, "text", f.Text)
	}
}

// overdue reports that the cloud has gone without the last word.
func (s *Session) overdue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.leaving.by.IsZero() && time.Since(s.leaving.by) > lateEnd
}

// personal reports that somebody may be looking at a stream. What the edge opens
// it opens again elsewhere.
func personal(st *Stream) bool { return !st.peer }

// Drain ends the listener in an orderly way. From now on new sessions are refused
// with CodeGoingAway, those that live are told to dial elsewhere and open no more
// streams here; they may still resume. It waits until the streams that this side
// opened have ended and edges had a moment to leave, for as long as within or
// until ctx ends, and then closes the listener and what is left.
func (l *Listener) Drain(ctx context.Context, within time.Duration) error {
	l.mu.Lock()
	l.draining = true
	sessions := make([]*Session, 0, len(l.sessions))
	for _, s := range l.sessions {
		sessions = append(sessions, s)
	}
	l.mu.Unlock()
	by := time.Now().Add(within)
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	leave, stop := context.WithTimeout(ctx, leaveTime)
	defer stop()
	var wg sync.WaitGroup
	for _, s := range sessions {
		s.goAway(by, "the proxy shuts down")
		wg.Go(func() {
			if s.without(ctx, personal) == nil {
				s.gone(leave)
			}
		})
	}
	wg.Wait()
	return l.Close()
}

// gone waits until the edge has left, or has no carrier by which to hear that it
// should.
func (s *Session) gone(ctx context.Context) {
	for {
		changed := s.Changed()
		if ok, _ := s.Attached(); !ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
