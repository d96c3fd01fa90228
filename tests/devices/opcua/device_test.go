package opcua_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const space = "nsu=urn:skerry:test:a;s="

// row is a value or a gap as stored.
type row struct {
	Property string    `json:",omitempty"`
	Value    uint32    `json:",omitempty"`
	Source   time.Time `json:",omitzero"`
	Bad      string    `json:",omitempty"`
	Gap      string    `json:",omitempty"` // the reason
	From, To time.Time `json:",omitzero"`
}

type record struct {
	Rows  []row
	State []byte
}

// port keeps what is delivered; with a file, on the disk before Deliver returns.
type port struct {
	mu     sync.Mutex
	file   *os.File
	rows   []row
	state  []byte
	health devices.Health
	values map[string]devices.Sample
	count  int
	quiet  bool // count only
}

func (p *port) Deliver(_ context.Context, b devices.Batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := record{State: b.State}
	p.count += len(b.Samples)
	for _, g := range b.Gaps {
		r.Rows = append(r.Rows, row{Property: g.Property, Gap: g.Reason, From: g.From, To: g.To})
	}
	for _, s := range b.Samples {
		if p.values != nil {
			p.values[s.Property] = s
		}
		if p.quiet {
			continue
		}
		one := row{Property: s.Property, Source: s.Source}
		if n, ok := s.Value.(uint32); ok {
			one.Value = n
		} else {
			one.Bad = s.Quality.String()
		}
		r.Rows = append(r.Rows, one)
	}
	if p.file != nil {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := p.file.Write(append(line, '\n')); err != nil {
			return err
		}
		if err := p.file.Sync(); err != nil {
			return err
		}
	}
	p.rows = append(p.rows, r.Rows...)
	if b.State != nil {
		p.state = slices.Clone(b.State)
	}
	return nil
}

func (p *port) State() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *port) Report(h devices.Health) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.health = h
}

func (p *port) look() devices.Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.health
}

// load takes up what a file holds; a line cut short was not stored.
func (p *port) load(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<26)
	var end int64
	for s.Scan() {
		var r record
		if json.Unmarshal(s.Bytes(), &r) != nil {
			break
		}
		end += int64(len(s.Bytes())) + 1
		p.rows = append(p.rows, r.Rows...)
		if r.State != nil {
			p.state = r.State
		}
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	if _, err := f.Seek(end, 0); err != nil {
		return err
	}
	p.file = f
	return nil
}

// counters is a Device with the server's counters.
func counters(url string, n int, change func(*v1alpha1.OPCUA)) *devices.Device {
	spec := &v1alpha1.OPCUA{
		URL: url, PublishingInterval: &v1alpha1.Duration{Duration: 200 * time.Millisecond}, KeepAlive: &v1alpha1.Duration{Duration: time.Second},
		// Each change: node-opcua's timer leaves out some under load.
		SamplingInterval: &v1alpha1.Duration{}, QueueSize: 1000, SessionTimeout: &v1alpha1.Duration{Duration: 5 * time.Minute},
		SecurityPolicy: v1alpha1.PolicyBest,
	}
	if change != nil {
		change(spec)
	}
	dev := &devices.Device{Namespace: "plant", Name: "counters", UID: "1"}
	dev.Spec.Protocol.OPCUA = spec
	for i := range n {
		name := fmt.Sprintf("Counter%d", i)
		dev.Model.Properties = append(dev.Model.Properties, v1alpha1.Property{Name: name, ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeUint32}, Access: v1alpha1.ReadOnly})
		dev.Spec.Properties = append(dev.Spec.Properties, v1alpha1.DeviceProperty{Name: name, OPCUA: &v1alpha1.OPCUAProperty{NodeID: space + name}})
	}
	return dev
}

// trusting trusts what the server has shown, as an operator does.
func trusting(fingerprint string) func(*v1alpha1.OPCUA) {
	return func(o *v1alpha1.OPCUA) { o.Trust = &v1alpha1.OPCUATrust{Fingerprints: []string{fingerprint}} }
}

type running struct {
	conn devices.Conn
	port *port
	stop func()
}

func run(t *testing.T, dir string, dev *devices.Device, p *port) *running {
	t.Helper()
	d, err := opcua.New(opcua.Config{Dir: dir, Name: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	return runOn(t, d, dev, p)
}

func runOn(t *testing.T, d *opcua.Driver, dev *devices.Device, p *port) *running {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := d.Open(dev, p, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx)
	}()
	stop := sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return &running{c, p, stop}
}

func (p *port) last(property string) (last uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range slices.Backward(p.rows) {
		if r.Property == property && r.Gap == "" && r.Bad == "" {
			return r.Value
		}
	}
	return 0
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond) //nolint:forbidigo // between two tries
	}
}

// complete stops the counters, waits for the last number of each, and proves that
// none is missing and none came twice.
func complete(t *testing.T, server *peer, p *port, n int) {
	t.Helper()
	last := server.stop(t)
	for i := range n {
		name := fmt.Sprintf("Counter%d", i)
		eventually(t, 60*time.Second, fmt.Sprintf("%s at %d", name, last), func() bool { return p.last(name) == last })
	}
	p.whole(t, n)
}

// whole proves that values count up by one, but over gaps that are told.
func (p *port) whole(t *testing.T, n int) (total, gaps int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range n {
		name := fmt.Sprintf("Counter%d", i)
		var before *row
		var gap *row
		for j := range p.rows {
			r := &p.rows[j]
			if r.Property != name && r.Property != "" || r.Bad != "" {
				continue
			}
			if r.Gap != "" {
				gap = r
				gaps++
				continue
			}
			total++
			switch {
			case before == nil || r.Value == before.Value+1:
			case gap != nil && gap.From.Equal(before.Source) && gap.To.Equal(r.Source):
			case r.Value <= before.Value:
				t.Errorf("%s: %d after %d", name, r.Value, before.Value)
			default:
				t.Errorf("%s: %d after %d, at %v after %v, gap %+v", name, r.Value, before.Value, r.Source, before.Source, gap)
			}
			before, gap = r, nil
		}
	}
	return total, gaps
}

// connect runs the counters' device with its certificate trusted as an operator
// does: after it was rejected and shown.
func connect(t *testing.T, url string, n int, change func(*v1alpha1.OPCUA)) (*running, string, *devices.Device) {
	t.Helper()
	dir := t.TempDir()
	first := run(t, dir, counters(url, n, change), &port{})
	eventually(t, 30*time.Second, "the certificate is rejected", func() bool { return first.port.look().Fingerprint != "" })
	h := first.port.look()
	if h.Connected || h.Reason != devices.ReasonNotTrusted {
		t.Errorf("health %+v", h)
	}
	first.stop()
	dev := counters(url, n, func(o *v1alpha1.OPCUA) {
		if change != nil {
			change(o)
		}
		trusting(h.Fingerprint)(o)
	})
	r := run(t, dir, dev, &port{})
	eventually(t, 30*time.Second, "connected", func() bool { return r.port.look().Connected })
	eventually(t, 30*time.Second, "values", func() bool { return r.port.last("Counter0") > 0 })
	return r, dir, dev
}
