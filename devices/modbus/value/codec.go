package value

import (
	"fmt"
	"math"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Codec is how one property lies in a device. Its methods may run at once.
type Codec struct {
	// Table, Address and Count say where: so many bits or registers.
	Table   v1alpha1.ModbusTable
	Address int
	Count   int

	spec   v1alpha1.ModbusProperty
	raw    v1alpha1.ModbusType
	width  int // registers or bits of an element
	number int // of elements, 0 for one that is no array
	linear *linear
	names  map[int32]string // of an enumeration

	kind  v1alpha1.ValueType // of an element
	types *v1alpha1.DeviceModelSpec
}

// New checks an address against the model's type. The error is a
// *devices.ConfigError whose Field is below the property's.
func New(p v1alpha1.ModbusProperty, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec) (*Codec, error) {
	c := &Codec{Table: p.Table, Address: int(p.Address), spec: p, raw: p.Type, kind: t, types: model}
	c.kind.Dimensions = nil
	if c.raw == "" {
		c.raw = v1alpha1.ModbusBool
	}
	switch len(t.Dimensions) {
	case 0:
	case 1:
		c.number = int(t.Dimensions[0])
	}
	if len(t.Dimensions) > 1 || len(t.Dimensions) == 1 && c.number == 0 {
		return nil, bad("type", "the model's type is an array of no fixed length or of several dimensions; Modbus has lists of a fixed length, dimensions: [N]")
	}
	if err := c.layout(); err != nil {
		return nil, err
	}
	if c.Address < 0 || c.Address+c.Count > 1<<16 {
		return nil, bad("address", fmt.Sprintf("%d elements from %d on end past 65535", c.Count, c.Address))
	}
	limit := pdu.MaxReadRegisters
	if c.Bits() {
		limit = pdu.MaxReadBits
	}
	if c.Count > limit {
		return nil, bad("length", fmt.Sprintf("the value takes %d elements, one request reads %d", c.Count, limit))
	}
	if err := c.scaling(); err != nil {
		return nil, err
	}
	return c, c.matches()
}

func bad(field, reason string) error { return &devices.ConfigError{Field: field, Reason: reason} }

// Bits reports whether the table has bits.
func (c *Codec) Bits() bool {
	return c.Table == v1alpha1.TableCoil || c.Table == v1alpha1.TableDiscrete
}

// Function is the one that reads the value.
func (c *Codec) Function() pdu.Function {
	switch c.Table {
	case v1alpha1.TableCoil:
		return pdu.ReadCoils
	case v1alpha1.TableDiscrete:
		return pdu.ReadDiscreteInputs
	case v1alpha1.TableInput:
		return pdu.ReadInputRegisters
	default:
		return pdu.ReadHoldingRegisters
	}
}

// layout sets width and Count.
func (c *Codec) layout() error {
	switch c.Table {
	case v1alpha1.TableCoil, v1alpha1.TableDiscrete:
		if c.raw != v1alpha1.ModbusBool {
			return bad("type", fmt.Sprintf("table %s holds bools, not %s", c.Table, c.raw))
		}
		c.width = 1
		c.Count = max(1, c.number)
		return nil
	case v1alpha1.TableInput, v1alpha1.TableHolding:
	default:
		return bad("table", fmt.Sprintf("%q is none of coil, discrete, input and holding", c.Table))
	}
	switch c.raw {
	case v1alpha1.ModbusBool:
		if c.spec.Bit == nil || *c.spec.Bit < 0 || *c.spec.Bit > 15 {
			return bad("bit", "a bool in a register needs bit, 0 to 15")
		}
		if c.number > 0 {
			return bad("type", "there are no lists of bits of registers")
		}
		c.width = 1
	case v1alpha1.ModbusInt8, v1alpha1.ModbusUint8, v1alpha1.ModbusInt16, v1alpha1.ModbusUint16, v1alpha1.ModbusBCD16:
		c.width = 1
	case v1alpha1.ModbusInt32, v1alpha1.ModbusUint32, v1alpha1.ModbusFloat32, v1alpha1.ModbusBCD32:
		c.width = 2
	case v1alpha1.ModbusInt64, v1alpha1.ModbusUint64, v1alpha1.ModbusFloat64:
		c.width = 4
	case v1alpha1.ModbusString, v1alpha1.ModbusBytes:
		if c.spec.Length < 1 {
			return bad("length", "a string or bytes need length, the number of registers")
		}
		c.width = int(c.spec.Length)
	default:
		return bad("type", fmt.Sprintf("%q is no type of registers", c.raw))
	}
	c.Count = c.width * max(1, c.number)
	return nil
}

// scaling sets linear.
func (c *Codec) scaling() error {
	scale, offset := 1.0, 0.0
	if c.spec.Scale != nil {
		scale = *c.spec.Scale
	}
	if c.spec.Offset != nil {
		offset = *c.spec.Offset
	}
	switch {
	case scale == 1 && offset == 0:
		return nil
	case !c.isNumber():
		return bad("scale", fmt.Sprintf("scale and offset need a number, not %s", c.raw))
	case scale == 0 || math.IsNaN(scale) || math.IsInf(scale, 0):
		return bad("scale", "the scale must be a number other than 0")
	case math.IsNaN(offset) || math.IsInf(offset, 0):
		return bad("offset", "the offset must be a number")
	}
	c.linear = newLinear(scale, offset)
	return nil
}

func (c *Codec) isNumber() bool {
	return c.raw != v1alpha1.ModbusBool && c.raw != v1alpha1.ModbusString && c.raw != v1alpha1.ModbusBytes
}

func (c *Codec) isFloat() bool {
	return c.raw == v1alpha1.ModbusFloat32 || c.raw == v1alpha1.ModbusFloat64
}

// matches checks that what is in the device can be of the model's type.
func (c *Codec) matches() error {
	no := func(why string) error {
		return bad("type", fmt.Sprintf("%s can't be the model's type %s%s", c.raw, c.kind.Type, why))
	}
	switch c.kind.Type {
	case v1alpha1.TypeBool:
		if c.raw != v1alpha1.ModbusBool {
			return no("")
		}
	case v1alpha1.TypeString:
		if c.raw != v1alpha1.ModbusString {
			return no("")
		}
	case v1alpha1.TypeBytes:
		if c.raw != v1alpha1.ModbusBytes {
			return no("")
		}
	case v1alpha1.TypeFloat32, v1alpha1.TypeFloat64:
		if !c.isNumber() {
			return no("")
		}
	case v1alpha1.TypeInt8, v1alpha1.TypeInt16, v1alpha1.TypeInt32, v1alpha1.TypeInt64,
		v1alpha1.TypeUint8, v1alpha1.TypeUint16, v1alpha1.TypeUint32, v1alpha1.TypeUint64, v1alpha1.TypeEnum:
		if !c.isNumber() {
			return no("")
		}
		if c.linear != nil && (!c.linear.whole() || c.isFloat()) {
			return no(": scaled values are not whole; the model should have float64")
		}
		if c.kind.Type == v1alpha1.TypeEnum {
			return c.enumeration()
		}
	default:
		return no("")
	}
	return nil
}

func (c *Codec) enumeration() error {
	if c.isFloat() {
		return bad("type", "an enumeration needs an integer")
	}
	if c.types != nil {
		for _, t := range c.types.Types {
			if t.Name == c.kind.TypeName && t.Kind == v1alpha1.TypeEnum {
				c.names = map[int32]string{}
				for _, v := range t.Values {
					c.names[v.Number] = v.Name
				}
				return nil
			}
		}
	}
	return bad("type", "the model has no enumeration "+c.kind.TypeName)
}
