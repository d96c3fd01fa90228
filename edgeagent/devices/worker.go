package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/twin"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const (
	// statusInterval is how often a device's status goes up at most.
	statusInterval = time.Second
	// writeTimeout bounds the write of desired values.
	writeTimeout = 30 * time.Second
	// firstRestart and lastRestart bound the wait before a driver that ended, or
	// panicked, is opened again.
	firstRestart = time.Second
	lastRestart  = 5 * time.Minute
)

// worker runs one Device.
type worker struct {
	cfg Config
	log *slog.Logger
	// namespace, name and uid are the Device's and never change.
	namespace, name, uid string
	turn                 chan struct{} // has a value while a batch is delivered: one at a time
	bell                 chan struct{} // capacity 1: something below has changed
	cancel               context.CancelFunc
	unwanted             *atomic.Bool  // the Manager's
	ended                chan struct{} // closed when all has ended

	mu       sync.Mutex // guards the following fields
	want     *wanted
	open     devices.Conn
	health   devices.Health
	fault    *fault // of the configuration, nil for none
	order    []string
	twins    map[string]*view
	counters v1alpha1.Counters
	lastGap  *v1alpha1.Gap
	status   statusWriter
	kept     keeper
	restored bool // twins are as at the last start, and the driver has said nothing yet
	writing  bool // a write of desired values is under way
}

// view is a property: its twin, and what the cloud has been told.
type view struct {
	twin    *twin.Twin
	shown   devices.Sample
	known   bool
	must    bool // the next sample goes on, whatever it is
	desired *v1alpha1.JSON
	invalid error // why the desired value can't be one
}

// fault is why a device can't be opened.
type fault struct{ reason, message string }

func newWorker(cfg Config, want *wanted) *worker {
	d := &want.device
	w := &worker{
		cfg: cfg, namespace: d.Namespace, name: d.Name, uid: string(d.UID), turn: make(chan struct{}, 1), log: cfg.Log.With("device", d.Namespace+"/"+d.Name), bell: make(chan struct{}, 1),
		ended: make(chan struct{}), want: want, twins: make(map[string]*view),
		health: devices.Health{Reason: devices.ReasonConnecting},
	}
	w.counters = loadCounters(cfg.Store, w.uid)
	w.configureLocked()
	w.remember()
	return w
}

func (w *worker) key() string { return w.namespace + "/" + w.name }

func (w *worker) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

func (w *worker) start(ctx context.Context) {
	ctx, w.cancel = context.WithCancel(ctx)
	go func() {
		defer close(w.ended)
		w.run(ctx)
	}()
}

func (w *worker) stop() { w.cancel() }

// change takes other desired values and policies; the connection stays.
func (w *worker) change(want *wanted) {
	w.mu.Lock()
	w.want = want
	w.configureLocked()
	w.mu.Unlock()
	w.ring()
}

// configureLocked makes the twins what the Device says.
func (w *worker) configureLocked() {
	model := w.want.model
	w.order = nil
	defer w.introduceLocked()
	if model == nil {
		return
	}
	dev := &devices.Device{Model: *model}
	spec := &w.want.device.Spec
	for i := range spec.Properties {
		dp := &spec.Properties[i]
		p, ok := dev.Property(dp.Name)
		if !ok {
			continue // Open says so
		}
		cfg := twin.Config{Property: p}
		switch {
		case dp.Report != nil:
			cfg.Policy = *dp.Report
		case spec.Report != nil:
			cfg.Policy = *spec.Report
		}
		if dp.Modbus != nil && dp.Modbus.Scale != nil {
			cfg.Resolution = max(*dp.Modbus.Scale, -*dp.Modbus.Scale)
		}
		v := w.twins[dp.Name]
		if v == nil {
			v = &view{}
			w.twins[dp.Name] = v
		}
		v.desired, v.invalid = dp.Desired, nil
		if dp.Desired != nil {
			var err error
			if cfg.Desired, err = devices.DecodeJSON(dp.Desired.Raw, p.ValueType, model); err == nil {
				cfg.Desired, err = devices.CoerceProperty(cfg.Desired, p, model)
			}
			if err != nil {
				cfg.Desired, v.invalid = nil, err
			}
		}
		if v.twin == nil {
			v.twin = twin.New(cfg)
		} else {
			v.twin.Change(cfg)
		}
		w.order = append(w.order, dp.Name)
	}
}

// run opens the device, and again when the driver gives up, until ctx ends.
func (w *worker) run(ctx context.Context) {
	defer func() { w.keep(time.Now(), true) }()
	for wait := firstRestart; ctx.Err() == nil; wait = min(2*wait, lastRestart) {
		began := time.Now()
		err := w.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastRestart {
			wait = firstRestart
		}
		w.log.Error("driver of a device ended, it is opened again", "error", err, "wait", wait)
		w.setFault(&fault{"DriverFailed", fmt.Sprint(err)})
		_ = w.loop(ctx, nil, nil, time.After(wait)) // ends with ctx or the wait
	}
}

func (w *worker) setFault(f *fault) {
	w.mu.Lock()
	w.fault = f
	var lost []devices.Sample
	if f != nil {
		if w.health.Connected || w.restored {
			lost = w.lostLocked(time.Now())
		}
		w.health = devices.Health{Reason: f.reason, Message: f.message, Since: time.Now()}
		w.open = nil
	}
	h := w.health
	w.mu.Unlock()
	w.tell(lost)
	w.cfg.Bus.Health(w.busName(), h)
	w.ring()
}

// runOnce opens the device and serves it for as long as the driver runs.
func (w *worker) runOnce(ctx context.Context) error {
	conn, f := w.tryOpen()
	if f != nil {
		w.log.Warn("device can't be opened", "reason", f.reason, "error", f.message)
		w.setFault(f)
		return w.loop(ctx, nil, nil, nil) // until the Device is changed
	}
	w.mu.Lock()
	w.fault, w.open = nil, conn
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- shielded(func() error { return conn.Run(ctx) }) }()
	err := w.loop(ctx, conn, ended, nil)
	w.mu.Lock()
	w.open = nil
	w.mu.Unlock()
	return err
}

// tryOpen opens the device, or says why not.
func (w *worker) tryOpen() (conn devices.Conn, f *fault) { //nolint:ireturn // the driver's
	w.mu.Lock()
	want := w.want
	w.mu.Unlock()
	spec := &want.device.Spec
	driver := w.cfg.Drivers[spec.Protocol.Name()]
	switch {
	case want.model == nil:
		return nil, &fault{"ModelMissing", fmt.Sprintf("there is no DeviceModel %q in namespace %s", spec.ModelRef.Name, want.device.Namespace)}
	case driver == nil:
		return nil, &fault{"ProtocolNotSupported", fmt.Sprintf("this edge has no driver for protocol %q", spec.Protocol.Name())}
	}
	dev := &devices.Device{
		Namespace: want.device.Namespace, Name: want.device.Name, UID: string(want.device.UID),
		Spec: *spec.DeepCopy(), Model: *want.model.DeepCopy(),
		Secrets: func(name string) (map[string][]byte, bool) { data, ok := want.secrets[name]; return data, ok },
	}
	err := shielded(func() (err error) {
		conn, err = driver.Open(dev, port{w}, w.log)
		return err
	})
	var config *devices.ConfigError
	switch {
	case errors.As(err, &config):
		return nil, &fault{"InvalidConfiguration", config.Error()}
	case err != nil:
		return nil, &fault{"OpenFailed", err.Error()}
	}
	return conn, nil
}

// loop does what time asks for, and returns when the driver has ended (a nil
// channel is none), at until, or with ctx when the driver has ended.
func (w *worker) loop(ctx context.Context, conn devices.Conn, ended <-chan error, until <-chan time.Time) error {
	var writes sync.WaitGroup
	defer writes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if conn != nil {
			w.tick(time.Now())
			w.writeDesired(ctx, conn, &writes)
		}
		w.publish(time.Now())
		w.keep(time.Now(), false)
		timer.Reset(w.untilNext(time.Now()))
		select {
		case err := <-ended:
			return err
		case <-until:
			return nil
		case <-w.bell:
		case <-timer.C:
		case <-ctx.Done():
			if ended != nil {
				<-ended //nolint:errcheck // the context's
			}
			return ctx.Err()
		}
	}
}

// shielded turns a panic of a driver, which reads what devices send, into an error.
func shielded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}
