package link

import (
	"slices"
	"time"
)

// pingTimes are how long the last answers took. The least of them counts: a
// single one may have waited behind bulk, or for the end of an outage.
type pingTimes struct {
	since time.Time // the oldest ping without an answer; zero when there is none
	took  []time.Duration
}

func (p *pingTimes) asked(now time.Time) {
	if p.since.IsZero() {
		p.since = now
	}
}

func (p *pingTimes) answered(now time.Time) {
	if p.since.IsZero() {
		return // the answer to two came with the first
	}
	p.add(now.Sub(p.since))
	p.since = time.Time{}
}

func (p *pingTimes) add(took time.Duration) {
	const most = 4
	if len(p.took) == most {
		p.took = slices.Delete(p.took, 0, 1)
	}
	p.took = append(p.took, took)
}

// rtt is zero before the first answer.
func (p *pingTimes) rtt() time.Duration {
	if len(p.took) == 0 {
		return 0
	}
	return slices.Min(p.took)
}
