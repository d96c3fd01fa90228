package pace

import (
	"slices"
	"time"
)

const (
	// mostRanges bounds what is remembered of what has arrived, and is said of it each
	// time: enough for some acknowledgements in a row to be lost on a bad link.
	mostRanges = 32
	// ackAfter is how many packets may wait for their acknowledgement.
	ackAfter = 32
	minDelay = 4 * time.Millisecond
)

// Receiver is what one side knows of the packets that have come. It is not safe for
// use by several goroutines.
type Receiver struct {
	ranges []Range   // the highest numbers first
	topAt  time.Time // when the highest came
	waits  int       // that were not acknowledged
	since  time.Time // when the first of them came
}

// Got takes in a packet that asks for an acknowledgement.
func (r *Receiver) Got(now time.Time, n uint64) {
	if r.waits++; r.waits == 1 {
		r.since = now
	}
	if len(r.ranges) == 0 || n > r.ranges[0].Last {
		r.topAt = now
	}
	i := 0
	for i < len(r.ranges) && n < r.ranges[i].First {
		i++
	}
	// All before i lie above n.
	switch {
	case i < len(r.ranges) && n <= r.ranges[i].Last:
		return // a copy
	case i < len(r.ranges) && n == r.ranges[i].Last+1:
		r.ranges[i].Last = n
	case i > 0 && r.ranges[i-1].First == n+1:
		r.ranges[i-1].First = n
		return
	default:
		r.ranges = slices.Insert(r.ranges, i, Range{n, n})
	}
	if i > 0 && r.ranges[i-1].First == r.ranges[i].Last+1 {
		r.ranges[i-1].First = r.ranges[i].First
		r.ranges = slices.Delete(r.ranges, i, i+1)
	}
	if len(r.ranges) > mostRanges {
		r.ranges = r.ranges[:mostRanges]
	}
}

// Due is when an acknowledgement must leave; zero means that none must.
func (r *Receiver) Due(rtt time.Duration) time.Time {
	switch {
	case r.waits == 0:
		return time.Time{}
	case r.waits >= ackAfter:
		return r.since
	}
	return r.since.Add(min(max(rtt/8, minDelay), maxAckDelay))
}

// Ack gives what has arrived, and how long ago the highest number did. The ranges
// are valid until the next call.
func (r *Receiver) Ack(now time.Time) (ranges []Range, delay time.Duration) {
	r.waits = 0
	return r.ranges, max(now.Sub(r.topAt), 0)
}
