package twin

import (
	"math"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const (
	// settle is how long a device has to show what was written to it, beyond
	// which it is written again: some take a cycle of their program.
	settle = 5 * time.Second
	// firstRetry and lastRetry bound the time between writes that fail or that
	// the device does not keep. A device that somebody else writes to is not
	// fought with at a high rate, and flash cells in it are spared.
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// write is how far a desired value is.
type write struct {
	// notBefore is when it may be written next.
	notBefore time.Time
	backoff   time.Duration
	// settled says that the device has taken it; of a property that can't be
	// read that is all there is to know.
	settled bool
	err     error // of the last write
}

// seen takes in a sample: a device that has the value needs no more patience.
func (t *Twin) seen() {
	if t.cfg.Desired != nil && t.has() {
		t.write = write{settled: true}
	}
}

// has says whether the property is what it should be.
func (t *Twin) has() bool {
	return t.known && t.last.Quality.IsGood() && t.same(t.last.Value, t.cfg.Desired)
}

// same allows for what a device can't tell apart.
func (t *Twin) same(a, b devices.Value) bool {
	if devices.Equal(a, b) {
		return true
	}
	x, y, ok := floats(a, b)
	if !ok {
		return false
	}
	room := t.cfg.Resolution / 2 * (1 + 1e-9)
	return math.Abs(x-y) <= max(room, 1e-6*max(math.Abs(x), math.Abs(y)))
}

// floats are two numbers at least one of which has a fraction: whole numbers are
// the same or not.
func floats(a, b devices.Value) (x, y float64, ok bool) {
	x, okX := devices.Float(a)
	y, okY := devices.Float(b)
	switch a.(type) {
	case float32, float64:
		return x, y, okX && okY
	}
	return x, y, false
}

// Synced says whether the property is what it should be, or has nothing to be.
func (t *Twin) Synced() bool {
	switch {
	case t.cfg.Desired == nil:
		return true
	case t.cfg.Property.Access == v1alpha1.WriteOnly:
		return t.write.settled
	}
	return t.has()
}

// Desired is what the property should be, nil for whatever it is.
func (t *Twin) Desired() devices.Value { return t.cfg.Desired }

// WriteError is why the last write failed, nil when it did not.
func (t *Twin) WriteError() error { return t.write.err }

// Due says when to write the desired value, false for not at all. It is in the
// past when it is time.
func (t *Twin) Due() (time.Time, bool) {
	if t.Synced() {
		return time.Time{}, false
	}
	return t.write.notBefore, true
}

// Wrote takes in how a write of the desired value went.
func (t *Twin) Wrote(err error, now time.Time) {
	w := &t.write
	w.err = err
	w.settled = err == nil
	w.backoff = min(max(2*w.backoff, firstRetry), lastRetry)
	w.notBefore = now.Add(w.backoff)
	if err == nil {
		w.notBefore = now.Add(max(w.backoff, settle))
	}
}

// Reconnected has a desired value written without delay: the device may have
// been off.
func (t *Twin) Reconnected() {
	t.write.notBefore = time.Time{}
	t.write.backoff = 0
}
