package tunnel

import (
	"sync"
	"time"
)

// deadline is a moment that can be waited for and moved while others wait.
type deadline struct {
	mu    sync.Mutex // guards the following fields
	timer *time.Timer
	over  chan struct{} // closed when the moment has come; nil while there was never one
}

// set moves the deadline; the zero time means never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.over // the timer's function has begun: let it end
	}
	d.timer = nil
	if d.over == nil || closed(d.over) {
		d.over = make(chan struct{})
	}
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		close(d.over)
	default:
		over := d.over
		d.timer = time.AfterFunc(left, func() { close(over) })
	}
}

// done is closed when the deadline has come; nil means that it never will.
func (d *deadline) done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

// passed reports whether the deadline has come.
func (d *deadline) passed() bool { return closed(d.done()) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
