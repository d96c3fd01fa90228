package bus

import (
	"slices"
	"time"
)

// expire gives up what is overdue. An error means that the connection is dead.
func (s *session) expire(now time.Time) error {
	if len(s.inFlight) == 0 {
		return nil
	}
	if s.broken() && now.Sub(s.heard) >= s.gap() {
		s.damaged(now)
		return nil
	}
	depth := len(s.inFlight)
	for i := 0; i < len(s.inFlight); {
		c := s.inFlight[i]
		if now.Before(c.expires) {
			i++
			continue
		}
		s.remove(i)
		s.timeout(now, c, depth)
	}
	if s.silences >= 2 && s.allSilent() {
		return errSilent
	}
	return nil
}

// broken reports whether a serial line has carried a part of the awaited answer, or
// as many bytes as it has: once the line is silent nothing better will come.
func (s *session) broken() bool {
	return s.gap() > 0 && len(s.inFlight) > 0 &&
		(s.untagged.reader.Pending() > 0 || s.untagged.bytes >= s.inFlight[0].Request.MaxAnswer()+3)
}

// allSilent reports whether no unit is left that answered its last call: those
// prove that the connection is alive, or soon will.
func (s *session) allSilent() bool {
	for _, u := range s.order {
		if u.fails == 0 {
			return false
		}
	}
	return true
}

// timeout ends a call that got no answer.
func (s *session) timeout(now time.Time, c *call, depth int) {
	u := s.units[c.Unit]
	s.count.timeouts.Add(1)
	s.lose(c)
	u.wasted(now, now.Sub(c.sent), c.Timeout, s.shared(now, u), ErrTimeout)
	s.window.failed(now, depth)
	if c.sent.After(s.counted) { // not sent beside one that is counted
		s.silences++
		s.counted = now
	}
	s.untagged.reader.Reset()
	c.end(nil, 0, ErrTimeout)
	s.refuse(now, u)
}

// damaged ends the call whose answer broke off. Once, the bus asks again by itself.
func (s *session) damaged(now time.Time) {
	c := s.inFlight[0]
	u := s.units[c.Unit]
	s.count.damaged.Add(1)
	s.remove(0)
	s.lose(c)
	s.untagged.reader.Reset()
	u.wasted(now, now.Sub(c.sent), c.Timeout, s.shared(now, u), ErrDamaged)
	if c.fenced != nil {
		c = c.fenced
	}
	if c.tries++; c.tries < 2 && !u.demoted {
		u.queue[c.Priority] = slices.Insert(u.queue[c.Priority], 0, c)
		return
	}
	c.end(nil, 0, ErrDamaged)
	s.refuse(now, u)
}

// lose remembers that the answer to c may still come.
func (s *session) lose(c *call) {
	if s.cfg.RTU {
		s.units[c.Unit].lost |= 1 << c.Request.Function()
		return
	}
	s.tagged.lost = append(s.tagged.lost, lostTag{c.tag, time.Now()})
}

// refuse ends the calls that wait for a unit that must not be tried now.
func (s *session) refuse(now time.Time, u *unit) {
	if !u.demoted || !now.Before(u.rest()) {
		return
	}
	err := &DemotedError{Unit: u.id, Until: u.rest(), Cause: u.cause}
	for p := range u.queue {
		for _, c := range u.queue[p] {
			c.end(nil, 0, err)
		}
		u.queue[p] = nil
	}
}
