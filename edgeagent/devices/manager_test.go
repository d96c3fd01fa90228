package devices

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/sim"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// bed is an edge's store and what is told of it.
type bed struct {
	t     *testing.T
	store *store.Store

	mu      sync.Mutex // guards the following fields
	told    []*v1alpha1.Device
	changed chan struct{}
}

func (b *bed) DeviceStatus(d *v1alpha1.Device) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, d)
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// until waits for a status.
func (b *bed) until(what string, holds func(v1alpha1.DeviceStatus) bool) v1alpha1.DeviceStatus {
	b.t.Helper()
	limit := time.After(time.Minute)
	for {
		b.mu.Lock()
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		var last v1alpha1.DeviceStatus
		if n := len(b.told); n > 0 {
			last = b.told[n-1].Status
		}
		b.mu.Unlock()
		if holds(last) {
			return last
		}
		select {
		case <-changed:
		case <-limit:
			text, _ := json.Marshal(last)
			b.t.Fatalf("waited a minute for %s; the status is %s", what, text)
		}
	}
}

func newBed(t *testing.T) *bed {
	t.Helper()
	st, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return &bed{t: t, store: st}
}

func (b *bed) put(r wire.Resource, name string, o any) {
	b.t.Helper()
	value, err := json.Marshal(o)
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.store.Apply(store.Batch{Upserts: []store.Object{{Key: wire.ObjectKey(r, "plant", name), Version: fmt.Sprint(time.Now().UnixNano()), Value: value}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// start runs a Manager until the test ends or stop is called.
func (b *bed) start(drivers map[string]devices.Driver) (m *Manager, stop func()) {
	b.t.Helper()
	m, err := New(Config{Store: b.store, Report: b, Drivers: drivers, Node: "edge"})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return m, stop
}

func simulated() map[string]devices.Driver { return map[string]devices.Driver{"sim": sim.Driver{}} }

func model() v1alpha1.DeviceModel {
	m := v1alpha1.DeviceModel{Spec: v1alpha1.DeviceModelSpec{Properties: []v1alpha1.Property{
		{Name: "count", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeUint64}, Access: v1alpha1.ReadOnly},
		{Name: "setpoint", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt16}, Access: v1alpha1.ReadWrite},
	}}}
	m.Namespace, m.Name = "plant", "press"
	return m
}

func device(desired string) v1alpha1.Device {
	d := v1alpha1.Device{Spec: v1alpha1.DeviceSpec{
		ModelRef: v1alpha1.ModelRef{Name: "press"}, NodeName: "edge",
		Protocol:   v1alpha1.Protocol{Sim: &v1alpha1.Sim{Interval: &v1alpha1.Duration{Duration: 5 * time.Millisecond}}},
		Properties: []v1alpha1.DeviceProperty{{Name: "count", Sim: &v1alpha1.SimProperty{Waveform: v1alpha1.WaveCounter}}, {Name: "setpoint"}},
	}}
	d.Namespace, d.Name, d.UID = "plant", "press-1", "u-1"
	if desired != "" {
		d.Spec.Properties[1].Desired = &v1alpha1.JSON{Raw: []byte(desired)}
	}
	return d
}

func condition(st v1alpha1.DeviceStatus, kind string) string {
	for _, c := range st.Conditions {
		if c.Type == kind {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}

func value(st v1alpha1.DeviceStatus, name string) string {
	for _, t := range st.Twins {
		if t.Name == name && t.Value != nil {
			return t.Value.String()
		}
	}
	return ""
}

// counts gives the values of count in the outbox, in order.
func (b *bed) counts() (all []uint64) {
	b.t.Helper()
	for after := uint64(0); ; {
		m, ok, err := b.store.Outbox().Next(after)
		if err != nil {
			b.t.Fatal(err)
		}
		if !ok {
			return all
		}
		after = m.Seq
		f, err := devices.ParseFrame(m.Value)
		if err != nil || wire.Subject(m.Subject) != wire.SubjectSamples || m.Key != "devices/plant/press-1" || f.UID != "u-1" {
			b.t.Fatalf("entry %+v: %v", m, err)
		}
		for _, s := range f.Samples {
			if v, ok := s.Value.(uint64); ok && s.Property == "count" && s.Quality.IsGood() {
				all = append(all, v)
			}
		}
	}
}

// TestDevice: a simulated device is connected, told, written and no longer there.
func TestDevice(t *testing.T) {
	b := newBed(t)
	m, _ := b.start(simulated())
	b.put(wire.ResourceDevices, "press-1", device(""))
	m.Wake("devices/plant/press-1")
	b.until("a missing model", func(st v1alpha1.DeviceStatus) bool { return condition(st, "Degraded") == "True ModelMissing" })
	b.put(wire.ResourceDeviceModels, "press", model())
	m.Wake("devicemodels/plant/press")
	b.until("values", func(st v1alpha1.DeviceStatus) bool {
		return condition(st, "Connected") == "True Connected" && condition(st, "Degraded") == "False AsExpected" &&
			value(st, "setpoint") == "0" && st.Summary == "2/2 good"
	})
	conn := connOf(m, "plant", "press-1")
	b.put(wire.ResourceDevices, "press-1", device("42"))
	m.Wake("devices/plant/press-1")
	st := b.until("the desired value", func(st v1alpha1.DeviceStatus) bool { return value(st, "setpoint") == "42" })
	if condition(st, "Synced") != "True AsDesired" || st.Counters.Writes != 1 {
		t.Errorf("synced: %s, %d writes", condition(st, "Synced"), st.Counters.Writes)
	}
	if connOf(m, "plant", "press-1") != conn {
		t.Error("the device was opened anew for another desired value")
	}
	b.put(wire.ResourceDevices, "press-1", device(`"fast"`))
	m.Wake("devices/plant/press-1")
	b.until("a value that is none", func(st v1alpha1.DeviceStatus) bool {
		return condition(st, "Synced") == "False NotAsDesired" && len(st.Twins) == 2 && st.Twins[1].LastError != ""
	})
	if err := b.store.Apply(store.Batch{Deletes: []string{"devices/plant/press-1"}}); err != nil {
		t.Fatal(err)
	}
	m.Wake("devices/plant/press-1")
	for connOf(m, "plant", "press-1") != nil {
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells of it
	}
}

// TestNobodyTakesSamples: where the cloud says that it drops them, none are kept for it;
// what the driver knows and the status are as ever.
func TestNobodyTakesSamples(t *testing.T) {
	b := newBed(t)
	node := func(annotations map[string]string) {
		t.Helper()
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "edge", Annotations: annotations}}
		value, err := n.Marshal()
		if err == nil {
			err = b.store.Apply(store.Batch{Upserts: []store.Object{{Key: "nodes/edge", Version: fmt.Sprint(annotations), Value: value}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	node(nil)
	b.put(wire.ResourceDevices, "press-1", device(""))
	b.put(wire.ResourceDeviceModels, "press", model())
	m, _ := b.start(simulated())
	b.until("samples", func(st v1alpha1.DeviceStatus) bool { return st.Counters.Reported > 20 })
	if got := b.counts(); len(got) > 0 {
		t.Errorf("%d samples are kept for nobody", len(got))
	}
	node(map[string]string{wire.AnnotationSamples: "true"})
	m.Wake("nodes/edge")
	for len(b.counts()) == 0 {
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells of it
	}
}

// quietDriver opens devices of which nothing is heard but that they can't be reached.
type quietDriver struct{}

func (quietDriver) Open(_ *devices.Device, port devices.Port, _ *slog.Logger) (devices.Conn, error) {
	return quietConn{port: port}, nil
}

type quietConn struct {
	devices.Conn
	port devices.Port
}

func (c quietConn) Run(ctx context.Context) error {
	c.port.Report(devices.Health{Reason: devices.ReasonConnecting})
	c.port.Report(devices.Health{Reason: "NoAnswer"})
	<-ctx.Done()
	return nil
}

// TestLastValuesOverARestart: what a device was is known after a restart, as long as it
// is the same one; one that can't be reached has the last usable values, and what was
// told is not told again.
func TestLastValuesOverARestart(t *testing.T) {
	b := newBed(t)
	b.put(wire.ResourceDevices, "press-1", device("42"))
	b.put(wire.ResourceDeviceModels, "press", model())
	_, stop := b.start(simulated())
	b.until("values", func(st v1alpha1.DeviceStatus) bool { return value(st, "setpoint") == "42" && st.Summary == "2/2 good" })
	stop()
	setpoints := func() (n int) {
		for after := uint64(0); ; {
			m, ok, err := b.store.Outbox().Next(after)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return n
			}
			after = m.Seq
			f, err := devices.ParseFrame(m.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range f.Samples {
				if s.Property == "setpoint" {
					n++
				}
			}
		}
	}
	before, count := setpoints(), len(b.counts())
	_, stop = b.start(simulated())
	for len(b.counts()) < count+20 {
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells of it
	}
	stop()
	if now := setpoints(); now != before {
		t.Errorf("what had been told was told %d times more", now-before)
	}
	b.told = nil
	_, stop = b.start(map[string]devices.Driver{"sim": quietDriver{}})
	st := b.until("a device that is gone", func(st v1alpha1.DeviceStatus) bool { return condition(st, "Connected") == "False NoAnswer" })
	if value(st, "setpoint") != "42" || st.Twins[1].Quality != devices.UncertainLastUsable.String() {
		t.Errorf("the last usable values are %+v", st.Twins)
	}
	stop()
	other := device("42")
	other.Spec.Protocol.Sim.Seed = 5
	b.put(wire.ResourceDevices, "press-1", other)
	b.told = nil
	b.start(map[string]devices.Driver{"sim": quietDriver{}})
	st = b.until("another device", func(st v1alpha1.DeviceStatus) bool { return condition(st, "Connected") == "False NoAnswer" })
	if value(st, "setpoint") != "" {
		t.Errorf("of another device it is known that %+v", st.Twins)
	}
}

// TestKilled: after an end that was none, the first sample of each property goes on.
func TestKilled(t *testing.T) {
	b := newBed(t)
	b.put(wire.ResourceDevices, "press-1", device(""))
	b.put(wire.ResourceDeviceModels, "press", model())
	m, stop := b.start(simulated())
	b.until("values", func(st v1alpha1.DeviceStatus) bool { return st.Summary == "2/2 good" })
	m.mu.Lock()
	w := m.workers["u-1"]
	m.mu.Unlock()
	w.keep(time.Now().Add(memoryInterval), false)
	killed, err := b.store.GetPrivate(factMemory + "u-1")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := b.store.SetPrivate(factMemory+"u-1", killed); err != nil {
		t.Fatal(err)
	}
	next := newWorker(m.cfg, w.want)
	for _, name := range next.order {
		if v := next.twins[name]; !v.known || !v.must {
			t.Errorf("%s: known %t, must be told %t", name, v.known, v.must)
		}
	}
}

// TestRestart: what was delivered is in the outbox once, however often the agent
// ends.
func TestRestart(t *testing.T) {
	b := newBed(t)
	b.put(wire.ResourceDevices, "press-1", device(""))
	b.put(wire.ResourceDeviceModels, "press", model())
	for range 4 {
		before := len(b.counts())
		_, stop := b.start(simulated())
		for len(b.counts()) < before+20 {
			time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells of it
		}
		stop()
	}
	for i, v := range b.counts() {
		if v != uint64(i) {
			t.Fatalf("value %d is %d: one is lost, or doubled", i, v)
		}
	}
}

func TestForeignDevice(t *testing.T) {
	b := newBed(t)
	d := device("")
	d.Spec.NodeName = "other"
	b.put(wire.ResourceDevices, "press-1", d)
	m, err := New(Config{Store: b.store, Report: b, Node: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.read(); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

// wild is a driver that panics.
type wild struct{ sim.Driver }

func (w wild) Open(dev *devices.Device, port devices.Port, _ *slog.Logger) (devices.Conn, error) { //nolint:ireturn // devices.Driver
	conn, err := w.Driver.Open(dev, port, nil)
	return panicking{conn}, err
}

type panicking struct{ devices.Conn }

func (panicking) Run(context.Context) error { panic("no") }

func TestPanic(t *testing.T) {
	b := newBed(t)
	b.put(wire.ResourceDevices, "press-1", device(""))
	b.put(wire.ResourceDeviceModels, "press", model())
	b.start(map[string]devices.Driver{"sim": wild{}})
	b.until("the driver's fault", func(st v1alpha1.DeviceStatus) bool { return condition(st, "Degraded") == "True DriverFailed" })
}

// TestLargeBatch: frames fit into reports, and a value that does not is told as
// too large.
func TestLargeBatch(t *testing.T) {
	w := newWorker(Config{Store: newBed(t).store, Bus: noBus{}, Log: slog.New(slog.DiscardHandler)}, &wanted{device: device("")})
	var in []devices.Sample
	for i := range 3000 {
		in = append(in, devices.Sample{Property: "count", Value: fmt.Sprintf("%0100d", i)})
	}
	in = slices.Insert(in, 7, devices.Sample{Property: "count", Value: make([]byte, maxFrame+1)})
	d, err := w.delivery(slices.Clone(in), []devices.Gap{{Reason: "Outage"}})
	if err != nil {
		t.Fatal(err)
	}
	var out []devices.Sample
	gaps := 0
	for _, m := range d.Entries {
		f, err := devices.ParseFrame(m.Value)
		if err != nil || len(m.Value) > maxFrame {
			t.Fatalf("frame of %d bytes: %v", len(m.Value), err)
		}
		out = append(out, f.Samples...)
		gaps += len(f.Gaps)
	}
	if len(out) != len(in) || gaps != 1 || out[7].Quality != badEncodingLimits || out[3000].Value != in[3000].Value {
		t.Errorf("%d of %d samples, %d gaps", len(out), len(in), gaps)
	}
}

// TestStatusIsBounded: 4096 properties of long values are told within 64 KiB.
func TestStatusIsBounded(t *testing.T) {
	m := model().Spec
	d := device("")
	for i := range 4000 {
		name := fmt.Sprintf("p%d", i)
		m.Properties = append(m.Properties, v1alpha1.Property{Name: name, ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeString}})
		d.Spec.Properties = append(d.Spec.Properties, v1alpha1.DeviceProperty{Name: name})
	}
	w := newWorker(Config{Store: newBed(t).store, Bus: noBus{}, Log: slog.New(slog.DiscardHandler)}, &wanted{device: d, model: &m})
	for _, v := range w.twins {
		v.known, v.shown = true, devices.Sample{Value: fmt.Sprintf("%02000d", 1)}
	}
	text, err := json.Marshal(w.statusLocked(time.Now()))
	if err != nil || len(text) > maxStatus || w.statusLocked(time.Now()).OmittedTwins == 0 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// connOf is the open connection of a device, nil while there is none.
func connOf(m *Manager, namespace, name string) devices.Conn { //nolint:ireturn // the driver's
	l, _ := m.Live(namespace, name)
	return l.conn
}
