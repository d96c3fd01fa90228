package pace

import (
	"math"
	"testing"
	"time"
)

// cubic is a TCP flow (RFC 9438) with endless work: window, slow start, the cubic
// function and its Reno-friendly region. A packet that the queue drops is known one
// round trip later, as by SACK, and lowers the window once in a round trip.
type cubic struct {
	s               *simulation
	window, most    float64 // packets
	threshold, reno float64
	epoch, lowered  time.Duration
	inflight, got   int
}

func (s *simulation) cubic() *cubic {
	c := &cubic{s: s, window: 10, threshold: math.Inf(1), lowered: -time.Hour}
	s.at(s.now, c.fill)
	return c
}

func (c *cubic) fill() {
	for float64(c.inflight) < c.window {
		c.inflight++
		sent, drops := c.s.now, c.s.drops
		c.s.send(1452, func() {
			c.got += 1400
			c.s.deliver(1, c.s.now, func() { c.acked(sent) })
		})
		if c.s.drops > drops {
			c.s.at(c.s.now+c.s.rtt+max(c.s.free-c.s.now, 0), c.lost)
		}
	}
}

func (c *cubic) acked(sent time.Duration) {
	const scale, beta = 0.4, 0.7
	c.inflight--
	rtt := c.s.now - sent
	if c.window < c.threshold {
		c.window++
	} else {
		k := math.Cbrt(c.most * (1 - beta) / scale)
		t := (c.s.now - c.epoch + rtt).Seconds()
		target := min(max(scale*(t-k)*(t-k)*(t-k)+c.most, c.window), 1.5*c.window)
		c.reno += 3 * (1 - beta) / (1 + beta) / c.window
		c.window = max(c.window+(target-c.window)/c.window, c.reno)
	}
	c.fill()
}

func (c *cubic) lost() {
	const beta = 0.7
	c.inflight--
	if c.s.now-c.lowered > c.s.rtt+max(c.s.free-c.s.now, 0) {
		c.lowered, c.epoch = c.s.now, c.s.now
		c.most = c.window
		c.window = max(c.window*beta, 2)
		c.threshold, c.reno = c.window, c.window
	}
	c.fill()
}

// A flow beside one of TCP leaves it a quarter of the link, and gets one.
func TestBesideTCP(t *testing.T) {
	for _, bdps := range []float64{0.5, 2} {
		p := path{rtt: 60 * time.Millisecond, mbit: 20, queue: bdps * 150e3}
		for _, first := range []string{"TCP", "packets", "both"} {
			s := simulate(p, 1)
			var ours *flow
			var theirs *cubic
			if first != "packets" {
				theirs = s.cubic()
			}
			if first != "TCP" {
				ours = s.flow()
			}
			s.run(5 * time.Second)
			if ours == nil {
				ours = s.flow()
			}
			if theirs == nil {
				theirs = s.cubic()
			}
			s.run(15 * time.Second)
			ours.got, theirs.got, s.delays = 0, 0, nil
			s.run(75 * time.Second)
			a, b := s.share(ours.got, time.Minute), s.share(theirs.got, time.Minute)
			t.Logf("queue %.1f BDP, %s first: packets %.0f %%, TCP %.0f %%", bdps, first, 100*a, 100*b)
			if min(a, b) < 0.25 {
				t.Errorf("queue %.1f BDP, %s first: packets %.0f %%, TCP %.0f %%, want a quarter each at least", bdps, first, 100*a, 100*b)
			}
		}
		// By itself the model of TCP fills the link.
		s := simulate(p, 1)
		c := s.cubic()
		s.run(30 * time.Second)
		if a := s.share(c.got, s.now); a < 0.8 {
			t.Errorf("queue %.1f BDP: TCP alone has %.0f %%", bdps, 100*a)
		}
	}
}
