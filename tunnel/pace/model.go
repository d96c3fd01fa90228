package pace

import "time"

const (
	// startGain doubles the rate in each round trip; drainGain takes away the queue that
	// it has left.
	startGain, drainGain = 2.5, 0.45
	// flood is how much a round of the start may lose. A start that ends so has filled the
	// queue, perhaps together with others that began beside it, and knows neither the path's
	// rate nor its time: it waits until the queue is empty, and starts once more with
	// secondGain, from secondShare of what it had come to.
	flood, secondGain, secondShare = 0.15, 1.5, 0.7
	// probeGain looks for more and restGain takes away what was too much; between them the
	// model is believed.
	// A look has some packets in each round trip besides, so that flows that share a path
	// come to the same rate.
	probeGain, restGain = 1.15, 0.8
	probeSteps          = 1.5
	// cycle is how many round trips lie between two looks.
	cycle = 8
	// growth is what a round of the start must bring, and patience how many may not, for
	// the path not to be full yet.
	growth, patience = 1.25, 3
	// rounds is how long the highest rate is remembered.
	rounds = 10
	// staleMin is after what time the shortest round-trip time must be found again, with
	// lowShare of the usual under way for lowTime. Flows that have not seen the queue empty
	// for as long as one another do it at the same time.
	staleMin, lowTime, lowShare = 5 * time.Second, 200 * time.Millisecond, 0.25
	// mostLoss is how much loss the rate makes up for.
	mostLoss = 0.2
)

type phase int

const (
	starting phase = iota
	draining
	cruising
)

// model is what is known of the path. Rates are in bytes per second.
type model struct {
	phase   phase
	second  bool            // the start is the second one, or has been
	flooded bool            // and begins when the queue is empty
	best    [rounds]float64 // the highest rate of each of the last rounds
	at      int             // of best, the present round
	round   uint64
	full    float64 // the rate that must be beaten
	stalled int     // rounds that did not
	limited bool    // there was less to send than might have been

	minRTT, srtt, rttVar time.Duration
	lastRTT, jitter      time.Duration // jitter is RFC 3550's, of round trips
	minAt                time.Time
	low                  time.Time     // until when little may be under way; zero when it needs not
	lowMin               time.Duration // the shortest round trip since it must

	step   int // of the cycle
	stepAt time.Time

	queue
}

func (m *model) measured(rtt time.Duration, now time.Time) {
	switch {
	case m.minRTT == 0, rtt <= m.minRTT:
		m.minRTT, m.minAt = rtt, now
	case rtt-m.minRTT < m.tolerable()/2 && m.all < suspect:
		m.minAt = now // as good as that
	}
	if m.lowMin == 0 || rtt < m.lowMin {
		m.lowMin = rtt
	}
	if m.srtt == 0 {
		m.srtt, m.rttVar = rtt, rtt/2
	} else {
		m.jitter += ((rtt - m.lastRTT).Abs() - m.jitter) / 16
		m.rttVar += ((m.srtt - rtt).Abs() - m.rttVar) / 4
		m.srtt += (rtt - m.srtt) / 8
	}
	m.lastRTT = rtt
	if m.roundMin == 0 || rtt < m.roundMin {
		m.roundMin = rtt
	}
	// A start that waits for the end of the round fills any queue.
	if m.roundTimes++; m.phase == starting && m.roundTimes >= enough && m.waiting() {
		m.phase = draining
	}
}

// sampled takes in a rate at which packets arrived. limited says that no more was
// there to be sent.
func (m *model) sampled(rate float64, limited bool) {
	m.best[m.at] = max(m.best[m.at], rate)
	m.limited = m.limited || limited
}

// arrives is the rate at which packets can arrive.
func (m *model) arrives() float64 {
	var most float64
	for _, r := range m.best {
		most = max(most, r)
	}
	return most
}

// rate is that at which they must be sent for it.
func (m *model) rate() float64 {
	r := m.arrives() / (1 - min(m.loss, mostLoss))
	if m.ceiling > 0 {
		r = min(r, m.ceiling)
	}
	return r
}

// restart begins anew: what is known of the path is of before it was silent.
func (m *model) restart() {
	m.phase, m.full, m.stalled, m.standing, m.queued, m.ceiling = starting, 0, 0, 0, false, 0
	m.begin()
}

// turn ends a round.
func (m *model) turn(now time.Time, size float64) {
	m.round++
	m.judge(size)
	m.regain(size)
	if m.phase == starting && !m.limited {
		if r := m.arrives(); r >= m.full*growth {
			m.full, m.stalled = r, 0
		} else if m.stalled++; m.stalled >= patience {
			m.phase = draining
		}
	}
	if m.roundSent >= few {
		m.begin()
	}
	m.limited = false
	m.at = int(m.round % rounds)
	m.best[m.at] = 0
	if m.phase != starting && now.Sub(m.minAt) > staleMin && m.low.IsZero() {
		m.low, m.lowMin = now.Add(max(lowTime, m.srtt)), 0
	}
}

// gain is by how much the present rate differs from the model's.
func (m *model) gain(now time.Time, inflight, bdp, size float64) float64 {
	switch m.phase {
	case starting:
		if m.second {
			return secondGain
		}
		return startGain
	case draining:
		if inflight > bdp {
			return drainGain
		}
		m.phase, m.step, m.stepAt = cruising, 2, now
		if m.flooded {
			m.low, m.lowMin = now.Add(max(lowTime, m.minRTT)), 0
		}
	case cruising:
	}
	if now.Sub(m.stepAt) > m.minRTT {
		m.step, m.stepAt = (m.step+1)%cycle, now
	}
	switch m.step {
	case 0:
		return probeGain + probeSteps*size/max(bdp, size)
	case 1:
		if inflight <= bdp { // the queue is gone already
			m.step, m.stepAt = 2, now
			return 1
		}
		return restGain
	}
	if m.queued && m.rival == 0 {
		return drawGain
	}
	return 1
}

// window is how many bytes may be under way.
func (m *model) window(now time.Time, bdp, size float64) float64 {
	const least = 4
	if !m.low.IsZero() {
		if now.Before(m.low) {
			return max(bdp*lowShare, least*size)
		}
		m.low = time.Time{}
		if m.lowMin > 0 {
			m.minRTT = m.lowMin
		}
		m.minAt = now
		if m.flooded {
			m.flooded = false
			m.restart()
			r := m.arrives() * secondShare
			m.best = [rounds]float64{}
			m.best[m.at] = r
		}
	}
	gain := 1.5
	if m.phase == starting {
		gain = startGain
	}
	// What was lost counts as under way until it is known, and acknowledgements come
	// in lumps.
	return gain*bdp + m.rate()*maxAckDelay.Seconds() + least*size
}
