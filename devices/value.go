package devices

import (
	"bytes"
	"math"
	"time"
)

// Value is one of bool, int8, int16, int32, int64, uint8, uint16, uint32,
// uint64, float32, float64, string, []byte, time.Time, Enum, Struct, or []any
// of them for an array, nested for a matrix; nil is no value. Nothing else
// leaves a driver.
type Value = any

// Enum is a value of an enumeration.
type Enum struct {
	Number int32
	// Name is "" for a number without one.
	Name string
}

// Struct is a value of a struct: its fields in order.
type Struct []Field

// Field is a field of a struct, or an argument or result of a method.
type Field struct {
	Name  string
	Value Value
}

// Equal reports whether two values have the same type and are the same. NaN is
// the same as NaN, so that it is not a change for ever; times are compared as
// moments.
func Equal(a, b Value) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case float32:
		b, ok := b.(float32)
		return ok && (a == b || math.IsNaN(float64(a)) && math.IsNaN(float64(b)))
	case float64:
		b, ok := b.(float64)
		return ok && (a == b || math.IsNaN(a) && math.IsNaN(b))
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case Enum: // a name is what a model gave, and may come later
		b, ok := b.(Enum)
		return ok && a.Number == b.Number
	case Struct:
		b, ok := b.(Struct)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i].Name != b[i].Name || !Equal(a[i].Value, b[i].Value) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !Equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, string:
		return a == b
	}
	return false // not a Value
}

// Float returns a number as a float64, false for what is none. Integers beyond
// 2^53 are rounded.
func Float(v Value) (float64, bool) {
	switch v := v.(type) {
	case int8:
		return float64(v), true
	case int16:
		return float64(v), true
	case int32:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint8:
		return float64(v), true
	case uint16:
		return float64(v), true
	case uint32:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
