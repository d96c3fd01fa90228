package bus

import "time"

const (
	maxWindow = 8
	// trials is how many answers in a row let the window grow by one.
	trials = 32
	// penalty is how long the window stays at one after a peer has choked on more,
	// doubled each time.
	penalty    = time.Minute
	maxPenalty = 24 * time.Hour
)

// window finds out how many requests a peer takes at once. Many devices answer
// pipelined requests, some drop all but the first, some close the connection: so
// it begins with one and grows while all goes well.
type window struct {
	size, limit int
	fixed       bool
	good        int       // answers since the last change, with the window full
	closed      time.Time // until when it does not grow
	penalty     time.Duration
}

func newWindow(cfg Config) window {
	switch {
	case cfg.RTU || cfg.Pipeline == 1:
		return window{size: 1, limit: 1, fixed: true}
	case cfg.Pipeline > 1:
		n := min(cfg.Pipeline, 16) // as many as the messaging guide allows a server
		return window{size: n, limit: n, fixed: true}
	default:
		return window{size: 1, limit: maxWindow, penalty: penalty}
	}
}

// answered notes an answer; full says that the window was in use and more waited.
func (w *window) answered(now time.Time, full bool) {
	if w.fixed || !full || w.size == w.limit || now.Before(w.closed) {
		return
	}
	if w.good++; w.good >= trials {
		w.good = 0
		w.size++
	}
}

// overtaken notes that an older request was overtaken so often that it may be lost.
func (w *window) overtaken() { w.good = -1 }

// failed notes a lost answer or connection while so many were on their way.
func (w *window) failed(now time.Time, inFlight int) {
	w.good = 0
	if w.fixed || inFlight < 2 {
		return
	}
	w.size = 1
	w.closed = now.Add(w.penalty)
	w.penalty = min(2*w.penalty, maxPenalty)
}
