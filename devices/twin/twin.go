package twin

import (
	"math"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Config is what a Twin is made of.
type Config struct {
	// Property is the model's.
	Property v1alpha1.Property
	// Policy says what goes on. A zero Mode is OnChange.
	Policy v1alpha1.ReportPolicy
	// Desired is what the value should be, of the property's type; nil is
	// whatever it is.
	Desired devices.Value
	// Resolution is the smallest step that the device can tell apart, such as a
	// scale: a value within half of it is the desired one. Zero is exact, but
	// for the rounding of a float32.
	Resolution float64
}

// Twin is one property. It is not safe for use by several goroutines.
type Twin struct {
	cfg   Config
	scale float64 // deadband in the unit of the value; 0 is none

	known bool
	last  devices.Sample // what the property is; its quality as Tick made it
	heard time.Time      // when the device told last

	reported   devices.Sample
	everTold   bool
	reportedAt time.Time

	write write
}

// New returns the twin of a property of which nothing is known.
func New(cfg Config) *Twin {
	t := &Twin{cfg: cfg}
	t.scale = deadband(cfg)
	return t
}

// deadband is in the unit of the value. One in percent without a range that it
// is of can't be told, and is none.
func deadband(cfg Config) float64 {
	d := cfg.Policy.Deadband
	switch {
	case d == nil:
		return 0
	case d.Absolute != nil:
		return *d.Absolute
	case d.Percent != nil && cfg.Property.Min != nil && cfg.Property.Max != nil:
		return *d.Percent / 100 * (*cfg.Property.Max - *cfg.Property.Min)
	}
	return 0
}

// Change takes another policy or desired value; what is known stays.
func (t *Twin) Change(cfg Config) {
	if !devices.Equal(t.cfg.Desired, cfg.Desired) {
		t.write = write{}
	}
	t.cfg = cfg
	t.scale = deadband(cfg)
}

// Restore sets what was known before the process was started anew. It was told
// then.
func (t *Twin) Restore(s devices.Sample, now time.Time) {
	t.last, t.known, t.heard = s, true, now
	t.reported, t.everTold, t.reportedAt = s, true, now
}

// Last is what the property is, false while nothing is known.
func (t *Twin) Last() (devices.Sample, bool) { return t.last, t.known }

// Observe takes a sample in, and says whether it goes on.
func (t *Twin) Observe(s devices.Sample, now time.Time) bool {
	if t.known && !s.Time().IsZero() && s.Time().Before(t.last.Time()) {
		// Of a time that has gone by, as after a gap that was filled: it goes on
		// whatever it is, and changes nothing of what is.
		return true
	}
	t.last, t.known, t.heard = s, true, now
	t.seen()
	if !t.changed(s) {
		return false
	}
	t.tell(s, now)
	return true
}

func (t *Twin) tell(s devices.Sample, now time.Time) {
	t.reported, t.everTold, t.reportedAt = s, true, now
}

func (t *Twin) changed(s devices.Sample) bool {
	switch {
	case !t.everTold, t.cfg.Policy.Mode == v1alpha1.ReportAlways, s.Quality != t.reported.Quality:
		return true
	case t.scale > 0:
		return moved(t.reported.Value, s.Value, t.scale)
	}
	return !devices.Equal(t.reported.Value, s.Value)
}

// moved says whether a number is further than the deadband from where it was; of
// an array, any of them (OPC UA Part 4, 7.22.2). What is no number has moved
// when it differs.
func moved(from, to devices.Value, deadband float64) bool {
	a, isList := from.([]any)
	b, bothLists := to.([]any)
	if isList && bothLists {
		if len(a) != len(b) {
			return true
		}
		for i := range a {
			if moved(a[i], b[i], deadband) {
				return true
			}
		}
		return false
	}
	x, okX := devices.Float(from)
	y, okY := devices.Float(to)
	if !okX || !okY || math.IsNaN(x) || math.IsNaN(y) || math.IsInf(x, 0) || math.IsInf(y, 0) {
		return !devices.Equal(from, to)
	}
	return math.Abs(y-x) > deadband
}

// Disconnected takes in that the device can't be reached: what is good is so no
// more. It returns a sample that goes on, if there is one.
func (t *Twin) Disconnected(now time.Time) (devices.Sample, bool) {
	if t.cfg.Property.Access == v1alpha1.WriteOnly {
		t.write.settled = false // it may be another one when it is back
	}
	return t.degrade(now)
}

// degrade makes a good value the last usable one.
func (t *Twin) degrade(now time.Time) (devices.Sample, bool) {
	if !t.known || !t.last.Quality.IsGood() {
		return devices.Sample{}, false
	}
	t.last.Quality = devices.UncertainLastUsable
	t.tell(t.last, now)
	return t.last, true
}

// Tick takes in that time has gone by. It returns a sample that goes on, if
// there is one: of a value that became stale, or a heartbeat.
func (t *Twin) Tick(now time.Time) (devices.Sample, bool) {
	if at, ok := t.staleAt(); ok && !now.Before(at) {
		return t.degrade(now)
	}
	if at, ok := t.heartbeatAt(); ok && !now.Before(at) {
		t.tell(t.last, now)
		return t.last, true
	}
	return devices.Sample{}, false
}

// Next is when Tick has something to do, false for never.
func (t *Twin) Next() (time.Time, bool) {
	stale, ok := t.staleAt()
	beat, both := t.heartbeatAt()
	if both && (!ok || beat.Before(stale)) {
		return beat, true
	}
	return stale, ok
}

func (t *Twin) staleAt() (time.Time, bool) {
	after := t.cfg.Policy.Staleness.Or(0)
	if after <= 0 || !t.known || !t.last.Quality.IsGood() {
		return time.Time{}, false
	}
	return t.heard.Add(after), true
}

func (t *Twin) heartbeatAt() (time.Time, bool) {
	every := t.cfg.Policy.Heartbeat.Or(0)
	if every <= 0 || !t.everTold || !t.known {
		return time.Time{}, false
	}
	return t.reportedAt.Add(every), true
}
