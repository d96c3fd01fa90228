package pace

import "time"

const (
	// startGain doubles the rate in each round trip; drainGain takes away the queue that
	// it has left.
	startGain, drainGain = 2.5, 0.45
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
	// half of the usual under way for lowTime.
	staleMin, lowTime = 10 * time.Second, 200 * time.Millisecond
	// mostLoss is how much loss the rate makes up for.
	mostLoss = 0.2
	// crowded is by how much the whole round must be longer than the shortest round trip
	// for its losses to be those of a queue, and backOff what the rate is cut to then.
	crowded, backOff = 1.25, 0.8
	// A queue is there when no packet of a round was faster than minRTT and a share of it,
	// or queueTime. drawGain takes it away. When it stays for stubborn rounds it is somebody
	// else's, who would take all.
	queueShare, queueTime = 12, 4 * time.Millisecond
	drawGain, stubborn    = 0.85, 8
	enough                = 6
	// congestive is what a crowded round must lose beyond what chance does.
	congestive = 0.02
	// tooMuch for long is not chance: whoever came when the queue was full takes it for the
	// path.
	tooMuch = 0.25
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
	best    [rounds]float64 // the highest rate of each of the last rounds
	at      int             // of best, the present round
	round   uint64
	full    float64 // the rate that must be beaten
	stalled int     // rounds that did not

	minRTT, srtt, rttVar time.Duration
	minAt                time.Time
	low                  time.Time // until when little may be under way; zero when it needs not

	ceiling float64 // for the rate, since a queue was full; 0 is none

	step   int // of the cycle
	stepAt time.Time

	loss                  float64       // share, as chance has it
	all                   float64       // share, whatever took it
	roundSent, roundLost  int           // of which it is known, that is
	roundMin              time.Duration // shortest of the round
	roundTimes            int
	queued                bool // nothing in the last round found the path empty
	standing              int  // rounds for which that has been so
	roundLimited, crowdAt bool
}

func (m *model) measured(rtt time.Duration, now time.Time) {
	if m.minRTT == 0 || rtt <= m.minRTT {
		m.minRTT, m.minAt = rtt, now
	}
	if m.srtt == 0 {
		m.srtt, m.rttVar = rtt, rtt/2
	} else {
		m.rttVar += ((m.srtt - rtt).Abs() - m.rttVar) / 4
		m.srtt += (rtt - m.srtt) / 8
	}
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
	m.roundLimited = m.roundLimited || limited
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
	m.phase, m.full, m.stalled, m.standing, m.queued = starting, 0, 0, 0, false
}

// turn ends a round.
func (m *model) turn(now time.Time, size float64) {
	m.round++
	m.judge()
	// What a full queue has taught is forgotten little by little.
	if m.ceiling > 0 && m.minRTT > 0 {
		if m.ceiling += size / m.minRTT.Seconds(); m.ceiling > 2*m.arrives() {
			m.ceiling = 0
		}
	}
	if m.phase == starting && !m.roundLimited {
		if r := m.arrives(); r >= m.full*growth {
			m.full, m.stalled = r, 0
		} else if m.stalled++; m.stalled >= patience {
			m.phase = draining
		}
	}
	m.roundSent, m.roundLost, m.roundMin, m.roundTimes, m.roundLimited = 0, 0, 0, 0, false
	m.at = int(m.round % rounds)
	m.best[m.at] = 0
	if m.phase != starting && now.Sub(m.minAt) > staleMin && m.low.IsZero() {
		m.low = now.Add(max(lowTime, m.srtt))
	}
}

// waiting reports that all packets of the round had to wait in a queue.
func (m *model) waiting() bool { return m.roundMin-m.minRTT > max(m.minRTT/queueShare, queueTime) }

// judge finds out what kind of loss the round's is.
func (m *model) judge() {
	if m.roundSent < 8 {
		return
	}
	lost := float64(m.roundLost) / float64(m.roundSent)
	if m.queued = m.waiting(); m.queued {
		m.standing++
	} else {
		m.standing = 0
	}
	m.all += (lost - m.all) * min(float64(m.roundSent)/400, 0.25)
	full := float64(m.roundMin) > crowded*float64(m.minRTT)+float64(2*time.Millisecond)
	switch {
	case full && lost > m.loss+congestive, m.all > tooMuch && lost > tooMuch:
		if m.phase == starting {
			m.phase = draining
		}
		if !m.crowdAt { // at most each second round
			m.ceiling = m.rate() * backOff
		}
		m.crowdAt = !m.crowdAt
	case !m.queued:
		m.loss += (lost - m.loss) * min(float64(m.roundSent)/400, 0.25)
		m.crowdAt = false
	}
}

// gain is by how much the present rate differs from the model's.
func (m *model) gain(now time.Time, inflight, bdp, size float64) float64 {
	switch m.phase {
	case starting:
		return startGain
	case draining:
		if inflight > bdp {
			return drainGain
		}
		m.phase, m.step, m.stepAt = cruising, 2, now
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
	if m.queued && m.standing <= stubborn {
		return drawGain
	}
	return 1
}

// window is how many bytes may be under way.
func (m *model) window(now time.Time, bdp, size float64) float64 {
	const least = 4
	if !m.low.IsZero() {
		if now.Before(m.low) {
			return max(bdp/2, least*size)
		}
		m.low = time.Time{}
		m.minRTT, m.minAt = max(m.roundMin, m.minRTT), now
	}
	gain := 1.5
	if m.phase == starting {
		gain = startGain
	}
	// What was lost counts as under way until it is known, and acknowledgements come
	// in lumps.
	return gain*bdp + m.rate()*maxAckDelay.Seconds() + least*size
}
