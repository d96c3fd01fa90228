package devices

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// maxDepth bounds arrays in structs in arrays.
const maxDepth = 32

// exactInts is where JSON numbers stop being exact for most who read them.
const exactInts = 1 << 53

// EncodeJSON writes a value for people and for the Device's status:
//
//	bool, string          themselves
//	integers              a number; beyond ±2^53 a string of digits
//	floats                a number; "NaN", "Infinity", "-Infinity"
//	bytes                 a string, base64
//	datetime              a string, RFC 3339 with what fraction there is
//	enum                  its name, or its number without one
//	struct                an object, fields in order
//	array                 an array
//
// A nil value is null. The error is for what is no Value.
func EncodeJSON(v Value) ([]byte, error) {
	var b bytes.Buffer
	if err := encode(&b, v, 0); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func encode(b *bytes.Buffer, v Value, depth int) error {
	if depth > maxDepth {
		return errors.New("value is nested too deeply")
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case string:
		encodeString(b, v)
	case []byte:
		encodeString(b, base64.StdEncoding.EncodeToString(v))
	case time.Time:
		encodeString(b, v.UTC().Format(time.RFC3339Nano))
	case Enum:
		if v.Name != "" {
			encodeString(b, v.Name)
		} else {
			b.WriteString(strconv.Itoa(int(v.Number)))
		}
	case float32:
		encodeFloat(b, float64(v), 32)
	case float64:
		encodeFloat(b, v, 64)
	case Struct:
		b.WriteByte('{')
		for i, f := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeString(b, f.Name)
			b.WriteByte(':')
			if err := encode(b, f.Value, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := encode(b, e, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	default:
		return encodeInt(b, v)
	}
	return nil
}

func encodeInt(b *bytes.Buffer, v Value) error {
	negative, size, ok := magnitude(v)
	if !ok {
		return fmt.Errorf("a %T is no value of a device", v)
	}
	s := strconv.FormatUint(size, 10)
	if negative {
		s = "-" + s
	}
	if size > exactInts {
		s = `"` + s + `"`
	}
	b.WriteString(s)
	return nil
}

func encodeFloat(b *bytes.Buffer, f float64, bits int) {
	switch {
	case math.IsNaN(f):
		b.WriteString(`"NaN"`)
	case math.IsInf(f, 1):
		b.WriteString(`"Infinity"`)
	case math.IsInf(f, -1):
		b.WriteString(`"-Infinity"`)
	default:
		format := byte('f')
		if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
			format = 'e'
		}
		b.WriteString(strconv.FormatFloat(f, format, -1, bits))
	}
}

// encodeString writes what is no UTF-8 with replacement characters, as JSON
// has nothing else.
func encodeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(strings.ToValidUTF8(s, "�")) // a string has no error
	b.Truncate(b.Len() - 1)                     // the newline
}

// DecodeJSON reads a value of type t: the reverse of EncodeJSON, and numbers in
// strings for every type of number, so that what a person writes is
// understood. The error is a QualityError.
func DecodeJSON(data []byte, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec) (Value, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var raw any
	if err := dec.Decode(&raw); err != nil {
		return nil, &QualityError{BadTypeMismatch, "the value is no JSON: " + err.Error()}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &QualityError{BadTypeMismatch, "there is more than one JSON value"}
	}
	v, err := decode(raw, t, model, 0)
	if err != nil {
		return nil, err
	}
	return Coerce(v, t, model)
}

// decode turns what encoding/json read into Values that Coerce takes.
func decode(raw any, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec, depth int) (Value, error) {
	if depth > maxDepth {
		return nil, &QualityError{BadTypeMismatch, "the value is nested too deeply"}
	}
	switch raw := raw.(type) {
	case nil, bool:
		return raw, nil
	case json.Number:
		return decodeNumber(string(raw), t)
	case string:
		return decodeString(raw, t)
	case []any:
		if len(t.Dimensions) > 0 {
			t.Dimensions = t.Dimensions[1:]
		}
		out := make([]any, len(raw))
		for i, e := range raw {
			v, err := decode(e, t, model, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = v
		}
		return out, nil
	case map[string]any:
		return decodeObject(raw, t, model, depth)
	}
	return nil, mismatch(raw, t)
}

func decodeObject(raw map[string]any, t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec, depth int) (Value, error) {
	def := typeNamed(t.TypeName, model)
	if t.Type != v1alpha1.TypeStruct || len(t.Dimensions) > 0 || def == nil {
		return nil, &QualityError{BadTypeMismatch, "an object is no " + string(t.Type)}
	}
	types := make(map[string]v1alpha1.ValueType, len(def.Fields))
	for _, f := range def.Fields {
		types[f.Name] = f.ValueType
	}
	var out Struct
	for name, value := range raw {
		v, err := decode(value, types[name], model, depth+1)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		out = append(out, Field{name, v})
	}
	return out, nil
}

// decodeString reads a string as what type t makes of it.
func decodeString(s string, t v1alpha1.ValueType) (Value, error) {
	switch t.Type {
	case v1alpha1.TypeBytes:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, &QualityError{BadTypeMismatch, "bytes must be base64: " + err.Error()}
		}
		return b, nil
	case v1alpha1.TypeString, v1alpha1.TypeDateTime, v1alpha1.TypeEnum, v1alpha1.TypeBool, v1alpha1.TypeStruct:
		return s, nil
	default:
		return decodeNumber(s, t)
	}
}

func decodeNumber(s string, t v1alpha1.ValueType) (Value, error) {
	if t.Type == v1alpha1.TypeFloat32 || t.Type == v1alpha1.TypeFloat64 {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f, nil
		}
		return nil, mismatch(s, t)
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return u, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f, nil // 1e3; a fraction is Coerce's to refuse
	}
	return nil, mismatch(s, t)
}
