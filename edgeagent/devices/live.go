package devices

import (
	"context"

	"github.com/skerry-io/skerry/devices"
)

// Live is a device to be read, written and called by hand.
type Live struct {
	worker *worker
	// Device is as the store has it. It is not to be changed.
	Device *devices.Device
	// Fault is why there is no Conn, "" if there is one.
	Fault string
	conn  devices.Conn
}

// Live gives a device of this edge, false if there is none.
func (m *Manager) Live(namespace, name string) (Live, bool) {
	m.mu.Lock()
	var found *worker
	for _, w := range m.workers {
		if w.namespace == namespace && w.name == name {
			found = w
		}
	}
	m.mu.Unlock()
	if found == nil {
		return Live{}, false
	}
	found.mu.Lock()
	defer found.mu.Unlock()
	d := &found.want.device
	l := Live{worker: found, conn: found.open, Device: &devices.Device{Namespace: d.Namespace, Name: d.Name, UID: string(d.UID), Spec: d.Spec}}
	if found.want.model != nil {
		l.Device.Model = *found.want.model
	}
	switch {
	case found.open != nil:
	case found.fault != nil:
		l.Fault = found.fault.reason + ": " + found.fault.message
	default:
		l.Fault = "it is being opened"
	}
	return l, true
}

// Driver gives the driver of a protocol, nil if there is none.
func (m *Manager) Driver(protocol string) devices.Driver { return m.cfg.Drivers[protocol] } //nolint:ireturn // what it was given

// Read asks the device for values now, as devices.Conn says. What the device is not
// asked for now is not delivered.
func (l Live) Read(ctx context.Context, properties []string) (samples []devices.Sample, err error) {
	err = l.shielded(func() (err error) {
		samples, err = l.conn.Read(ctx, properties)
		return err
	})
	return samples, err
}

// Write writes values by hand and counts those that the device took.
func (l Live) Write(ctx context.Context, writes []devices.Write) []error {
	var errs []error
	if err := l.shielded(func() error { errs = l.conn.Write(ctx, writes); return nil }); err != nil {
		errs = make([]error, len(writes))
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	w := l.worker
	w.mu.Lock()
	for i, wr := range writes {
		if i >= len(errs) || errs[i] != nil {
			continue
		}
		w.counters.Writes++
		w.status.dirty = true
		w.log.Info("written by hand", "property", wr.Property)
	}
	w.mu.Unlock()
	w.ring()
	return errs
}

// Call calls a method by hand.
func (l Live) Call(ctx context.Context, method string, args []devices.Field) (out []devices.Field, err error) {
	l.worker.log.Info("method called by hand", "method", method)
	err = l.shielded(func() (err error) {
		out, err = l.conn.Call(ctx, method, args)
		return err
	})
	return out, err
}

func (l Live) shielded(f func() error) error {
	if l.conn == nil {
		return devices.ErrNotConnected
	}
	return shielded(f)
}
