package opcua_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const items = 20

// wait lets something happen for a while, which is what these tests are about.
func wait(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // a fault takes its time
}

func TestCut(t *testing.T) {
	p := startPeer(t, map[string]any{"counters": items})
	b := startBetween(t, p)
	r, _, _ := connect(t, b.url(p), items, nil)
	wait(2 * time.Second)
	b.cut(true)
	wait(3 * time.Second)
	b.cut(false)
	wait(2 * time.Second)
	complete(t, p, r.port, items)
	total, gaps := r.port.whole(t, items)
	t.Logf("%d values, %d gaps, %v", total, gaps, r.port.look().Counters)
	if gaps != 0 || r.port.look().Counters["subscribed"] != 1 {
		t.Errorf("%d gaps, counters %v: the server kept everything", gaps, r.port.look().Counters)
	}
}

func TestBlackHole(t *testing.T) {
	p := startPeer(t, map[string]any{"counters": items})
	b := startBetween(t, p)
	r, _, _ := connect(t, b.url(p), items, nil)
	wait(2 * time.Second)
	b.swallow(true)
	begin := time.Now()
	eventually(t, 15*time.Second, "noticed", func() bool { return !r.port.look().Connected })
	t.Logf("noticed after %v", time.Since(begin))
	wait(20*time.Second - time.Since(begin))
	b.swallow(false)
	complete(t, p, r.port, items)
	total, gaps := r.port.whole(t, items)
	t.Logf("%d values, %d gaps, %v", total, gaps, r.port.look().Counters)
	if gaps != 0 || r.port.look().Counters["subscribed"] != 1 {
		t.Errorf("%d gaps, counters %v: the server kept everything", gaps, r.port.look().Counters)
	}
}

// A server that was killed has lost all: with no history a gap is told for each
// item, from its last value to its first. Namespaces have other numbers after it, and
// a node of the old number is another one.
func TestServerKilled(t *testing.T) {
	p := startPeer(t, map[string]any{"counters": items})
	r, _, _ := connect(t, p.url, items, nil)
	wait(2 * time.Second)
	p.kill()
	p.start(t, map[string]any{"order": "ba", "start": 1000})
	eventually(t, 60*time.Second, "connected", func() bool { return r.port.look().Connected && r.port.last("Counter0") > 1000 })
	complete(t, p, r.port, items)
	total, gaps := r.port.whole(t, items)
	t.Logf("%d values, %d gaps, %v", total, gaps, r.port.look().Counters)
	if gaps != items {
		t.Errorf("%d gaps for %d items", gaps, items)
	}
}

// A server that takes few operations at once refuses with ServiceFaults; the
// connection lives on.
func TestTooManyOperations(t *testing.T) {
	p := startPeer(t, map[string]any{"counters": 50, "limits": map[string]any{
		"maxNodesPerRead": 7, "maxMonitoredItemsPerCall": 9, "maxNodesPerBrowse": 2, "maxNodesPerWrite": 3,
	}})
	r, _, _ := connect(t, p.url, 50, nil)
	wait(2 * time.Second)
	complete(t, p, r.port, 50)
	if c := r.port.look().Counters; c["disconnects"] != 0 {
		t.Errorf("counters %v", c)
	}
}

// An agent that is killed in the middle stores each value once, whatever the moment.
func TestAgentKilled(t *testing.T) {
	p := startPeer(t, map[string]any{"counters": items, "tick": 50})
	r, dir, dev := connect(t, p.url, items, nil)
	r.stop()
	file := filepath.Join(t.TempDir(), "store")
	text, err := json.Marshal(dev.Spec.Protocol.OPCUA)
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victimVariable+"="+string(text), "VICTIM_DIR="+dir, "VICTIM_FILE="+file)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for i := range 5 {
		before := size()
		cmd := start()
		eventually(t, time.Minute, "values stored", func() bool { return size() > before })
		wait(time.Duration(100+i*171) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	after := &port{}
	if err := after.load(file); err != nil {
		t.Fatal(err)
	}
	if after.last("Counter0") == 0 {
		t.Fatal("the victim stored nothing")
	}
	second := run(t, dir, dev, after)
	eventually(t, 30*time.Second, "connected", func() bool { return second.port.look().Connected })
	complete(t, p, after, items)
	total, gaps := after.whole(t, items)
	t.Logf("%d values, %d gaps, %v", total, gaps, after.look().Counters)
	if gaps != 0 {
		t.Errorf("%d gaps: the server kept everything", gaps)
	}
}

const victimVariable = "SKERRY_OPCUA_VICTIM"

// victim is a process with the driver in it, to be killed.
func victim() {
	var spec v1alpha1.OPCUA
	if err := json.Unmarshal([]byte(os.Getenv(victimVariable)), &spec); err != nil {
		panic(err)
	}
	p := &port{}
	if err := p.load(os.Getenv("VICTIM_FILE")); err != nil {
		panic(err)
	}
	d, err := opcua.New(opcua.Config{Dir: os.Getenv("VICTIM_DIR"), Name: "edge-1"})
	if err != nil {
		panic(err)
	}
	dev := counters(spec.URL, items, func(o *v1alpha1.OPCUA) { *o = spec })
	c, err := d.Open(dev, p, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stderr, c.Run(context.Background())) //nolint:forbidigo // it is a program of its own
}

// Where the server keeps history, a killed subscription leaves no hole: what it would
// have told is read.
func TestHistory(t *testing.T) {
	p := startPeer(t, map[string]any{"counters": items, "history": true})
	b := startBetween(t, p)
	r, _, _ := connect(t, b.url(p), items, func(o *v1alpha1.OPCUA) {
		o.SessionTimeout = &v1alpha1.Duration{Duration: 3 * time.Second}
		o.QueueSize = 2
	})
	wait(2 * time.Second)
	b.cut(true)
	wait(15 * time.Second) // longer than the subscription lives
	b.cut(false)
	wait(3 * time.Second)
	complete(t, p, r.port, items)
	total, gaps := r.port.whole(t, items)
	t.Logf("%d values, %d gaps, %v", total, gaps, r.port.look().Counters)
	if gaps != 0 {
		t.Errorf("%d gaps", gaps)
	}
	eventually(t, 20*time.Second, "values of history are counted", func() bool { return r.port.look().Counters["backfilled"] > 0 })
}

// A server that shows another certificate is not believed, until somebody does.
func TestCertificateChanged(t *testing.T) {
	p := startPeer(t, map[string]any{"counters": items})
	r, dir, dev := connect(t, p.url, items, nil)
	p.kill()
	p.start(t, map[string]any{"pki": t.TempDir(), "start": 1000})
	eventually(t, 60*time.Second, "rejected", func() bool { return r.port.look().Reason == devices.ReasonNotTrusted })
	h := r.port.look()
	r.stop()
	trusting(h.Fingerprint)(dev.Spec.Protocol.OPCUA)
	after := &port{state: r.port.State()}
	second := run(t, dir, dev, after)
	eventually(t, 30*time.Second, "connected", func() bool { return second.port.look().Connected && after.last("Counter0") > 1000 })
}
