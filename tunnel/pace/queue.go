package pace

import "time"

const (
	// A queue is there when no packet of a round was faster than minRTT and a share of it,
	// or queueTime, or jitters times what round trips differ from one to the next.
	queueShare, queueTime, jitters = 12, 4 * time.Millisecond, 4
	// enough is how many round trips show it to a start, few how many packets to a round.
	enough, few = 6, 8
	// ownQueue is how many packets of its own a flow may have in the queue. All that share
	// it wait as long as one another, so those with the higher rates are the first to give way,
	// and they come to the same rate.
	ownQueue = 1.5
	// drawGain is for a round with a queue; from the one after patient of them on the rate
	// itself becomes giveWay of what it was.
	drawGain, patient, giveWay = 0.85, 3, 0.9
	// A queue that stays for stubborn rounds in spite of that is a rival's, who would take
	// all, and what was given is taken back. For so many rounds only losses count then, or until
	// so many in a row have found no queue.
	stubborn, rivalry, rivalGone = 8, 40, 10
	// crowded is by how much the whole round must be longer than the shortest round trip
	// for its losses to be those of a queue, and congestive what it must lose beyond what
	// chance does; backOff is what the rate is cut to then.
	crowded, congestive, backOff = 1.25, 0.02, 0.8
	// tooMuch for long is not chance: whoever came when the queue was full takes it for the
	// path. From suspect on a round trip that is as short as the shortest proves nothing.
	tooMuch, suspect = 0.18, 0.1
	// regained is by what share a rate that was cut grows in a round without a queue,
	// besides one packet for each round trip.
	regained = 1.03
	// lossWeight is of how many packets the loss is an average, mostWeight the most that
	// one round counts.
	lossWeight, mostWeight = 400, 0.25
)

// queue is what is known of the queue in the path, and of losses.
type queue struct {
	ceiling float64 // for the rate, since a queue was full; 0 is none

	loss, all            float64       // share of packets, as chance has it and whatever took them
	roundSent, roundLost int           // of which it is known, that is
	roundMin             time.Duration // shortest of the round
	roundTimes           int           // that were measured
	queued               bool          // all packets of the last round had to wait, also for our own
	standing             int           // rounds for which that has been so
	clear                int           // rounds for which there was no queue
	rival                int           // rounds for which somebody else's is expected
	cut                  bool          // the last crowded round has lowered the ceiling
}

// begin begins a round.
func (q *queue) begin() { q.roundSent, q.roundLost, q.roundMin, q.roundTimes = 0, 0, 0, 0 }

// tolerable is what a packet may wait where no queue is.
func (m *model) tolerable() time.Duration { return max(m.minRTT/queueShare, queueTime) }

// waiting reports that all packets of the round had to wait in a queue.
func (m *model) waiting() bool {
	return m.roundMin-m.minRTT > max(m.tolerable(), jitters*m.jitter)
}

// judge finds out what the round says of the queue, and what kind of loss its is. A round
// of few packets says nothing; the next one is added to it.
func (m *model) judge(size float64) {
	if m.roundSent < few {
		return
	}
	waiting := m.waiting()
	m.watch(waiting, size)
	lost := float64(m.roundLost) / float64(m.roundSent)
	weight := min(float64(m.roundSent)/lossWeight, mostWeight)
	m.all += (lost - m.all) * weight
	crowd := float64(m.roundMin) > crowded*float64(m.minRTT)+float64(2*time.Millisecond)
	switch {
	case m.phase == starting && !m.second && lost > flood && m.roundLost >= few:
		m.phase, m.second, m.flooded = draining, true, true
	case crowd && lost > m.loss+congestive, m.all > tooMuch && lost > tooMuch:
		if m.phase == starting {
			m.phase = draining
		}
		if m.cut = !m.cut; m.cut { // at most each second round
			m.ceiling = m.rate() * backOff
		}
	case m.phase == cruising && m.queued && m.standing > patient && m.rival == 0:
		m.ceiling = m.rate() * giveWay
	case !waiting:
		m.loss += (lost - m.loss) * weight
		m.cut = false
	}
}

// watch takes in whether the round had a queue.
func (m *model) watch(waiting bool, size float64) {
	own := m.arrives() * (m.roundMin - m.minRTT).Seconds() / size
	m.queued = waiting && own > ownQueue
	m.rival = max(m.rival-1, 0)
	switch {
	case m.queued:
		m.clear = 0
		if m.standing++; m.standing == stubborn+1 {
			m.ceiling, m.rival = 0, rivalry
		}
	case !waiting:
		m.standing = 0
		if m.clear++; m.clear > rivalGone {
			m.rival = 0
		}
	}
}

// regain raises the ceiling: what a full queue has taught is forgotten little by little.
func (m *model) regain(size float64) {
	if m.ceiling == 0 || m.minRTT == 0 {
		return
	}
	if !m.queued || m.rival > 0 {
		m.ceiling += size / m.minRTT.Seconds()
	}
	if !m.queued {
		m.ceiling *= regained
	}
	if m.ceiling > 2*m.arrives() {
		m.ceiling = 0
	}
}
