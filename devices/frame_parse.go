package devices

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// ParseFrame is the reverse of AppendFrame. The bytes may be anybody's: the
// error is ErrFrame, and what is made in memory is within a small factor of
// their size.
func ParseFrame(b []byte) (Frame, error) {
	d := decoder{b: b}
	if d.byte() != frameVersion {
		return Frame{}, fmt.Errorf("version: %w", ErrFrame)
	}
	f := Frame{Namespace: d.string(), Name: d.string(), UID: d.string()}
	for range d.count() {
		s := Sample{Property: d.property(), Quality: Quality(d.upTo(math.MaxUint32))}
		s.Source, s.Server = d.time(), d.time()
		s.Value = d.value(0)
		if d.bad {
			break
		}
		f.Samples = append(f.Samples, s)
	}
	for range d.count() {
		g := Gap{Property: d.property(), From: d.time(), To: d.time(), Lost: d.uint(), Reason: d.string()}
		if d.bad {
			break
		}
		f.Gaps = append(f.Gaps, g)
	}
	if d.bad || len(d.b) > 0 {
		return Frame{}, ErrFrame
	}
	return f, nil
}

// decoder reads from the front of b; after the first fault it gives zeros.
type decoder struct {
	b     []byte
	names []string
	bad   bool
}

func (d *decoder) fail() {
	d.bad = true
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// upTo is a number that must not be larger.
func (d *decoder) upTo(limit uint64) uint64 {
	v := d.uint()
	if v > limit {
		d.fail()
		return 0
	}
	return v
}

// count is the number of things that follow, of a byte at least each.
func (d *decoder) count() int { return int(d.upTo(uint64(len(d.b)))) }

func (d *decoder) string() string {
	n := d.count()
	if n > len(d.b) {
		d.fail()
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) property() string {
	n := d.upTo(uint64(len(d.names)))
	if n > 0 {
		return d.names[n-1]
	}
	name := d.string()
	if !d.bad {
		d.names = append(d.names, name)
	}
	return name
}

func (d *decoder) time() time.Time {
	if d.upTo(1) == 0 {
		return time.Time{}
	}
	return time.Unix(0, d.int()).UTC()
}

// within is a signed number that fits into so many bits.
func (d *decoder) within(bits int) int64 {
	v := d.int()
	if v < -1<<(bits-1) || v > 1<<(bits-1)-1 {
		d.fail()
		return 0
	}
	return v
}

// below is an unsigned number that fits into so many bits.
func (d *decoder) below(bits int) int64 {
	v := d.int()
	if v < 0 || v >= 1<<bits {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) value(depth int) Value {
	tag := d.byte()
	switch tag {
	case tagNil:
		return nil
	case tagFalse, tagTrue:
		return tag == tagTrue
	case tagInt8:
		return int8(d.within(8))
	case tagInt16:
		return int16(d.within(16))
	case tagInt32:
		return int32(d.within(32))
	case tagInt64:
		return d.int()
	case tagUint8:
		return uint8(d.below(8))
	case tagUint16:
		return uint16(d.below(16))
	case tagUint32:
		return uint32(d.below(32))
	case tagUint64:
		return d.uint()
	case tagString:
		return d.string()
	case tagBytes:
		return []byte(d.string())
	case tagTime:
		seconds := d.int()
		return time.Unix(seconds, int64(d.upTo(999_999_999))).UTC()
	case tagEnum:
		return Enum{Number: int32(d.within(32)), Name: d.string()}
	}
	return d.longer(tag, depth)
}

func (d *decoder) longer(tag byte, depth int) Value {
	switch {
	case tag == tagFloat32 && len(d.b) >= 4:
		v := math.Float32frombits(binary.LittleEndian.Uint32(d.b))
		d.b = d.b[4:]
		return v
	case tag == tagFloat64 && len(d.b) >= 8:
		v := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
		d.b = d.b[8:]
		return v
	case tag == tagStruct && depth < maxDepth:
		out := Struct{}
		for range d.count() {
			f := Field{Name: d.string(), Value: d.value(depth + 1)}
			if d.bad {
				return nil
			}
			out = append(out, f)
		}
		return out
	case tag == tagArray && depth < maxDepth:
		out := []any{}
		for range d.count() {
			v := d.value(depth + 1)
			if d.bad {
				return nil
			}
			out = append(out, v)
		}
		return out
	}
	d.fail()
	return nil
}
