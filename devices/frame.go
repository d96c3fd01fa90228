package devices

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Frame is what goes from an edge to the cloud of a device's samples. All
// samples and gaps of a batch are in frames in their order.
type Frame struct {
	Namespace, Name, UID string
	Samples              []Sample
	Gaps                 []Gap
}

// frameVersion is the first byte of a frame.
const frameVersion = 1

// ErrFrame says that bytes are no frame.
var ErrFrame = errors.New("malformed frame of samples")

// AppendFrame appends the bytes of a frame: the version, then namespace, name
// and UID as strings (a varint of the length before the bytes), the number of
// samples and the samples, the number of gaps and the gaps. A sample is the
// property as a string, or, since most repeat one, the number of an earlier one;
// quality; source and server time; value. A time is nanoseconds since 1970 as a
// zigzag varint plus one, 0 for unknown. A value is a tag and what belongs to
// it. The error is for what is no Value.
func AppendFrame(b []byte, f Frame) ([]byte, error) {
	e := encoder{b: append(b, frameVersion), names: make(map[string]uint64)}
	e.string(f.Namespace)
	e.string(f.Name)
	e.string(f.UID)
	e.uint(uint64(len(f.Samples)))
	for _, s := range f.Samples {
		e.property(s.Property)
		e.uint(uint64(s.Quality))
		e.time(s.Source)
		e.time(s.Server)
		if err := e.value(s.Value, 0); err != nil {
			return nil, fmt.Errorf("property %s: %w", s.Property, err)
		}
	}
	e.uint(uint64(len(f.Gaps)))
	for _, g := range f.Gaps {
		e.property(g.Property)
		e.time(g.From)
		e.time(g.To)
		e.uint(g.Lost)
		e.string(g.Reason)
	}
	return e.b, nil
}

type encoder struct {
	b     []byte
	names map[string]uint64
}

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }

func (e *encoder) int(v int64) { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

// property is 0 and the string when it is new, else its number from 1.
func (e *encoder) property(name string) {
	if n, ok := e.names[name]; ok {
		e.uint(n)
		return
	}
	e.names[name] = uint64(len(e.names)) + 1
	e.uint(0)
	e.string(name)
}

// time is of a moment from 1678 to 2262, as others have no nanoseconds: those
// are unknown.
func (e *encoder) time(t time.Time) {
	if t.IsZero() || t.Year() < 1678 || t.Year() > 2261 {
		e.uint(0)
		return
	}
	n := t.UnixNano()
	e.uint(1)
	e.int(n)
}

// Tags of values.
const (
	tagNil byte = iota
	tagFalse
	tagTrue
	tagInt8
	tagInt16
	tagInt32
	tagInt64
	tagUint8
	tagUint16
	tagUint32
	tagUint64
	tagFloat32
	tagFloat64
	tagString
	tagBytes
	tagTime
	tagEnum
	tagStruct
	tagArray
)

func (e *encoder) tagged(tag byte, v int64) {
	e.b = append(e.b, tag)
	e.int(v)
}

func (e *encoder) value(v Value, depth int) error {
	if depth > maxDepth {
		return errors.New("value is nested too deeply")
	}
	switch v := v.(type) {
	case nil:
		e.b = append(e.b, tagNil)
	case bool:
		tag := tagFalse
		if v {
			tag = tagTrue
		}
		e.b = append(e.b, tag)
	case float32:
		e.b = binary.LittleEndian.AppendUint32(append(e.b, tagFloat32), math.Float32bits(v))
	case float64:
		e.b = binary.LittleEndian.AppendUint64(append(e.b, tagFloat64), math.Float64bits(v))
	case string:
		e.b = append(e.b, tagString)
		e.string(v)
	case []byte:
		e.b = append(e.b, tagBytes)
		e.string(string(v))
	case time.Time:
		e.b = append(e.b, tagTime)
		e.int(v.Unix())
		e.uint(uint64(v.Nanosecond()))
	case Enum:
		e.tagged(tagEnum, int64(v.Number))
		e.string(v.Name)
	case Struct:
		e.b = append(e.b, tagStruct)
		e.uint(uint64(len(v)))
		for _, f := range v {
			e.string(f.Name)
			if err := e.value(f.Value, depth+1); err != nil {
				return err
			}
		}
	case []any:
		e.b = append(e.b, tagArray)
		e.uint(uint64(len(v)))
		for _, el := range v {
			if err := e.value(el, depth+1); err != nil {
				return err
			}
		}
	default:
		return e.integer(v)
	}
	return nil
}

func (e *encoder) integer(v Value) error {
	switch v := v.(type) {
	case int8:
		e.tagged(tagInt8, int64(v))
	case int16:
		e.tagged(tagInt16, int64(v))
	case int32:
		e.tagged(tagInt32, int64(v))
	case int64:
		e.tagged(tagInt64, v)
	case uint8:
		e.tagged(tagUint8, int64(v))
	case uint16:
		e.tagged(tagUint16, int64(v))
	case uint32:
		e.tagged(tagUint32, int64(v))
	case uint64:
		e.b = append(e.b, tagUint64)
		e.uint(v)
	default:
		return fmt.Errorf("a %T is no value of a device", v)
	}
	return nil
}
