package tunnel

import (
	"errors"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// watch finds out when a carrier is dead, and returns when it has been given up.
// An edge looks for another carrier as soon as it has doubts, and keeps the old
// one until then: it may only have been slow.
func (s *Session) watch(c *carrier) {
	l := newLiveness(s.edge, time.Now(), c.conn.Stats().Received)
	timer := time.NewTimer(idlePoll)
	defer timer.Stop()
	doubt := false
	for {
		o := s.observe(c)
		v := l.step(time.Now(), o)
		c.asking.Store(l.asking)
		s.locate(c)
		if v.doubt != doubt {
			if doubt = v.doubt; doubt {
				s.log.Debug("no answer; looking for another carrier", "silent", v.silent, "rtt", o.rtt)
				s.replace()
			} else {
				s.keep()
			}
		}
		switch {
		case v.dead:
			s.log.Info("path is dead", "silent", v.silent, "rtt", o.rtt)
			s.lost(c, fmt.Sprintf("nothing received for %s", v.silent.Round(time.Millisecond)))
			return
		case c.expired():
			// The edge may have a newer certificate, which it shows when it dials again.
			s.log.Info("the edge's certificate has expired", "not_after", c.expires)
			s.lost(c, "the certificate of its handshake has expired")
			return
		case v.heartbeat:
			_ = c.conn.Ping() // fails when the carrier has ended, which is noticed below
		case !l.asking && s.written.Load():
			continue // written between observe and Store, when nobody had to ring
		}
		timer.Reset(c.within(v.next))
		select {
		case <-c.conn.Done():
			s.ended(c)
			return
		case <-c.gone:
			return
		case <-c.asked:
		case <-timer.C:
		}
	}
}

// expired reports that the certificate of the carrier's handshake is past its end.
func (c *carrier) expired() bool { return !c.expires.IsZero() && time.Now().After(c.expires) }

// within shortens a wait so that it does not outlast the certificate.
func (c *carrier) within(d time.Duration) time.Duration {
	if c.expires.IsZero() {
		return d
	}
	return min(d, max(0, time.Until(c.expires))+time.Millisecond)
}

// locate counts the changes of an edge's address.
func (s *Session) locate(c *carrier) {
	if s.edge {
		return
	}
	now, last := c.conn.RemoteAddr(), c.peer.Load()
	if now != *last && c.peer.CompareAndSwap(last, &now) {
		s.migrations.Add(1)
	}
}

func (s *Session) observe(c *carrier) observation {
	stats := c.conn.Stats()
	return observation{
		received: stats.Received,
		wrote:    s.written.Swap(false),
		rtt:      stats.RTT,
		busy:     s.peerOpened.Load() > 0 || s.blocked.Load() > 0,
		quiet:    time.Since(s.since) - time.Duration(s.lastMoved.Load()),
	}
}

// ended is called when a carrier has ended by itself, and says whether the
// session ends with it: only when a side wanted that.
func (s *Session) ended(c *carrier) {
	if closed(c.gone) {
		return
	}
	err := c.conn.Err()
	var e *link.ConnError
	if errors.As(err, &e) && e.Remote && e.Application && e.Code != wire.CodeNextCarrier {
		s.end(newSessionError(e))
		return
	}
	s.log.Info("carrier ended", "err", err)
	s.lost(c, "the carrier ended")
}

// lost gives a carrier up; an edge looks for another, unless it has one: that the
// cloud uses the next one can be heard here before it is heard there.
func (s *Session) lost(c *carrier, text string) {
	if s.detach(c, wire.CodeNextCarrier, text) && s.ascending.Load() == 0 {
		s.replace()
	}
}
