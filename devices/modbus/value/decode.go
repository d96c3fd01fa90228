package value

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Decode reads the value out of an answer, at register or bit number at. The value is
// nil when the quality is bad: registers that hold no BCD, a float that is no
// number, a number that the model's type has no room for.
func (c *Codec) Decode(data []byte, at int) (devices.Value, devices.Quality) {
	if c.Bits() {
		if at < 0 || at+c.Count > 8*len(data) {
			return nil, devices.BadNoData
		}
		return c.list(func(i int) (devices.Value, devices.Quality) {
			return data[(at+i)/8]>>((at+i)%8)&1 == 1, devices.Good
		})
	}
	if at < 0 || 2*(at+c.Count) > len(data) {
		return nil, devices.BadNoData
	}
	return c.list(func(i int) (devices.Value, devices.Quality) {
		from := 2 * (at + i*c.width)
		return c.element(data[from : from+2*c.width])
	})
}

// list decodes the elements of an array, or the one value.
func (c *Codec) list(element func(i int) (devices.Value, devices.Quality)) (devices.Value, devices.Quality) {
	if c.number == 0 {
		return element(0)
	}
	list := make([]any, c.number)
	for i := range list {
		v, q := element(i)
		if q.IsBad() {
			return nil, q
		}
		list[i] = v
	}
	return list, devices.Good
}

// element decodes the registers of one value.
func (c *Codec) element(b []byte) (devices.Value, devices.Quality) {
	var number [8]byte
	b = c.arrange(number[:0], b)
	switch c.raw {
	case v1alpha1.ModbusBool:
		return binary.BigEndian.Uint16(b)>>*c.spec.Bit&1 == 1, devices.Good
	case v1alpha1.ModbusInt8:
		return c.signed(int64(int8(b[1])))
	case v1alpha1.ModbusUint8:
		return c.unsigned(uint64(b[1]))
	case v1alpha1.ModbusInt16:
		return c.signed(int64(int16(binary.BigEndian.Uint16(b))))
	case v1alpha1.ModbusUint16:
		return c.unsigned(uint64(binary.BigEndian.Uint16(b)))
	case v1alpha1.ModbusInt32:
		return c.signed(int64(int32(binary.BigEndian.Uint32(b))))
	case v1alpha1.ModbusUint32:
		return c.unsigned(uint64(binary.BigEndian.Uint32(b)))
	case v1alpha1.ModbusInt64:
		return c.signed(int64(binary.BigEndian.Uint64(b)))
	case v1alpha1.ModbusUint64:
		return c.unsigned(binary.BigEndian.Uint64(b))
	case v1alpha1.ModbusFloat32:
		return c.float(shortest(math.Float32frombits(binary.BigEndian.Uint32(b))))
	case v1alpha1.ModbusFloat64:
		return c.float(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case v1alpha1.ModbusBCD16, v1alpha1.ModbusBCD32:
		n, ok := fromBCD(b)
		if !ok {
			return nil, devices.BadOutOfRange
		}
		return c.unsigned(n)
	case v1alpha1.ModbusString:
		if i := bytes.IndexByte(b, 0); i >= 0 {
			b = b[:i]
		}
		s := strings.TrimRight(string(b), " ")
		if !utf8.ValidString(s) { // Latin-1 then
			s = latin1(s)
		}
		return s, devices.Good
	default:
		return bytes.Clone(b), devices.Good // b may be on the stack
	}
}

// arrange appends registers in the order of the most significant byte first, or back.
// Strings and bytes have no word order: their first register is the first.
func (c *Codec) arrange(to, b []byte) []byte {
	swapWords := c.spec.WordOrder == v1alpha1.LittleEndian && c.isNumber()
	swapBytes := c.spec.ByteOrder == v1alpha1.LittleEndian
	for i := 0; i < len(b); i += 2 {
		w := b[i : i+2]
		if swapWords {
			w = b[len(b)-2-i : len(b)-i]
		}
		if swapBytes {
			to = append(to, w[1], w[0])
		} else {
			to = append(to, w[0], w[1])
		}
	}
	return to
}

func (c *Codec) signed(n int64) (devices.Value, devices.Quality) {
	if n >= 0 {
		return c.unsigned(uint64(n))
	}
	if c.linear != nil {
		if f, ok := c.linear.fast(n); ok && !c.whole() {
			return c.typed(f)
		}
		return c.scaled(big.NewInt(n))
	}
	return c.typed(n)
}

func (c *Codec) unsigned(n uint64) (devices.Value, devices.Quality) {
	if c.linear != nil {
		if f, ok := c.linear.fast(int64(min(n, math.MaxInt64))); ok && !c.whole() {
			return c.typed(f)
		}
		return c.scaled(new(big.Int).SetUint64(n))
	}
	return c.typed(n)
}

// scaled is the slow way, and that of whole numbers.
func (c *Codec) scaled(n *big.Int) (devices.Value, devices.Quality) {
	if !c.whole() {
		return c.typed(c.linear.value(n))
	}
	switch r := c.linear.rational(n).Num(); { // linear.whole was checked
	case r.IsInt64():
		return c.typed(r.Int64())
	case r.IsUint64():
		return c.typed(r.Uint64())
	}
	return nil, devices.BadOutOfRange
}

// whole reports whether the model has whole numbers.
func (c *Codec) whole() bool {
	return c.kind.Type != v1alpha1.TypeFloat32 && c.kind.Type != v1alpha1.TypeFloat64
}

func (c *Codec) float(f float64) (devices.Value, devices.Quality) {
	if c.linear != nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
		f = c.linear.apply(f)
	}
	return c.typed(f)
}

// typed makes the model's type of a number: int64, uint64 or float64.
func (c *Codec) typed(v devices.Value) (devices.Value, devices.Quality) {
	if f, ok := v.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return nil, devices.BadSensorFailure // what devices send for a broken wire
	}
	switch c.kind.Type {
	case v1alpha1.TypeFloat64:
		f, _ := devices.Float(v)
		return f, devices.Good
	case v1alpha1.TypeEnum:
		n, err := devices.Coerce(v, v1alpha1.ValueType{Type: v1alpha1.TypeInt32}, nil)
		if err != nil {
			return nil, devices.QualityOf(err)
		}
		number, _ := n.(int32)
		return devices.Enum{Number: number, Name: c.names[number]}, devices.Good
	default:
		out, err := devices.Coerce(v, c.kind, c.types)
		if err != nil {
			return nil, devices.BadOutOfRange
		}
		return out, devices.Good
	}
}

// shortest is the float64 that has f's shortest decimal: a device that holds 0.1 as
// a float32 means 0.1, not 0.10000000149.
func shortest(f float32) float64 {
	if wide := float64(f); wide == math.Trunc(wide) || math.IsNaN(wide) {
		return wide
	}
	var buf [32]byte
	v, err := strconv.ParseFloat(string(strconv.AppendFloat(buf[:0], float64(f), 'g', -1, 32)), 64)
	if err != nil {
		return float64(f)
	}
	return v
}

func fromBCD(b []byte) (n uint64, ok bool) {
	for _, v := range b {
		if v>>4 > 9 || v&15 > 9 {
			return 0, false
		}
		n = n*100 + uint64(v>>4)*10 + uint64(v&15)
	}
	return n, true
}

func latin1(s string) string {
	runes := make([]rune, 0, len(s))
	for i := range len(s) {
		runes = append(runes, rune(s[i]))
	}
	return string(runes)
}
