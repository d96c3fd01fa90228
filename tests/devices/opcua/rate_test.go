package opcua_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// TestRate measures what a value costs, encrypted, from the socket to the port. It
// asserts no speed.
func TestRate(t *testing.T) {
	const n = 1000
	p := startPeer(t, map[string]any{"counters": n})
	dir := t.TempDir()
	first := run(t, dir, counters(p.url, 1, nil), &port{})
	eventually(t, time.Minute, "rejected", func() bool { return first.port.look().Fingerprint != "" })
	first.stop()
	d, err := opcua.New(opcua.Config{Dir: dir, Name: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	dev := counters(p.url, n, trusting(first.port.look().Fingerprint))
	dev.Spec.Protocol.OPCUA.KeepAlive = &v1alpha1.Duration{Duration: 10 * time.Second}
	r := runOn(t, d, dev, &port{quiet: true, values: map[string]devices.Sample{}})
	count := func() int {
		r.port.mu.Lock()
		defer r.port.mu.Unlock()
		return r.port.count
	}
	eventually(t, time.Minute, "values of all", func() bool { return count() > 2*n })
	before, began, cpu := count(), time.Now(), used(t)
	wait(10 * time.Second)
	values, took := count()-before, time.Since(began)
	t.Logf("%.0f values/s, %.2f us of CPU each", float64(values)/took.Seconds(), float64((used(t)-cpu).Microseconds())/float64(values))
	if values == 0 {
		t.Error("no values")
	}
}

func used(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
