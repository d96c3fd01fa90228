package tunnel

import (
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// throttle spaces what bulk streams write to lanes. pace does that for packets.
type throttle struct {
	rate int64 // bytes per second; 0 is no bound

	mu   sync.Mutex // guards the following field
	next time.Time  // when the line has sent what was let through
}

// reserve lets n bytes through, and gives how long to wait before they leave.
func (t *throttle) reserve(now time.Time, n int) time.Duration {
	if t.rate <= 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next.Before(now) {
		t.next = now
	}
	wait := t.next.Sub(now)
	t.next = t.next.Add(time.Duration(float64(n) / float64(t.rate) * float64(time.Second)))
	return wait
}

// spaced waits until a stream's n bytes may leave by c, where an operator has set a
// bound and the stream is bulk. It returns at once when c is given up.
func (st *Stream) spaced(c *carrier, n int) {
	if urgency(st.kind) <= urgency(wire.KindExec) {
		return
	}
	wait := st.s.throttle.reserve(time.Now(), n)
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.gone:
	}
}
