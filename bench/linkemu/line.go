package main

import (
	"math/rand/v2"
	"time"
)

// verdict is what becomes of a packet that enters the line.
type verdict int

const (
	deliver     verdict = iota
	deliverLate         // overtaken by those behind it
	dropQueue           // the queue was full
	dropLoss            // lost on the way
	dropCut             // outage, or UDP where UDP is blocked
)

// line is one direction of the link without its devices: settings and the
// state of queue and chance. It decides; it neither reads clocks nor writes.
type line struct {
	settings
	rng      *rand.Rand
	bad      bool      // state of the Gilbert-Elliott chain
	free     time.Time // when the line has sent what is queued
	last     time.Time // delivery of the last packet in order
	lastLate time.Time // delivery of the last late packet
}

func newLine(s settings, seed uint64) *line {
	return &line{settings: s, rng: rand.New(rand.NewPCG(seed, 0))}
}

// admit decides about a packet of size bytes that arrives now, and when it is
// delivered. A packet that is lost has used up the line all the same, as on a
// radio link.
func (l *line) admit(now time.Time, size int, udp bool) (time.Time, verdict) {
	if l.outage || l.udpBlock && udp {
		return time.Time{}, dropCut
	}
	sent := now
	if l.rate > 0 {
		if backlog := l.free.Sub(now); backlog > 0 {
			if backlog.Seconds()*l.rate+float64(size) > float64(l.queue) {
				return time.Time{}, dropQueue
			}
			sent = l.free
		}
		sent = sent.Add(time.Duration(float64(size) / l.rate * float64(time.Second)))
		l.free = sent
	}
	if l.lose() {
		return time.Time{}, dropLoss
	}
	at := sent.Add(l.delay)
	if l.jitter > 0 {
		at = at.Add(time.Duration(l.rng.Int64N(int64(l.jitter))))
	}
	if l.reorder > 0 && l.rng.Float64() < l.reorder {
		l.lastLate = later(at.Add(l.reorderDelay), l.lastLate)
		return l.lastLate, deliverLate
	}
	l.last = later(at, l.last)
	return l.last, deliver
}

// lose draws both kinds of loss for one packet.
func (l *line) lose() bool {
	lost := l.loss > 0 && l.rng.Float64() < l.loss
	if l.geP == 0 {
		l.bad = false
		return lost
	}
	turn := l.geP
	if l.bad {
		turn = l.geR
	}
	if l.rng.Float64() < turn {
		l.bad = !l.bad
	}
	return l.bad && l.rng.Float64() < l.geLoss || lost
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
