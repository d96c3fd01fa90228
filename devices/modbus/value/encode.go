package value

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Encode makes the registers or bits of a value, which has the model's type
// (devices.Coerce). Bits are one byte each, 0 or 1. A bool in a register and an int8
// are a part of it: mask has the bits that belong to the value, 0xFFFF or nil for all.
// The error is a *devices.QualityError.
func (c *Codec) Encode(v devices.Value) (data []byte, mask uint16, err error) {
	if c.number == 0 {
		data, err = c.encodeOne(nil, v)
		return data, c.mask(), err
	}
	list, ok := v.([]any)
	if !ok || len(list) != c.number {
		return nil, 0, refuse(devices.BadTypeMismatch, "want a list of %d values", c.number)
	}
	for i, e := range list {
		if data, err = c.encodeOne(data, e); err != nil {
			return nil, 0, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return data, c.mask(), nil
}

func refuse(q devices.Quality, format string, args ...any) error {
	return &devices.QualityError{Quality: q, Reason: fmt.Sprintf(format, args...)}
}

// mask is the part of a register that the value is.
func (c *Codec) mask() uint16 {
	var m uint16
	switch {
	case c.Bits() || c.number > 0:
		return 0xFFFF
	case c.raw == v1alpha1.ModbusBool:
		m = 1 << *c.spec.Bit
	case c.raw == v1alpha1.ModbusInt8, c.raw == v1alpha1.ModbusUint8:
		m = 0xFF
	default:
		return 0xFFFF
	}
	if c.spec.ByteOrder == v1alpha1.LittleEndian {
		m = m<<8 | m>>8
	}
	return m
}

func (c *Codec) encodeOne(to []byte, v devices.Value) ([]byte, error) {
	if c.raw == v1alpha1.ModbusBool {
		on, ok := v.(bool)
		switch {
		case !ok:
			return nil, refuse(devices.BadTypeMismatch, "%v is no bool", v)
		case c.Bits() && on:
			return append(to, 1), nil
		case c.Bits():
			return append(to, 0), nil
		case on:
			return c.arrange(to, binary.BigEndian.AppendUint16(nil, 1<<*c.spec.Bit)), nil
		}
		return append(to, 0, 0), nil
	}
	b := make([]byte, 2*c.width)
	var err error
	switch {
	case c.raw == v1alpha1.ModbusString || c.raw == v1alpha1.ModbusBytes:
		err = c.text(b, v)
	case c.isFloat():
		err = c.encodeFloat(b, v)
	default:
		err = c.encodeInt(b, v)
	}
	if err != nil {
		return nil, err
	}
	return c.arrange(to, b), nil
}

// text fills b with a string or bytes and zeros.
func (c *Codec) text(b []byte, v devices.Value) error {
	var in []byte
	switch v := v.(type) {
	case string:
		in = []byte(v)
	case []byte:
		in = v
	default:
		return refuse(devices.BadTypeMismatch, "%v is no text", v)
	}
	if len(in) > len(b) {
		return refuse(devices.BadOutOfRange, "%d bytes, the device has room for %d", len(in), len(b))
	}
	if _, ok := v.([]byte); ok && len(in) < len(b) {
		return refuse(devices.BadOutOfRange, "%d bytes, the device has exactly %d", len(in), len(b))
	}
	copy(b, in)
	return nil
}

func (c *Codec) encodeFloat(b []byte, v devices.Value) error {
	f, ok := devices.Float(v)
	if small, is := v.(float32); is {
		f = shortest(small)
	}
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		return refuse(devices.BadOutOfRange, "%v is no finite number", v)
	}
	if c.linear != nil {
		f = c.linear.invert(f)
	}
	if c.raw == v1alpha1.ModbusFloat64 {
		binary.BigEndian.PutUint64(b, math.Float64bits(f))
		return nil
	}
	if math.IsInf(float64(float32(f)), 0) {
		return refuse(devices.BadOutOfRange, "%v does not fit into a float32", v)
	}
	binary.BigEndian.PutUint32(b, math.Float32bits(float32(f)))
	return nil
}

func (c *Codec) encodeInt(b []byte, v devices.Value) error {
	n, err := c.integer(v)
	if err != nil {
		return err
	}
	least, most := c.bounds()
	if n.Cmp(least) < 0 || n.Cmp(most) > 0 {
		return refuse(devices.BadOutOfRange, "the register would be %v, %s holds %v to %v", n, c.raw, least, most)
	}
	u := n.Uint64()
	if n.Sign() < 0 {
		u = uint64(n.Int64())
	}
	switch c.raw {
	case v1alpha1.ModbusInt8, v1alpha1.ModbusUint8:
		b[1] = byte(u)
	case v1alpha1.ModbusBCD16, v1alpha1.ModbusBCD32:
		for i := len(b) - 1; i >= 0; i-- {
			b[i] = byte(u/10%10<<4 | u%10)
			u /= 100
		}
	default:
		for i := len(b) - 1; i >= 0; i-- {
			b[i] = byte(u)
			u >>= 8
		}
	}
	return nil
}

// integer is the raw integer of a value.
func (c *Codec) integer(v devices.Value) (*big.Int, error) {
	if e, ok := v.(devices.Enum); ok {
		v = e.Number
	}
	narrow := func(f float64) float64 { return f }
	switch v := v.(type) {
	case float64:
		if c.linear == nil {
			return newLinear(1, 0).raw(v, narrow)
		}
		return c.linear.raw(v, narrow)
	case float32:
		narrow = func(f float64) float64 { return shortest(float32(f)) }
		l := c.linear
		if l == nil {
			l = newLinear(1, 0)
		}
		return l.raw(shortest(v), narrow)
	}
	n, ok := new(big.Int).SetString(fmt.Sprint(v), 10)
	if !ok {
		return nil, refuse(devices.BadTypeMismatch, "%v is no number", v)
	}
	if c.linear == nil {
		return n, nil
	}
	// (n*d - b) / a with d = 1, as matches has checked.
	q, rest := new(big.Int).QuoRem(n.Sub(n, c.linear.b), c.linear.a, new(big.Int))
	if rest.Sign() != 0 {
		return nil, refuse(devices.BadOutOfRange, "%v is no multiple of the scale", v)
	}
	return q, nil
}

// bounds are the least and the most that the registers hold.
func (c *Codec) bounds() (least, most *big.Int) {
	bits, signed := uint(0), false
	switch c.raw {
	case v1alpha1.ModbusBCD16:
		return big.NewInt(0), big.NewInt(9999)
	case v1alpha1.ModbusBCD32:
		return big.NewInt(0), big.NewInt(99999999)
	case v1alpha1.ModbusInt8:
		bits, signed = 8, true
	case v1alpha1.ModbusUint8:
		bits = 8
	case v1alpha1.ModbusInt16:
		bits, signed = 16, true
	case v1alpha1.ModbusInt32:
		bits, signed = 32, true
	case v1alpha1.ModbusInt64:
		bits, signed = 64, true
	default:
		bits = uint(16 * c.width)
	}
	one := big.NewInt(1)
	if signed {
		most = new(big.Int).Lsh(one, bits-1)
		return new(big.Int).Neg(most), new(big.Int).Sub(most, one)
	}
	return big.NewInt(0), new(big.Int).Sub(new(big.Int).Lsh(one, bits), one)
}
