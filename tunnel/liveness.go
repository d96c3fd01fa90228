package tunnel

import "time"

const (
	// idleAsk is how long an edge lets the line be silent before it asks. It is
	// one second more than the carrier's keepalive, whose answer usually comes
	// first, and less than the 30 s after which NATs forget.
	idleAsk = 21 * time.Second
	// busyAsk is the same while the cloud waits for an answer of this edge.
	busyAsk = time.Second
	// cloudSilence is when the cloud gives an edge up: two keepalives lost, and
	// time for the third.
	cloudSilence = 45 * time.Second
	// idlePoll is how often the counters are read when nothing is asked. It is
	// also the error of every time that is not the start of an asking.
	idlePoll = 5 * time.Second
)

// doubtAfter is how long an edge waits for any sign of life once it has asked,
// before it looks for another carrier beside the one it has.
func doubtAfter(rtt time.Duration) time.Duration {
	return max(1500*time.Millisecond, 4*rtt+500*time.Millisecond)
}

// deadAfter is how long it waits before it gives the carrier up. A path that works
// should hardly ever be given up: in bulk, with the congestion window full, no
// heartbeat leaves, and only quic-go's repeats, each after twice the time of the
// one before, can prove it alive. Nobody waits for this verdict: the search for
// another carrier has begun long before.
func deadAfter(rtt time.Duration) time.Duration {
	return 2*doubtAfter(rtt) + 2*rtt
}

// observation is what step needs to know about the session at this moment.
type observation struct {
	received uint64        // packets so far
	wrote    bool          // something was written since the last step
	rtt      time.Duration // smoothed
	busy     bool          // the peer waits for an answer in some stream
	quiet    time.Duration // since bytes last moved in a stream
}

// verdict is what the session must do.
type verdict struct {
	doubt     bool // look for another carrier
	dead      bool
	silent    time.Duration // how long nothing came, when dead
	heartbeat bool          // send one
	next      time.Duration // call step again after this, or when something is written
}

// liveness decides whether the path still works. It is pure: time and counters
// in, a verdict out.
//
// The edge's rule: what was written must be acknowledged, so from the first
// write on something must come back. Silence for doubtAfter is a reason to look
// elsewhere, for deadAfter it is death. From a third of the first on heartbeats go out, twenty until then, so that lost packets
// are not taken for it: bursts of loss are counted in packets on some links, and
// quic-go's own repeats are but four in that time.
//
// What comes back in less than a round trip after the last write may have been
// on its way when the path broke, and proves nothing. The counters are therefore
// read once just before the answer is due, and what is new after that counts.
//
// The cloud can't dial an edge, so it only waits, and longer.
type liveness struct {
	asks bool // the edge's rule, else the cloud's

	received uint64
	heard    time.Time // last step that saw something new
	polled   time.Time // last step

	asking bool
	asked  time.Time // since when something must come
	wrote  time.Time // last write of this asking; zero when it is a heartbeat alone
}

func newLiveness(asks bool, now time.Time, received uint64) *liveness {
	return &liveness{asks: asks, received: received, heard: now, polled: now}
}

func (l *liveness) step(now time.Time, o observation) verdict {
	defer func() { l.polled = now }()
	if o.received != l.received {
		l.received, l.heard = o.received, now
		if l.asking {
			l.asked = now
			l.asking = !l.wrote.IsZero() && l.polled.Before(l.due(o.rtt))
		}
	}
	if !l.asks {
		left := cloudSilence - now.Sub(l.heard)
		return verdict{dead: left <= 0, silent: now.Sub(l.heard), next: min(left, idlePoll)}
	}
	if o.wrote {
		if !l.asking {
			l.asking, l.asked = true, now
		}
		l.wrote = now
	}
	var beat bool
	if patience := askAfter(o); !l.asking {
		left := patience - now.Sub(l.heard)
		if left > 0 {
			return verdict{next: min(left, idlePoll)}
		}
		l.asking, l.asked, l.wrote = true, now, time.Time{}
		beat = true
	}
	limit, silent := doubtAfter(o.rtt), now.Sub(l.asked)
	end := deadAfter(o.rtt)
	if silent >= end {
		return verdict{dead: true, doubt: true, silent: now.Sub(l.heard)}
	}
	next := limit / 16
	if silent >= limit/3 {
		next = limit / 32
		beat = true
	}
	doubt := silent >= limit
	if doubt {
		next = min(next, end-silent)
	} else {
		next = min(next, limit-silent)
	}
	if due := l.due(o.rtt).Sub(now); !l.wrote.IsZero() && due > 0 {
		next = min(next, due)
	}
	return verdict{heartbeat: beat, doubt: doubt, silent: now.Sub(l.heard), next: next}
}

// due is just before the answer to the last write can be here.
func (l *liveness) due(rtt time.Duration) time.Time { return l.wrote.Add(rtt * 9 / 10) }

// askAfter is how much silence makes an edge ask. While the cloud waits for an
// answer of this edge only the edge can find out that the cloud can't reach it,
// so it asks each second; and less and less often when nothing is said in those
// streams, so that a forgotten terminal costs what an idle edge costs.
func askAfter(o observation) time.Duration {
	if !o.busy {
		return idleAsk
	}
	return min(max(o.quiet/8, busyAsk), idleAsk)
}
