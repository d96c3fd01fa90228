package twin_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/twin"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

func seconds(n int) *v1alpha1.Duration {
	return &v1alpha1.Duration{Duration: time.Duration(n) * time.Second}
}

func property(t v1alpha1.Type) v1alpha1.Property {
	return v1alpha1.Property{Name: "p", ValueType: v1alpha1.ValueType{Type: t}, Access: v1alpha1.ReadWrite, Min: new(0.0), Max: new(200.0)}
}

func good(v devices.Value, second float64) devices.Sample {
	return devices.Sample{Property: "p", Value: v, Source: at(second)}
}

// TestObserve tells which of a row of values go on.
func TestObserve(t *testing.T) {
	nan := math.NaN()
	for name, tc := range map[string]struct {
		policy v1alpha1.ReportPolicy
		in     []devices.Value
		want   []bool
	}{
		"on change":         {v1alpha1.ReportPolicy{}, []devices.Value{1.0, 1.0, 2.0, 1.0}, []bool{true, false, true, true}},
		"always":            {v1alpha1.ReportPolicy{Mode: v1alpha1.ReportAlways}, []devices.Value{1.0, 1.0}, []bool{true, true}},
		"NaN":               {v1alpha1.ReportPolicy{}, []devices.Value{nan, nan, 1.0, nan}, []bool{true, false, true, true}},
		"text":              {v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Absolute: new(5.0)}}, []devices.Value{"a", "b", "b"}, []bool{true, true, false}},
		"absolute":          {v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Absolute: new(5.0)}}, []devices.Value{10.0, 15.0, 15.1, 10.2, 10.0}, []bool{true, false, true, false, true}},
		"no slow drift":     {v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Absolute: new(1.0)}}, []devices.Value{0.0, 0.6, 1.2, 1.8}, []bool{true, false, true, false}},
		"percent of 200":    {v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Percent: new(1.0)}}, []devices.Value{int16(10), int16(12), int16(13)}, []bool{true, false, true}},
		"NaN in a deadband": {v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Absolute: new(1e9)}}, []devices.Value{1.0, nan, nan, 1.0, math.Inf(1)}, []bool{true, true, false, true, true}},
		"any of an array": {
			v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Absolute: new(1.0)}},
			[]devices.Value{[]any{1.0, 1.0}, []any{1.5, 2.0}, []any{1.0, 2.5}, []any{1.0}},
			[]bool{true, false, true, true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Policy: tc.policy})
			for i, v := range tc.in {
				if got := tw.Observe(good(v, float64(i)), at(float64(i))); got != tc.want[i] {
					t.Errorf("%d: %v goes on: %v, want %v", i, v, got, tc.want[i])
				}
			}
		})
	}
}

func TestPercentOfNoRange(t *testing.T) {
	p := property(v1alpha1.TypeFloat64)
	p.Max = nil
	tw := twin.New(twin.Config{Property: p, Policy: v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Percent: new(50.0)}}})
	tw.Observe(good(1.0, 0), at(0))
	if !tw.Observe(good(1.1, 1), at(1)) {
		t.Error("a change is kept back by a deadband that nobody can tell")
	}
}

func TestQualityIsAChange(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Policy: v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Absolute: new(9.0)}}})
	tw.Observe(good(1.0, 0), at(0))
	bad := devices.Sample{Property: "p", Quality: devices.BadSensorFailure, Source: at(1)}
	if !tw.Observe(bad, at(1)) || tw.Observe(bad, at(2)) || !tw.Observe(good(1.0, 3), at(3)) {
		t.Error("a quality that changes must go on once")
	}
}

// TestPast: what fills a gap goes on and is not what is.
func TestPast(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Policy: v1alpha1.ReportPolicy{Deadband: &v1alpha1.Deadband{Absolute: new(9.0)}}})
	tw.Observe(good(1.0, 10), at(10))
	if !tw.Observe(good(1.0, 5), at(11)) {
		t.Error("a value of a gap is kept back")
	}
	if last, _ := tw.Last(); !last.Source.Equal(at(10)) {
		t.Errorf("the property is %v", last)
	}
}

func TestStaleness(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Policy: v1alpha1.ReportPolicy{Staleness: seconds(10)}})
	if _, ok := tw.Next(); ok {
		t.Error("nothing known can become stale")
	}
	tw.Observe(good(1.0, 0), at(0))
	tw.Observe(good(1.0, 4), at(4)) // the same value, heard again
	if next, ok := tw.Next(); !ok || !next.Equal(at(14)) {
		t.Errorf("next %v", next)
	}
	if s, ok := tw.Tick(at(13.9)); ok {
		t.Errorf("stale too early: %v", s)
	}
	s, ok := tw.Tick(at(14))
	if !ok || s.Quality != devices.UncertainLastUsable || s.Value != 1.0 || !s.Source.Equal(at(4)) {
		t.Errorf("stale: %v, %v", s, ok)
	}
	if _, ok := tw.Tick(at(30)); ok {
		t.Error("stale twice")
	}
	if !tw.Observe(good(1.0, 31), at(31)) {
		t.Error("that it is good again is kept back")
	}
}

func TestHeartbeat(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Policy: v1alpha1.ReportPolicy{Heartbeat: seconds(10)}})
	tw.Observe(good(1.0, 0), at(0))
	tw.Observe(good(1.0, 9), at(9)) // not told
	s, ok := tw.Tick(at(10))
	if !ok || s.Value != 1.0 || !s.Source.Equal(at(9)) {
		t.Errorf("heartbeat %v, %v", s, ok)
	}
	tw.Observe(good(2.0, 15), at(15)) // told: the heart has beaten
	if next, _ := tw.Next(); !next.Equal(at(25)) {
		t.Errorf("next at %v", next)
	}
}

func TestDisconnected(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64)})
	if _, ok := tw.Disconnected(at(0)); ok {
		t.Error("nothing known is told")
	}
	tw.Observe(good(1.0, 0), at(0))
	if s, ok := tw.Disconnected(at(1)); !ok || s.Quality != devices.UncertainLastUsable {
		t.Errorf("%v, %v", s, ok)
	}
	if _, ok := tw.Disconnected(at(2)); ok {
		t.Error("told twice")
	}
}

func TestRestore(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64)})
	tw.Restore(good(5.0, 1), at(2))
	if tw.Observe(good(5.0, 3), at(3)) {
		t.Error("what was told before the restart is told again")
	}
}

// TestDesired follows a value that is written until the device has it.
func TestDesired(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Desired: 5.0})
	due := func(want float64) {
		t.Helper()
		got, ok := tw.Due()
		if !ok || got.After(at(want)) || want > 0 && got.Before(at(want)) {
			t.Errorf("due %v, %v; want %v", got, ok, at(want))
		}
	}
	due(0) // nothing is known of it
	refused := errors.New("refused")
	for i, want := range []float64{1, 3, 7, 15, 31, 63, 127, 255} { // 1 s, doubled
		now := []float64{0, 1, 3, 7, 15, 31, 63, 127}[i]
		tw.Wrote(refused, at(now))
		due(want)
	}
	tw.Wrote(refused, at(255))
	tw.Wrote(refused, at(600))
	due(900) // 5 min and no more
	if tw.Synced() || !errors.Is(tw.WriteError(), refused) {
		t.Error("a refused write is told as done")
	}
	tw.Reconnected()
	due(0)
	tw.Wrote(nil, at(1000))
	tw.Observe(good(4.0, 1001), at(1001)) // the device's cycle is not over
	due(1005)
	tw.Observe(good(5.0, 1002), at(1002))
	if _, ok := tw.Due(); ok || !tw.Synced() || tw.WriteError() != nil {
		t.Error("what is as desired is written again")
	}
	tw.Observe(good(6.0, 1003), at(1003)) // by somebody else
	due(0)
	tw.Wrote(nil, at(1003))
	tw.Observe(good(6.0, 1004), at(1004))
	due(1008)
	tw.Change(twin.Config{Property: property(v1alpha1.TypeFloat64), Desired: 7.0})
	due(0)
	tw.Change(twin.Config{Property: property(v1alpha1.TypeFloat64)})
	if _, ok := tw.Due(); ok || !tw.Synced() {
		t.Error("nothing is desired and something written")
	}
}

func TestDesiredIsNotBad(t *testing.T) {
	tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Desired: 5.0})
	tw.Observe(devices.Sample{Property: "p", Value: 5.0, Quality: devices.UncertainLastUsable}, at(0))
	if tw.Synced() {
		t.Error("a value that nobody vouches for is told as the desired one")
	}
}

func TestDesiredOfWhatCannotBeRead(t *testing.T) {
	p := property(v1alpha1.TypeInt16)
	p.Access = v1alpha1.WriteOnly
	tw := twin.New(twin.Config{Property: p, Desired: int16(5)})
	tw.Wrote(nil, at(0))
	if _, ok := tw.Due(); ok || !tw.Synced() {
		t.Error("written again")
	}
	tw.Disconnected(at(1))
	tw.Reconnected()
	if _, ok := tw.Due(); !ok {
		t.Error("a device that was off is not written again")
	}
}

func TestResolution(t *testing.T) {
	for _, tc := range []struct {
		desired, value devices.Value
		resolution     float64
		want           bool
	}{
		{21.37, 21.4, 0.1, true},
		{21.37, 21.3, 0.1, false},
		{0.1, float64(float32(0.1)), 0, true},
		{0.1, 0.1001, 0, false},
		{int64(1 << 60), int64(1<<60 + 1), 0, false},
		{int16(5), int32(5), 0, false},
	} {
		tw := twin.New(twin.Config{Property: property(v1alpha1.TypeFloat64), Desired: tc.desired, Resolution: tc.resolution})
		tw.Observe(good(tc.value, 0), at(0))
		if got := tw.Synced(); got != tc.want {
			t.Errorf("desired %v, is %v, resolution %v: %v", tc.desired, tc.value, tc.resolution, got)
		}
	}
}
