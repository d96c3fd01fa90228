package devices

import (
	"fmt"
	"math"
	"time"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// CoerceProperty is Coerce for a write to a property: access and range are
// checked, too. The error is a QualityError.
func CoerceProperty(v Value, p v1alpha1.Property, model *v1alpha1.DeviceModelSpec) (Value, error) {
	if p.Access != v1alpha1.ReadWrite && p.Access != v1alpha1.WriteOnly {
		return nil, &QualityError{BadNotWritable, fmt.Sprintf("the model has property %s with access ReadOnly", p.Name)}
	}
	out, err := Coerce(v, p.ValueType, model)
	if err != nil {
		return nil, err
	}
	return out, inRange(out, p)
}

// inRange checks a number, or each of an array, against min and max.
func inRange(v Value, p v1alpha1.Property) error {
	if list, ok := v.([]any); ok {
		for _, e := range list {
			if err := inRange(e, p); err != nil {
				return err
			}
		}
		return nil
	}
	f, ok := Float(v)
	switch {
	case !ok:
		return nil
	case p.Min != nil && !(f >= *p.Min): // not f < min: NaN is in no range
		return &QualityError{BadOutOfRange, fmt.Sprintf("%v is below min %v of property %s", v, *p.Min, p.Name)}
	case p.Max != nil && !(f <= *p.Max):
		return &QualityError{BadOutOfRange, fmt.Sprintf("%v is above max %v of property %s", v, *p.Max, p.Name)}
	}
	return nil
}

// Coerce turns a value into one of type t without losing anything: numbers of
// any type that hold the same number, an integral float for an integer, names
// and numbers for an enumeration, RFC 3339 for a datetime, base64 is for JSON
// only. A float32 takes the nearest number. The error is a QualityError:
// BadTypeMismatch or BadOutOfRange.
func Coerce(v Value, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec) (Value, error) {
	if v == nil {
		return nil, mismatch(v, t)
	}
	if len(t.Dimensions) > 0 {
		return coerceArray(v, t, model)
	}
	switch t.Type {
	case v1alpha1.TypeEnum:
		return coerceEnum(v, t, model)
	case v1alpha1.TypeStruct:
		return coerceStruct(v, t, model)
	default:
		return coerceScalar(v, t)
	}
}

func coerceScalar(v Value, t v1alpha1.ValueType) (Value, error) {
	switch t.Type {
	case v1alpha1.TypeBool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case v1alpha1.TypeString:
		if s, ok := v.(string); ok {
			return s, nil
		}
	case v1alpha1.TypeBytes:
		if b, ok := v.([]byte); ok {
			return b, nil
		}
	case v1alpha1.TypeDateTime:
		switch v := v.(type) {
		case time.Time:
			return v, nil
		case string:
			if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
				return at, nil
			}
		}
	case v1alpha1.TypeFloat64:
		if f, ok := exactFloat(v); ok {
			return f, nil
		}
	case v1alpha1.TypeFloat32:
		if f, ok := exactFloat(v); ok {
			small := float32(f)
			if math.IsInf(float64(small), 0) && !math.IsInf(f, 0) {
				return nil, outOfRange(v, t)
			}
			return small, nil
		}
	default:
		return coerceInt(v, t)
	}
	return nil, mismatch(v, t)
}

// exactFloat is Float, but not for integers that a float64 would round.
func exactFloat(v Value) (float64, bool) {
	f, ok := Float(v)
	if !ok {
		return 0, false
	}
	switch v := v.(type) {
	case int64:
		ok = f < 1<<63 && int64(f) == v
	case uint64:
		ok = f < 1<<64 && uint64(f) == v
	}
	return f, ok
}

// coerceInt takes any number without a fraction that fits.
func coerceInt(v Value, t v1alpha1.ValueType) (Value, error) {
	negative, size, ok := magnitude(v)
	if !ok {
		return nil, mismatch(v, t)
	}
	limit := func(bits uint, signed bool) bool {
		switch {
		case signed && negative:
			return size <= 1<<(bits-1)
		case signed:
			return size <= 1<<(bits-1)-1
		case negative:
			return size == 0
		}
		return bits == 64 || size < 1<<bits
	}
	i := int64(size)
	if negative {
		i = -i // of 1<<63, too: it is its own negative
	}
	switch t.Type {
	case v1alpha1.TypeInt8:
		if limit(8, true) {
			return int8(i), nil
		}
	case v1alpha1.TypeInt16:
		if limit(16, true) {
			return int16(i), nil
		}
	case v1alpha1.TypeInt32:
		if limit(32, true) {
			return int32(i), nil
		}
	case v1alpha1.TypeInt64:
		if limit(64, true) {
			return i, nil
		}
	case v1alpha1.TypeUint8:
		if limit(8, false) {
			return uint8(size), nil
		}
	case v1alpha1.TypeUint16:
		if limit(16, false) {
			return uint16(size), nil
		}
	case v1alpha1.TypeUint32:
		if limit(32, false) {
			return uint32(size), nil
		}
	case v1alpha1.TypeUint64:
		if limit(64, false) {
			return size, nil
		}
	default:
		return nil, mismatch(v, t)
	}
	return nil, outOfRange(v, t)
}

// magnitude splits a whole number, false for what is none.
func magnitude(v Value) (negative bool, size uint64, ok bool) {
	signed := func(i int64) (bool, uint64, bool) {
		if i < 0 {
			return true, -uint64(i), true
		}
		return false, uint64(i), true
	}
	switch v := v.(type) {
	case int8:
		return signed(int64(v))
	case int16:
		return signed(int64(v))
	case int32:
		return signed(int64(v))
	case int64:
		return signed(v)
	case uint8:
		return false, uint64(v), true
	case uint16:
		return false, uint64(v), true
	case uint32:
		return false, uint64(v), true
	case uint64:
		return false, v, true
	case float32:
		return magnitude(float64(v))
	case float64:
		abs := math.Abs(v)
		if abs != math.Trunc(abs) || !(abs < 1<<64) {
			return false, 0, false
		}
		return v < 0, uint64(abs), true
	}
	return false, 0, false
}

func coerceArray(v Value, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec) (Value, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, mismatch(v, t)
	}
	if want := int(t.Dimensions[0]); want != 0 && len(list) != want {
		return nil, &QualityError{BadTypeMismatch, fmt.Sprintf("an array of %d elements, want %d", len(list), want)}
	}
	t.Dimensions = t.Dimensions[1:]
	out := make([]any, len(list))
	for i, e := range list {
		c, err := Coerce(e, t, model)
		if err != nil {
			return nil, err
		}
		out[i] = c
	}
	return out, nil
}

// typeNamed returns an entry of the model's types, nil if there is none.
func typeNamed(name string, model *v1alpha1.DeviceModelSpec) *v1alpha1.TypeDefinition {
	if model == nil {
		return nil
	}
	for i := range model.Types {
		if model.Types[i].Name == name {
			return &model.Types[i]
		}
	}
	return nil
}

func coerceEnum(v Value, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec) (Value, error) {
	def := typeNamed(t.TypeName, model)
	if def == nil {
		return nil, &QualityError{BadConfiguration, "the model has no type " + t.TypeName}
	}
	number := Value(nil)
	switch v := v.(type) {
	case Enum:
		number = v.Number
	case string:
		for _, e := range def.Values {
			if e.Name == v {
				return Enum{e.Number, e.Name}, nil
			}
		}
		return nil, &QualityError{BadOutOfRange, fmt.Sprintf("%q is no name of enumeration %s", v, t.TypeName)}
	default:
		n, err := coerceInt(v, v1alpha1.ValueType{Type: v1alpha1.TypeInt32})
		if err != nil {
			return nil, err
		}
		number = n
	}
	for _, e := range def.Values {
		if Value(e.Number) == number {
			return Enum{e.Number, e.Name}, nil
		}
	}
	return nil, &QualityError{BadOutOfRange, fmt.Sprintf("%v is no number of enumeration %s", number, t.TypeName)}
}

// coerceStruct takes the fields in any order; all of them must be there.
func coerceStruct(v Value, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec) (Value, error) {
	def := typeNamed(t.TypeName, model)
	if def == nil {
		return nil, &QualityError{BadConfiguration, "the model has no type " + t.TypeName}
	}
	in, ok := v.(Struct)
	if !ok {
		return nil, mismatch(v, t)
	}
	given := make(map[string]Value, len(in))
	for _, f := range in {
		given[f.Name] = f.Value
	}
	out := make(Struct, 0, len(def.Fields))
	for _, f := range def.Fields {
		value, ok := given[f.Name]
		if !ok {
			return nil, &QualityError{BadTypeMismatch, fmt.Sprintf("struct %s needs field %s", t.TypeName, f.Name)}
		}
		delete(given, f.Name)
		c, err := Coerce(value, f.ValueType, model)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		out = append(out, Field{f.Name, c})
	}
	for name := range given {
		return nil, &QualityError{BadTypeMismatch, fmt.Sprintf("struct %s has no field %s", t.TypeName, name)}
	}
	return out, nil
}

func mismatch(v Value, t v1alpha1.ValueType) error {
	want := string(t.Type)
	if len(t.Dimensions) > 0 {
		want = "array of " + want
	}
	return &QualityError{BadTypeMismatch, fmt.Sprintf("%s is no %s", describe(v), want)}
}

func outOfRange(v Value, t v1alpha1.ValueType) error {
	return &QualityError{BadOutOfRange, fmt.Sprintf("%s does not fit into %s", describe(v), t.Type)}
}

// describe is a value for a message, however long it is.
func describe(v Value) string {
	const longest = 64
	if v == nil {
		return "no value"
	}
	s := fmt.Sprintf("%v", v)
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	return fmt.Sprintf("%s (%T)", s, v)
}
