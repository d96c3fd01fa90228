package tunnel

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// retryPause is the mean time between attempts to replace a carrier that failed
	// at once.
	retryPause = time.Second
	// maxPreview is how many bytes of streams go with Hello: they should fit into the
	// first flight.
	maxPreview = 8 << 10
)

// replace looks for another carrier, if nobody does already; only an edge can.
func (s *Session) replace() {
	if !s.edge {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialing != nil || s.ending {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.dialing = cancel
	s.wg.Go(func() {
		s.redial(ctx)
		cancel()
		s.mu.Lock()
		s.dialing = nil
		s.mu.Unlock()
		if s.current.Load() == nil {
			s.replace() // it was lost just when the search was called off
		}
	})
}

// keep calls the search off: the carrier there is has answered.
func (s *Session) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialing != nil && s.state.ok {
		s.dialing()
	}
}

// redial dials until a carrier is there, ctx ends, or the session does.
func (s *Session) redial(ctx context.Context) {
	for ctx.Err() == nil {
		switch ok, _ := s.Attached(); {
		case s.expired():
			s.end(&SessionError{Code: wire.CodeOffline, Text: "no carrier for " + s.grace.String()})
			return
		case !ok && s.overdue():
			s.end(&SessionError{Code: wire.CodeGoingAway, Text: "the proxy has gone"})
			return
		}
		err := s.again(ctx, anyRank)
		if err == nil {
			return
		}
		if e, ok := errors.AsType[*SessionError](err); ok && e.final() {
			s.end(e)
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Debug("no other carrier", "err", err)
		if _, later := refusal(err); later {
			continue // the one that was taken has not made it
		}
		select {
		case <-time.After(retryPause/2 + rand.N(retryPause)):
		case <-s.nudge:
		case <-ctx.Done():
		}
	}
}

// expired reports that the session was without a carrier for all of its grace.
func (s *Session) expired() bool {
	ok, since := s.Attached()
	return !ok && time.Since(since) >= s.grace
}

// again dials one carrier of a rank below limit and moves the session over to it.
func (s *Session) again(ctx context.Context, limit rank) error {
	wait := dialTimeout // then names are resolved again
	if ok, since := s.Attached(); !ok {
		wait = min(wait, s.grace-time.Since(since))
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	hello := s.hello
	hello.Session = s.id
	c, g, err := s.dial(ctx, hello, limit)
	if err != nil {
		return err
	}
	s.attach.Lock()
	defer s.attach.Unlock()
	old := s.current.Load()
	if old != nil && c.seq < old.seq { // the cloud has given it up already
		c.drop(wire.CodeNextCarrier, "a later carrier is here already")
		return nil
	}
	s.detach(old, wire.CodeNextCarrier, "another carrier took over")
	if !s.use(c, g.resume) {
		c.drop(wire.CodeGoingAway, "the session has ended")
		return errSessionEnded
	}
	s.log.Info("session goes on", "link", c.conn.Kind(), "device", c.way, "remote", c.conn.RemoteAddr().String(), "carrier", c.seq)
	return nil
}

// searching is since when there is no carrier, or now while there is one.
func (s *Session) searching() time.Time {
	if ok, since := s.Attached(); !ok {
		return since
	}
	return time.Now()
}

// preview appends the first bytes that streams wait to send, what people type
// before what machines say. They go with Hello, and so arrive a round trip before
// it is known what the peer has; if it has them they are a little too much.
func (s *Session) preview(b []byte) []byte {
	streams := s.living()
	slices.SortFunc(streams, func(a, b *Stream) int {
		return cmp.Or(cmp.Compare(urgency(a.kind), urgency(b.kind)), cmp.Compare(a.id, b.id))
	})
	end := len(b) + maxPreview
	for _, st := range streams {
		if len(b) >= end {
			break
		}
		b = st.preview(b, end-len(b))
	}
	return b
}

// positions is what this side has of all streams, for a Resume.
func (s *Session) positions() *wire.Resume {
	streams := s.living()
	r := &wire.Resume{Streams: make([]wire.StreamAck, 0, len(streams))}
	for _, st := range streams {
		r.Streams = append(r.Streams, st.position())
	}
	return r
}
