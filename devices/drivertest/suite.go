package drivertest

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/skerry-io/skerry/devices"
)

// Harness is a driver with a peer. The Device has a property Writable, an int16
// with access ReadWrite and a range of -100 to 100, and ReadOnly of any type.
type Harness struct {
	// Driver makes the driver under test. Required.
	Driver func(t *testing.T) devices.Driver
	// Device is the one to open, anew for each test. Required.
	Device func(t *testing.T) *devices.Device
	// Broken gives a Device with a fault in its configuration and the field that
	// the error must name. Required.
	Broken func(t *testing.T) (dev *devices.Device, field string)
	// Writable and ReadOnly are names of properties. Required.
	Writable, ReadOnly string
	// Set changes a value in the peer, and Get reads it there; nil where there is
	// no peer.
	Set func(t *testing.T, property string, v devices.Value)
	Get func(t *testing.T, property string) devices.Value
	// Cut ends the connection and lets no other come, Heal lets them come again;
	// nil where there is none.
	Cut, Heal func(t *testing.T)
}

// Run holds a driver to what devices.Driver and devices.Conn promise.
func Run(t *testing.T, h Harness) {
	t.Helper()
	t.Run("Config", func(t *testing.T) { testConfig(t, h) })
	t.Run("NotRunning", func(t *testing.T) { testNotRunning(t, h) })
	t.Run("Samples", func(t *testing.T) { testSamples(t, h) })
	t.Run("Read", func(t *testing.T) { testRead(t, h) })
	t.Run("Write", func(t *testing.T) { testWrite(t, h) })
	t.Run("Call", func(t *testing.T) { testCall(t, h) })
	t.Run("Canceled", func(t *testing.T) { testCanceled(t, h) })
	if h.Set != nil {
		t.Run("Change", func(t *testing.T) { testChange(t, h) })
	}
	if h.Cut != nil {
		t.Run("Cut", func(t *testing.T) { testCut(t, h) })
	}
}

// open runs a Conn until the test ends.
func open(t *testing.T, h Harness) (devices.Conn, *Port) {
	t.Helper()
	port := &Port{}
	conn, err := h.Driver(t).Open(h.Device(t), port, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	Start(t, conn)
	port.UntilConnected(t, true)
	return conn, port
}

// Start runs a Conn until the test ends, and holds Run to ending with its
// context.
func Start(t *testing.T, conn devices.Conn) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- conn.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v; want nil or the context's error", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func testConfig(t *testing.T, h Harness) {
	t.Helper()
	dev, field := h.Broken(t)
	_, err := h.Driver(t).Open(dev, &Port{}, slog.New(slog.DiscardHandler))
	var config *devices.ConfigError
	if !errors.As(err, &config) || config.Field != field || config.Reason == "" {
		t.Errorf("got %v; want a ConfigError about %s", err, field)
	}
}

func testNotRunning(t *testing.T, h Harness) {
	t.Helper()
	conn, err := h.Driver(t).Open(h.Device(t), &Port{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(t.Context(), []string{h.ReadOnly}); !errors.Is(err, devices.ErrNotConnected) {
		t.Errorf("Read before Run: %v", err)
	}
	errs := conn.Write(t.Context(), []devices.Write{{Property: h.Writable, Value: int16(1)}})
	if len(errs) != 1 || !errors.Is(errs[0], devices.ErrNotConnected) {
		t.Errorf("Write before Run: %v", errs)
	}
}

func testSamples(t *testing.T, h Harness) {
	t.Helper()
	dev := h.Device(t)
	_, port := open(t, h)
	port.Until(t, "a good sample of each property", func() bool {
		got := map[string]bool{}
		for _, s := range port.Samples() {
			got[s.Property] = got[s.Property] || s.Quality.IsGood()
		}
		return got[h.Writable] && got[h.ReadOnly]
	})
	for _, s := range port.Samples() {
		p, ok := dev.Property(s.Property)
		if !ok {
			t.Errorf("sample of %q, which the model does not have", s.Property)
		}
		if _, err := devices.EncodeJSON(s.Value); err != nil {
			t.Errorf("%s: %v", s.Property, err)
		}
		if s.Quality.IsGood() {
			if v, err := devices.Coerce(s.Value, p.ValueType, &dev.Model); err != nil || !devices.Equal(v, s.Value) {
				t.Errorf("%s has %T, the model %s", s.Property, s.Value, p.Type)
			}
		}
		if s.Time().IsZero() {
			t.Errorf("%s has no time at all", s.Property)
		}
	}
}

func testRead(t *testing.T, h Harness) {
	t.Helper()
	conn, _ := open(t, h)
	got, err := conn.Read(t.Context(), []string{h.ReadOnly, "no.such.property", h.Writable})
	if err != nil || len(got) != 3 {
		t.Fatalf("got %v, %v; want three samples", got, err)
	}
	if got[0].Property != h.ReadOnly || !got[0].Quality.IsGood() || got[2].Property != h.Writable || !got[2].Quality.IsGood() {
		t.Errorf("got %v", got)
	}
	if !got[1].Quality.IsBad() {
		t.Errorf("a property that is not there is %v", got[1])
	}
}

func testWrite(t *testing.T, h Harness) {
	t.Helper()
	conn, port := open(t, h)
	n := len(port.Samples())
	errs := conn.Write(t.Context(), []devices.Write{
		{Property: h.Writable, Value: 42.0}, // a float without a fraction is an int16
		{Property: h.Writable, Value: int16(101)},
		{Property: h.ReadOnly, Value: int16(1)},
		{Property: h.Writable, Value: "text"},
		{Property: "no.such.property", Value: int16(1)},
	})
	if len(errs) != 5 {
		t.Fatalf("%d errors for 5 writes", len(errs))
	}
	for i, want := range []devices.Quality{devices.Good, devices.BadOutOfRange, devices.BadNotWritable, devices.BadTypeMismatch} {
		if got := devices.QualityOf(errs[i]); got != want {
			t.Errorf("write %d: %v; want %v", i, errs[i], want)
		}
	}
	if !errors.Is(errs[4], devices.ErrUnknownProperty) {
		t.Errorf("write of a property that is not there: %v", errs[4])
	}
	got, err := conn.Read(t.Context(), []string{h.Writable})
	if err != nil || !devices.Equal(got[0].Value, int16(42)) {
		t.Errorf("read %v, %v; want 42", got, err)
	}
	if h.Get != nil {
		if got := h.Get(t, h.Writable); !devices.Equal(got, int16(42)) {
			t.Errorf("the peer has %v (%T)", got, got)
		}
	}
	port.UntilValue(t, n, h.Writable, int16(42))
}

func testCall(t *testing.T, h Harness) {
	t.Helper()
	conn, _ := open(t, h)
	if _, err := conn.Call(t.Context(), "no.such.method", nil); err == nil {
		t.Error("a method that is not there was called")
	}
}

func testCanceled(t *testing.T, h Harness) {
	t.Helper()
	conn, _ := open(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := conn.Read(ctx, []string{h.ReadOnly}); err == nil {
		t.Error("Read worked with a context that had ended")
	}
	if errs := conn.Write(ctx, []devices.Write{{Property: h.Writable, Value: int16(1)}}); len(errs) != 1 || errs[0] == nil {
		t.Errorf("Write with a context that had ended: %v", errs)
	}
}

func testChange(t *testing.T, h Harness) {
	t.Helper()
	_, port := open(t, h)
	for _, v := range []int16{-100, 0, 7} {
		n := len(port.Samples())
		h.Set(t, h.Writable, v)
		port.UntilValue(t, n, h.Writable, v)
	}
}

// testCut: what the driver says of a connection that ends, and that it comes back
// by itself.
func testCut(t *testing.T, h Harness) {
	t.Helper()
	conn, port := open(t, h)
	h.Cut(t)
	port.UntilConnected(t, false)
	if _, err := conn.Read(t.Context(), []string{h.ReadOnly}); !errors.Is(err, devices.ErrNotConnected) {
		t.Errorf("Read while cut: %v", err)
	}
	errs := conn.Write(t.Context(), []devices.Write{{Property: h.Writable, Value: int16(1)}})
	if len(errs) != 1 || !errors.Is(errs[0], devices.ErrNotConnected) {
		t.Errorf("Write while cut: %v", errs)
	}
	n := len(port.Samples())
	h.Heal(t)
	port.UntilConnected(t, true)
	if h.Set != nil {
		h.Set(t, h.Writable, int16(77))
		port.UntilValue(t, n, h.Writable, int16(77))
	}
}
