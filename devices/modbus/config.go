package modbus

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/frame"
	"github.com/skerry-io/skerry/devices/modbus/serial"
	"github.com/skerry-io/skerry/devices/modbus/value"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const (
	defaultInterval = time.Second
	defaultTimeout  = time.Second
	base            = "spec.protocol.modbus"
)

// config is a Device, checked.
type config struct {
	endpoint   Endpoint
	unit       byte
	timeout    time.Duration
	pause      time.Duration
	registers  int
	bits       int
	properties []*property
	byName     map[string]*property
	model      *v1alpha1.DeviceModelSpec
}

// property is one of a Device.
type property struct {
	model    v1alpha1.Property
	codec    *value.Codec
	interval time.Duration
	verify   bool
}

func (p *property) readable() bool { return p.model.Access != v1alpha1.WriteOnly }

func fault(field, format string, args ...any) error {
	return &devices.ConfigError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// parse checks a Device. What the CRD's validation refuses is refused here, too: an
// edge may hold an object of another age.
func parse(dev *devices.Device) (*config, error) {
	m := dev.Spec.Protocol.Modbus
	if m == nil {
		return nil, fault(base, "is missing")
	}
	endpoint, err := parseEndpoint(m)
	if err != nil {
		return nil, err
	}
	c := &config{
		endpoint: endpoint, unit: byte(m.UnitID), timeout: m.Timeout.Or(defaultTimeout), pause: m.Pause.Or(0),
		registers: int(m.MaxRegisters), bits: int(m.MaxBits), byName: map[string]*property{}, model: &dev.Model,
	}
	switch {
	case m.UnitID < 0 || m.UnitID > 255:
		return nil, fault(base+".unitId", "%d is not within 0 to 255", m.UnitID)
	case endpoint.RTU && (m.UnitID < 1 || m.UnitID > 247):
		return nil, fault(base+".unitId", "%d can't be asked on a serial line: units are 1 to 247, 0 is for all", m.UnitID)
	case c.timeout <= 0:
		return nil, fault(base+".timeout", "must be above 0")
	}
	for i := range dev.Spec.Properties {
		p := &dev.Spec.Properties[i]
		field := fmt.Sprintf("spec.properties[%d]", i)
		if c.byName[p.Name] != nil {
			return nil, fault(field+".name", "property %s is there twice", p.Name)
		}
		prop, err := parseProperty(dev, p, field, m.PollInterval.Or(defaultInterval))
		if err != nil {
			return nil, err
		}
		if limit := c.limit(prop); prop.codec.Count > limit {
			return nil, fault(field+".modbus.length", "the value takes %d elements, one request may ask for %d", prop.codec.Count, limit)
		}
		c.properties = append(c.properties, prop)
		c.byName[p.Name] = prop
	}
	return c, nil
}

// limit is how many elements of a property's table a request may ask for.
func (c *config) limit(p *property) int {
	given := c.registers
	if p.codec.Bits() {
		given = c.bits
	}
	if given <= 0 {
		return 1 << 16
	}
	return given
}

func parseProperty(dev *devices.Device, p *v1alpha1.DeviceProperty, field string, interval time.Duration) (*property, error) {
	if p.Modbus == nil {
		return nil, fault(field+".modbus", "is missing")
	}
	model, ok := dev.Property(p.Name)
	if !ok {
		return nil, fault(field+".name", "the model %s has no such property", dev.Spec.ModelRef.Name)
	}
	field += ".modbus"
	codec, err := value.New(*p.Modbus, model.ValueType, &dev.Model)
	if e, ok := errors.AsType[*devices.ConfigError](err); ok {
		return nil, fault(field+"."+e.Field, "%s", e.Reason)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	writable := model.Access == v1alpha1.ReadWrite || model.Access == v1alpha1.WriteOnly
	if writable && p.Modbus.Table != v1alpha1.TableCoil && p.Modbus.Table != v1alpha1.TableHolding {
		return nil, fault(field+".table", "table %s can't be written, the model has access %s: take coil or holding", p.Modbus.Table, model.Access)
	}
	interval = p.Modbus.PollInterval.Or(interval)
	if interval < time.Millisecond {
		return nil, fault(field+".pollInterval", "%v is below 1ms", interval)
	}
	return &property{model: model, codec: codec, interval: interval, verify: p.Verify}, nil
}

func parseEndpoint(m *v1alpha1.Modbus) (Endpoint, error) {
	n := 0
	for _, given := range []bool{m.TCP != nil, m.RTU != nil, m.RTUOverTCP != nil} {
		if given {
			n++
		}
	}
	switch {
	case n != 1:
		return Endpoint{}, fault(base, "needs exactly one of tcp, rtu and rtuOverTCP")
	case m.TCP != nil:
		return Endpoint{Address: m.TCP.Address}, checkAddress(base+".tcp.address", m.TCP.Address)
	case m.RTUOverTCP != nil:
		return Endpoint{Address: m.RTUOverTCP.Address, RTU: true}, checkAddress(base+".rtuOverTCP.address", m.RTUOverTCP.Address)
	}
	r := m.RTU
	e := Endpoint{Path: r.Device, RTU: true, Line: frame.Line{Baud: int(r.BaudRate), StopBits: int(r.StopBits)}}
	if !strings.HasPrefix(r.Device, "/dev/") || strings.Contains(r.Device, "..") {
		return e, fault(base+".rtu.device", "%q is no file below /dev", r.Device)
	}
	if e.Line.Baud == 0 {
		e.Line.Baud = 9600
	}
	if e.Line.Baud < 50 || e.Line.Baud > 4_000_000 {
		return e, fault(base+".rtu.baudRate", "%d is not within 50 to 4000000", e.Line.Baud)
	}
	switch r.Parity {
	case v1alpha1.ParityEven, "":
		e.Parity = serial.Even
	case v1alpha1.ParityOdd:
		e.Parity = serial.Odd
	case v1alpha1.ParityNone:
		e.Parity = serial.None
	default:
		return e, fault(base+".rtu.parity", "%q is none of None, Even and Odd", r.Parity)
	}
	e.Line.Parity = e.Parity != serial.None
	switch {
	case e.Line.StopBits == 0 && e.Line.Parity:
		e.Line.StopBits = 1
	case e.Line.StopBits == 0:
		e.Line.StopBits = 2
	case e.Line.StopBits > 2:
		return e, fault(base+".rtu.stopBits", "%d is neither 1 nor 2", e.Line.StopBits)
	}
	return e, nil
}

func checkAddress(field, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fault(field, "%q is no HOST:PORT", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fault(field, "%q is no port", port)
	}
	return nil
}
