package devices

import (
	"context"
	"errors"
	"log/slog"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Errors of Conn, to be tested with errors.Is.
var (
	// ErrNotConnected: there is no connection to the device now. Trying again
	// later helps.
	ErrNotConnected = errors.New("not connected to the device")
	// ErrUnknownProperty: the Device has no property, or no method, of that
	// name.
	ErrUnknownProperty = errors.New("no such property or method in the Device")
)

// Driver speaks one protocol. One value serves all devices of an edge, from
// many goroutines, and shares between them what they share: buses, gateways,
// sessions.
type Driver interface {
	// Open checks the device's configuration and does no I/O. An error is one
	// of the configuration: it names the field (ConfigError) and stands until
	// the Device is changed. The Conn does nothing until Run.
	Open(dev *Device, port Port, log *slog.Logger) (Conn, error)
}

// Conn is a device as its driver sees it. Read, Write and Call work while Run
// does, from many goroutines; they fail at once with ErrNotConnected when there
// is no connection, and with ctx's error when it ends.
type Conn interface {
	// Run connects, samples, delivers and reconnects until ctx ends, and
	// returns when all that it started has ended. The error is nil or ctx's: a
	// device that can't be reached is no reason to return, but to Report.
	Run(ctx context.Context) error
	// Read asks the device for values now: one sample for each property, in
	// order, with a bad quality for what could not be read. They are not
	// delivered to the port. The error is that of the whole request.
	Read(ctx context.Context, properties []string) ([]Sample, error)
	// Write writes values and, where the Device says so, reads them back. Each
	// value is coerced to the property's type (Coerce) and checked against its
	// range and access. The errors are one for each write, nil for those that
	// the device took; a QualityError has the reason in the device's terms.
	Write(ctx context.Context, writes []Write) []error
	// Call calls a method with its arguments in order and returns its results.
	Call(ctx context.Context, method string, args []Field) ([]Field, error)
}

// Port is where a Conn delivers. Its methods may be called from many
// goroutines, from Open's return until Run's.
type Port interface {
	// Deliver returns nil once the whole batch is on the disk: only then may
	// the driver acknowledge to the device. It blocks while the store is short
	// of room. After an error, which is ctx's or that of a batch that is too
	// large (ErrBatchTooLarge) or of a store that failed, nothing of the batch
	// is stored.
	Deliver(ctx context.Context, b Batch) error
	// State is the driver's private state as delivered last, nil for none. It
	// outlives the process. It is not of this protocol or version of the
	// driver when those were changed: drivers mark and check it.
	State() []byte
	// Report says how the device is. It is cheap, and saying the same again
	// changes nothing.
	Report(h Health)
}

// Write is a value for a property.
type Write struct {
	Property string
	Value    Value
}

// Device is what a driver is opened with. It does not change: for a Device that
// was changed, the Conn is ended and a new one opened, unless only desired
// values or report policies are other ones.
type Device struct {
	Namespace, Name, UID string

	Spec  v1alpha1.DeviceSpec
	Model v1alpha1.DeviceModelSpec
	// Secrets returns the data of a Secret of the Device's namespace that the
	// spec names, false if it isn't there (yet). When one is changed, the Conn
	// is ended and opened anew.
	Secrets func(name string) (map[string][]byte, bool)
}

// Key is namespace and name, as in "plant/press-1".
func (d *Device) Key() string { return d.Namespace + "/" + d.Name }

// Property returns the model's property, false if there is none of that name.
func (d *Device) Property(name string) (v1alpha1.Property, bool) {
	for _, p := range d.Model.Properties {
		if p.Name == name {
			return p, true
		}
	}
	return v1alpha1.Property{}, false
}

// Method returns the model's method, false if there is none of that name.
func (d *Device) Method(name string) (v1alpha1.Method, bool) {
	for _, m := range d.Model.Methods {
		if m.Name == name {
			return m, true
		}
	}
	return v1alpha1.Method{}, false
}

// ConfigError is a fault of a Device or its model.
type ConfigError struct {
	// Field is the path, as in spec.protocol.modbus.rtu.device.
	Field string
	// Reason says what is wrong and what would be right.
	Reason string
}

// Error is the field and the reason.
func (e *ConfigError) Error() string { return e.Field + ": " + e.Reason }
