package pace

import (
	"math"
	"time"
)

const (
	// firstWindow is how many packets leave before anything is known, and longWindow where
	// the round trip takes longTime: others that begin beside it are rarer there than it is long.
	firstWindow, longWindow = 16, 32
	longTime                = 200 * time.Millisecond
	// leastRate is how many packets leave in each round trip, whatever the model says.
	leastRate = 2.0
	// burst is how many packets may leave at once, and burstShare what share of a round
	// trip's: who is woken late must catch up, or the path stays empty.
	burst, burstShare = 8, 8
	// maxAckDelay is the longest that a Receiver keeps an acknowledgement.
	maxAckDelay = 25 * time.Millisecond
	// firstTimeout is for what was sent when no round trip was measured yet.
	firstTimeout = 3 * time.Second
	// mostPackets bounds what a Sender remembers.
	mostPackets = 1 << 15
	// keptPackets is for how many of them there is room when there are none.
	keptPackets = 1 << 8
	// mostRate bounds what a path without a bottleneck is taken for.
	mostRate = 1 << 30
)

// Range is packets First to Last, both among them.
type Range struct{ First, Last uint64 }

// packet is one that was sent.
type packet[T any] struct {
	item    T
	size    int
	sent    time.Time
	settled bool // acknowledged, lost, or in need of neither
	probe   bool // its loss says nothing about the path
	limited bool

	delivered   float64 // by the Sender, when it was sent
	deliveredAt time.Time
	firstSent   time.Time
}

// Sender is what one side knows of the packets that it has sent. T is what is in a
// packet, as far as its loss matters. It is not safe for use by several goroutines.
type Sender[T any] struct {
	m       model
	size    int
	cap     float64 // bytes per second; 0 is none
	guess   time.Duration
	packets []packet[T]
	first   uint64 // the number of packets[0]
	flight  int    // bytes

	delivered   float64
	deliveredAt time.Time
	firstSent   time.Time
	limited     uint64 // the number at which there was no more to send
	top         uint64 // the highest that has arrived
	roundEnd    uint64
	newest      time.Time // when the newest packet that has arrived was sent
	due         time.Time // when the next one may leave
	backoff     int       // timeouts in a row
	lastSent    time.Time
	heard       time.Time

	sent, lost uint64
}

// NewSender makes one for packets of at most size bytes, and of no more than so many
// bytes per second if most is not zero. guess is taken for the round-trip time until
// one is measured.
func NewSender[T any](size int, most float64, guess time.Duration) *Sender[T] {
	return &Sender[T]{size: size, cap: most, guess: max(guess, time.Millisecond)}
}

// SetSize changes the size of packets.
func (s *Sender[T]) SetSize(size int) { s.size = size }

// Next is the number of the next packet.
func (s *Sender[T]) Next() uint64 { return s.first + uint64(len(s.packets)) }

// Full reports that no packet may be sent because too many are remembered.
func (s *Sender[T]) Full() bool { return len(s.packets) >= mostPackets }

// Outstanding reports whether an acknowledgement is being waited for.
func (s *Sender[T]) Outstanding() bool { return s.flight > 0 }

// Timeouts is how often in a row nothing came back in time.
func (s *Sender[T]) Timeouts() int { return s.backoff }

// RTT is the smoothed round-trip time; zero before the first.
func (s *Sender[T]) RTT() time.Duration { return s.m.srtt }

// Rate is the model's, in bytes per second.
func (s *Sender[T]) Rate() float64 { return s.rate() }

// Loss is the share of packets that chance takes.
func (s *Sender[T]) Loss() float64 { return s.m.loss }

// Counts gives how many packets were sent that ask for an acknowledgement, and how
// many of them were taken for lost.
func (s *Sender[T]) Counts() (sent, lost uint64) { return s.sent, s.lost }

func (s *Sender[T]) rtt() time.Duration {
	if s.m.srtt == 0 {
		return s.guess
	}
	return s.m.srtt
}

// start is how many packets leave in the first round trip.
func (s *Sender[T]) start() float64 {
	if s.rtt() >= longTime {
		return longWindow
	}
	return firstWindow
}

// rate is what the model believes in, before anything is measured the first window's.
func (s *Sender[T]) rate() float64 {
	r := s.m.rate()
	least := leastRate * float64(s.size) / s.rtt().Seconds()
	if s.m.phase == starting && s.sent < 2*uint64(s.start()) { // probes say nothing of the rate
		least *= s.start() / leastRate / startGain
	}
	r = min(max(r, least), mostRate)
	if s.cap > 0 {
		r = min(r, s.cap)
	}
	return r
}

func (s *Sender[T]) bdp() float64 {
	rtt := s.m.minRTT
	if rtt == 0 {
		rtt = s.guess
	}
	return s.rate() * rtt.Seconds()
}

// Wait gives how long it takes until a packet may leave, zero when one may now. ok is
// false when an acknowledgement must come first.
func (s *Sender[T]) Wait(now time.Time) (d time.Duration, ok bool) {
	if s.Full() || float64(s.flight+s.size) > s.m.window(now, s.bdp(), float64(s.size)) {
		return 0, false
	}
	return max(s.due.Sub(now), 0), true
}

// Limited says that a packet may leave and there is none: what arrives from now on
// says less about the path.
func (s *Sender[T]) Limited() { s.limited = s.Next() }

// Sent takes in a packet that asks for an acknowledgement. A probe is one whose loss
// says nothing.
func (s *Sender[T]) Sent(now time.Time, size int, item T, probe bool) {
	if s.flight == 0 {
		s.firstSent, s.deliveredAt = now, now
		if now.Sub(s.lastSent) > s.rtt() {
			s.heard = now
		}
	}
	if !probe {
		s.sent++
	}
	s.packets = append(s.packets, packet[T]{
		item: item, size: size, sent: now, probe: probe, limited: s.top < s.limited,
		delivered: s.delivered, deliveredAt: s.deliveredAt, firstSent: s.firstSent,
	})
	s.flight += size
	s.lastSent = now
	bdp := s.bdp()
	rate := s.rate() * s.m.gain(now, float64(s.flight), bdp, float64(s.size))
	if s.cap > 0 {
		rate = min(rate, s.cap)
	}
	// A Sender that was late may catch up a little.
	ahead := max(s.rtt()/burstShare, time.Duration(burst*float64(s.size)/rate*float64(time.Second)))
	if from := now.Add(-ahead); s.due.Before(from) {
		s.due = from
	}
	s.due = s.due.Add(time.Duration(float64(size) / rate * float64(time.Second)))
}

// Passed takes in a packet that asks for nothing.
func (s *Sender[T]) Passed() {
	s.packets = append(s.packets, packet[T]{settled: true})
	s.trim()
}

// Ack takes in what has arrived, and gives it and what was lost before it. Ranges begin with
// the highest numbers; delay is how long the peer has kept the acknowledgement of the
// first. It fails when something is acknowledged that was never sent.
func (s *Sender[T]) Ack(now time.Time, ranges []Range, delay time.Duration, arrived, lost func(T)) (ok bool) {
	if len(ranges) == 0 || ranges[0].Last >= s.Next() {
		return len(ranges) == 0
	}
	var top *packet[T]
	for _, r := range ranges {
		for n := r.Last + 1; n > max(r.First, s.first); {
			n--
			p := &s.packets[n-s.first]
			if p.settled {
				continue
			}
			p.settled = true
			s.flight -= p.size
			s.delivered += float64(p.size)
			if !p.probe {
				s.m.roundSent++
			}
			arrived(p.item)
			if top == nil {
				top = p
				s.top = max(s.top, n)
				if n == ranges[0].Last {
					s.m.measured(max(now.Sub(p.sent)-min(delay, maxAckDelay), time.Microsecond), now)
				}
				if n >= s.roundEnd {
					s.roundEnd = s.Next()
					s.m.turn(now, float64(s.size))
				}
			}
		}
	}
	if top == nil {
		return true
	}
	s.heard, s.backoff = now, 0
	s.deliveredAt = now
	if top.sent.After(s.newest) {
		s.newest = top.sent
	}
	s.firstSent = top.sent
	took := max(now.Sub(top.deliveredAt), top.sent.Sub(top.firstSent))
	if took > 0 && took >= s.m.minRTT*9/10 {
		s.m.sampled((s.delivered-top.delivered)/took.Seconds(), top.limited)
	}
	s.overtaken(now, lost)
	s.trim()
	return true
}

// tolerance is how much later than a newer one a packet may come.
func (s *Sender[T]) tolerance() time.Duration {
	return max(s.rtt()/4, 5*time.Millisecond)
}

// overtaken finds packets that must have been lost: newer ones are there, and they
// are not, for longer than packets overtake one another.
func (s *Sender[T]) overtaken(now time.Time, lost func(T)) {
	limit := now.Add(-s.rtt() - s.tolerance())
	for i := range s.packets {
		p := &s.packets[i]
		if !p.settled && !p.sent.After(limit) && p.sent.Before(s.newest) {
			s.lose(p, lost)
		} else if p.sent.After(limit) {
			break
		}
	}
}

func (s *Sender[T]) lose(p *packet[T], lost func(T)) {
	p.settled = true
	s.flight -= p.size
	if !p.probe {
		s.lost++
		s.m.roundSent++
		s.m.roundLost++
	}
	lost(p.item)
}

func (s *Sender[T]) trim() {
	n := 0
	for n < len(s.packets) && s.packets[n].settled {
		n++
	}
	s.first += uint64(n)
	s.packets = s.packets[n:]
	if len(s.packets) == 0 && cap(s.packets) > keptPackets {
		s.packets = nil // whoever is idle holds nothing
	}
}

// Deadline is when Expire must be called; zero means that nothing is outstanding.
func (s *Sender[T]) Deadline() time.Time {
	if s.flight == 0 {
		return time.Time{}
	}
	for i := range s.packets {
		p := &s.packets[i]
		if p.settled {
			continue
		}
		if p.sent.Before(s.newest) {
			return p.sent.Add(s.rtt() + s.tolerance())
		}
		break
	}
	return s.timeout()
}

func (s *Sender[T]) timeout() time.Time {
	wait := s.rtt() + max(4*s.m.rttVar, 10*time.Millisecond) + maxAckDelay
	if s.m.srtt == 0 {
		wait = max(wait, firstTimeout)
	}
	wait = time.Duration(float64(wait) * math.Pow(1.5, float64(min(s.backoff, 8))))
	from := s.lastSent
	if s.heard.After(from) {
		from = s.heard
	}
	return from.Add(wait)
}

// Expire gives what is known to be lost by now. After silence that is all there is.
func (s *Sender[T]) Expire(now time.Time, lost func(T)) {
	s.overtaken(now, lost)
	if s.flight > 0 && !now.Before(s.timeout()) {
		s.heard = now
		if s.Abandon(lost) {
			s.backoff++
			s.m.restart()
		}
	}
	s.trim()
}

// Abandon takes all that is outstanding for lost, without a lesson for the model. It
// reports whether that was more than probes.
func (s *Sender[T]) Abandon(lost func(T)) (some bool) {
	for i := range s.packets {
		if p := &s.packets[i]; !p.settled {
			p.settled = true
			s.flight -= p.size
			some = some || !p.probe
			lost(p.item)
		}
	}
	s.trim()
	return some
}
