package tunnel

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// firstClimb and lastClimb are the waits between looks for a better carrier than
	// the session has. The first is short: TCP may have won by a lost packet.
	firstClimb, lastClimb = 4 * time.Second, 2 * time.Minute
	// climbTimeout bounds one look.
	climbTimeout = 6 * time.Second
	// minProofs and maxProofs are how often a better carrier must have been possible,
	// in a row and each proofPause if that does, before the session moves to one.
	minProofs, maxProofs = 2, 8
	proofPause           = 4 * time.Second
	// relapse is how long the session must have stayed with better carriers for their
	// way to be trusted as at first. When it fails sooner, it must be good for twice
	// as long as the last time, and at most for as long as this.
	relapse = 10 * time.Minute
)

// trust is what a session remembers of its carriers' ranks.
type trust struct {
	rank    rank          // of the newest carrier
	climbed time.Time     // when the session last moved to a better one
	hold    time.Duration // how long a better one must be possible
}

// took takes in the rank of the next carrier. It gives how long a better one must be
// possible before the session moves on.
func (t *trust) took(r rank, now time.Time) (hold time.Duration) {
	switch {
	case r < t.rank:
		t.climbed = now
	case t.hold == 0, r > t.rank && now.Sub(t.climbed) > relapse:
		t.hold = firstClimb
	case r > t.rank:
		t.hold = min(2*t.hold, relapse)
	}
	t.rank = r
	return t.hold
}

// settle begins to look for better carriers than c, if there are any.
func (s *Session) settle(c *carrier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hold := s.trust.took(c.rank, time.Now())
	if c.rank > 0 && !s.ending {
		s.wg.Go(func() { s.climb(c, hold) })
	}
}

// climb looks for a better carrier while the session has c: a way back to QUIC, and
// to the way that the routing table takes. The session has both until the better
// one can be used, so no stream notices.
func (s *Session) climb(c *carrier, hold time.Duration) {
	for wait := min(hold, lastClimb); ; wait = min(2*wait, lastClimb) {
		if !s.rest(c, wait*3/4+rand.N(wait/2)) {
			return
		}
		err := s.ascend(c, hold)
		if err == nil || closed(c.gone) {
			return
		}
		s.log.Debug("no better carrier", "err", err)
	}
}

// ascend moves to a better carrier when one has been possible for as long as hold.
func (s *Session) ascend(c *carrier, hold time.Duration) error {
	proofs := min(max(hold/proofPause, minProofs), maxProofs)
	pause := hold / proofs
	for range proofs {
		ctx, cancel := context.WithTimeout(c.ctx, climbTimeout)
		err := s.probe(ctx, c.rank)
		cancel()
		if err != nil {
			return err
		}
		select {
		case <-time.After(pause*3/4 + rand.N(pause/2)):
		case <-c.gone:
			return errSessionEnded
		}
	}
	// The cloud ends c when it has the next one, perhaps before this side has it.
	s.ascending.Add(1)
	ctx, cancel := context.WithTimeout(s.ctx, climbTimeout)
	err := s.again(ctx, c.rank)
	cancel()
	s.ascending.Add(-1)
	if s.current.Load() == nil {
		s.replace()
	}
	if err == nil {
		s.keep()
	}
	return err
}

// rest waits, at most firstClimb once the network has changed. It reports whether
// c is still there.
func (s *Session) rest(c *carrier, wait time.Duration) bool {
	end := time.Now().Add(wait)
	for {
		timer := time.NewTimer(time.Until(end))
		select {
		case <-timer.C:
			return true
		case <-c.moved:
			timer.Stop()
			if soon := time.Now().Add(firstClimb); soon.Before(end) {
				end = soon
			}
		case <-c.gone:
			timer.Stop()
			return false
		}
	}
}
