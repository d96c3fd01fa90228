package link

import (
	"math"
	"slices"
	"sync"
)

// firstUrgency is the urgency of what can't wait: a carrier's own frames.
const firstUrgency = math.MinInt8

// turn is a lock whose next holder is the most urgent of those who wait; among
// equals it is the one that waits longest, so they take turns.
type turn struct {
	mu    sync.Mutex // guards the following fields
	held  bool
	queue []*waiter // in the order in which they will hold it
}

// waiter is one who waits, again and again but once at a time.
type waiter struct {
	urgency int8
	ready   chan struct{} // has room for one
}

func newWaiter(urgency int8) *waiter {
	return &waiter{urgency: urgency, ready: make(chan struct{}, 1)}
}

// acquire waits until it is w's turn, or until one of the channels is closed. It
// returns whether w holds the lock.
func (t *turn) acquire(w *waiter, stop, stop2 <-chan struct{}) bool {
	t.mu.Lock()
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return true
	}
	i := len(t.queue)
	for i > 0 && t.queue[i-1].urgency > w.urgency {
		i--
	}
	t.queue = slices.Insert(t.queue, i, w)
	t.mu.Unlock()

	select {
	case <-w.ready:
		return true
	case <-stop:
	case <-stop2:
	}
	t.mu.Lock()
	i = slices.Index(t.queue, w)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 { // it was given to w meanwhile
		<-w.ready
		t.release()
	}
	return false
}

// release hands the lock on.
func (t *turn) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.held = false
		return
	}
	w := t.queue[0]
	t.queue = slices.Delete(t.queue, 0, 1)
	w.ready <- struct{}{}
}
