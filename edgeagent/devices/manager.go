package devices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Reporter tells the cloud; report.Reporter is one.
type Reporter interface {
	// DeviceStatus publishes a device's status, in place of the one before. Only
	// namespace, name, UID and status count.
	DeviceStatus(d *v1alpha1.Device)
}

// Config is what a Manager needs.
type Config struct {
	// Store and Report are required.
	Store  *store.Store
	Report Reporter
	// Drivers are those that there are, by the protocol's name in Devices.
	Drivers map[string]devices.Driver
	// Node is the name of this edge: Devices of others are left alone. Required.
	Node string
	// Bus is told what the devices tell; nil is none.
	Bus Bus
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Manager runs the devices of an edge.
type Manager struct {
	cfg  Config
	bell chan struct{} // capacity 1
	// unwanted says that the cloud drops samples: they are not worth the link.
	unwanted atomic.Bool

	mu      sync.Mutex // guards the following field
	workers map[string]*worker
}

// New checks cfg. Run does the work.
func New(cfg Config) (*Manager, error) {
	if cfg.Store == nil || cfg.Report == nil || cfg.Node == "" {
		return nil, errors.New("devices config: Store, Report and Node are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Bus == nil {
		cfg.Bus = noBus{}
	}
	return &Manager{cfg: cfg, bell: make(chan struct{}, 1), workers: make(map[string]*worker)}, nil
}

// Wake tells that an object has changed: a Device, its model, a Secret that it may
// name, or the Node.
func (m *Manager) Wake(key string) {
	for _, r := range []wire.Resource{wire.ResourceDevices, wire.ResourceDeviceModels, wire.ResourceSecrets, wire.ResourceNodes} {
		if strings.HasPrefix(key, string(r)+"/") {
			select {
			case m.bell <- struct{}{}:
			default:
			}
			return
		}
	}
}

// Run brings the workers to what the store says, until ctx ends or the store
// fails, and returns when all have ended.
func (m *Manager) Run(ctx context.Context) error {
	defer m.stopAll()
	for {
		if err := m.sync(ctx); err != nil {
			return err
		}
		select {
		case <-m.bell:
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *Manager) stopAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		w.stop()
	}
	for _, w := range m.workers {
		<-w.ended
	}
}

// wanted is a Device with all that it is opened with.
type wanted struct {
	device  v1alpha1.Device
	model   *v1alpha1.DeviceModelSpec // nil: it is not there (yet)
	secrets map[string]map[string][]byte
	// connection is the same as long as the driver need not be opened anew.
	connection string
	// all is the same as long as nothing has changed.
	all string
}

func (m *Manager) sync(ctx context.Context) error {
	want, err := m.read()
	if err == nil {
		err = m.readNode()
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid, w := range m.workers {
		if next := want[uid]; next == nil || next.connection != w.want.connection {
			w.stop()
			<-w.ended
			delete(m.workers, uid)
			if next == nil {
				m.cfg.Log.Info("device is no longer this edge's", "device", w.key())
				m.cfg.Bus.Removed(w.busName())
				if err := m.cfg.Store.Forget(sourceOf(uid), factState+uid, factCounters+uid, factMemory+uid); err != nil && !errors.Is(err, store.ErrDiskFull) {
					return err
				}
			}
		}
	}
	for uid, next := range want {
		w := m.workers[uid]
		switch {
		case w == nil:
			w = newWorker(m.cfg, next)
			w.unwanted = &m.unwanted
			m.workers[uid] = w
			w.start(ctx)
		case w.want.all != next.all:
			w.change(next)
		}
	}
	return nil
}

// read gives the Devices of this edge by their UIDs. One that can't be decoded is
// logged and left out.
func (m *Manager) read() (map[string]*wanted, error) {
	all := make(map[string]*wanted)
	err := m.cfg.Store.List(string(wire.ResourceDevices)+"/", func(o store.Object) bool {
		w := &wanted{secrets: make(map[string]map[string][]byte)}
		if err := json.Unmarshal(o.Value, &w.device); err != nil {
			m.cfg.Log.Error("stored device can't be decoded", "key", o.Key, "error", err)
			return true
		}
		if d := &w.device; d.UID != "" && d.Spec.NodeName == m.cfg.Node {
			all[string(d.UID)] = w
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for _, w := range all {
		if err := m.complete(w); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readNode sees whether the cloud has somebody who takes samples. As long as it has not
// told anything of this edge's Node, it may.
func (m *Manager) readNode() error {
	o, err := m.cfg.Store.Get(wire.ClusterKey(wire.ResourceNodes, m.cfg.Node))
	if errors.Is(err, store.ErrNotFound) {
		m.unwanted.Store(false)
		return nil
	}
	if err != nil {
		return err
	}
	var node corev1.Node
	if err := node.Unmarshal(o.Value); err != nil {
		return fmt.Errorf("decode %s: %w", o.Key, err)
	}
	m.unwanted.Store(node.Annotations[wire.AnnotationSamples] != "true")
	return nil
}

// complete reads what a Device names.
func (m *Manager) complete(w *wanted) error {
	d := &w.device
	model, err := m.cfg.Store.Get(wire.ObjectKey(wire.ResourceDeviceModels, d.Namespace, d.Spec.ModelRef.Name))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil {
		var decoded v1alpha1.DeviceModel
		if err := json.Unmarshal(model.Value, &decoded); err != nil {
			m.cfg.Log.Error("stored device model can't be decoded", "key", model.Key, "error", err)
		} else {
			w.model = &decoded.Spec
		}
	}
	var versions strings.Builder
	versions.WriteString(model.Version)
	for _, name := range d.Spec.SecretNames() {
		o, err := m.cfg.Store.Get(wire.ObjectKey(wire.ResourceSecrets, d.Namespace, name))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		var secret corev1.Secret
		if err := secret.Unmarshal(o.Value); err != nil {
			return fmt.Errorf("decode %s: %w", o.Key, err)
		}
		w.secrets[name] = secret.Data
		versions.WriteString(" " + o.Version)
	}
	whole, err := json.Marshal(d.Spec)
	if err != nil {
		return fmt.Errorf("encode device %s/%s: %w", d.Namespace, d.Name, err)
	}
	bare := d.Spec.DeepCopy()
	bare.Report = nil
	for i := range bare.Properties {
		bare.Properties[i].Report, bare.Properties[i].Desired = nil, nil
	}
	connection, err := json.Marshal(bare)
	if err != nil {
		return fmt.Errorf("encode device %s/%s: %w", d.Namespace, d.Name, err)
	}
	w.connection = versions.String() + string(connection)
	w.all = versions.String() + string(whole)
	return nil
}
