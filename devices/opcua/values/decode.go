package values

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/codec"
)

// ErrUnknownStruct says that a structure's fields are not known: it is given as
// bytes.
var errFields = errors.New("structure does not match its definition")

// Value is what a server sent for a node of a data type.
func (t *Types) Value(v *ua.Variant, dataType *ua.NodeID) devices.Value {
	if v == nil {
		return nil
	}
	return t.value(v.Value(), t.byID[key(dataType)], 0)
}

// value turns one of gopcua's values into one of devices.
func (t *Types) value(v any, k *kind, depth int) devices.Value {
	if depth > maxLevels {
		return nil
	}
	switch v := v.(type) {
	case nil:
		return nil
	case int32:
		if k != nil && k.enum != nil {
			return devices.Enum{Number: v, Name: k.enum[v]}
		}
		return v
	case bool, int8, uint8, int16, uint16, uint32, int64, uint64, float32, float64, string, time.Time:
		return v
	case []byte:
		return v
	case ua.ByteArray:
		list := make([]any, len(v))
		for i, b := range v {
			list[i] = b
		}
		return list
	case ua.XMLElement:
		return string(v)
	case *ua.LocalizedText:
		return v.Text
	case *ua.QualifiedName:
		return fmt.Sprintf("%d:%s", v.NamespaceIndex, v.Name)
	case *ua.NodeID:
		return v.String()
	case *ua.ExpandedNodeID:
		return v.String()
	case *ua.GUID:
		return v.String()
	case ua.StatusCode:
		return uint32(v)
	case *ua.ExtensionObject:
		return t.object(v, depth)
	case *ua.Variant:
		return t.value(v.Value(), nil, depth+1)
	case *ua.DataValue:
		if v.Value == nil {
			return nil
		}
		return t.value(v.Value.Value(), nil, depth+1)
	}
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Slice {
		list := make([]any, rv.Len())
		for i := range list {
			list[i] = t.value(rv.Index(i).Interface(), k, depth+1)
		}
		return list
	}
	return nil
}

func (t *Types) object(o *ua.ExtensionObject, depth int) devices.Value {
	switch body := o.Value.(type) {
	case nil:
		return nil
	case *codec.Raw:
		if k := t.byEncoding[key(o.TypeID.NodeID)]; k != nil {
			if s, n, err := t.fields(body.Bytes, k, depth+1); err == nil && n == len(body.Bytes) {
				return s
			}
		}
		return body.Bytes
	default:
		return t.known(reflect.ValueOf(body), depth)
	}
}

// known gives a structure that gopcua decoded, such as Range.
func (t *Types) known(v reflect.Value, depth int) devices.Value {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || depth > maxLevels {
		return nil
	}
	var s devices.Struct
	for i := range v.NumField() {
		f := v.Field(i)
		if !v.Type().Field(i).IsExported() {
			continue
		}
		inner := t.value(plain(f), nil, depth+1)
		if inner == nil && (f.Kind() == reflect.Pointer || f.Kind() == reflect.Struct) {
			inner = t.known(f, depth+1)
		}
		s = append(s, devices.Field{Name: v.Type().Field(i).Name, Value: inner})
	}
	return s
}

// plain takes the name off gopcua's enumerations.
func plain(f reflect.Value) any {
	switch f.Kind() {
	case reflect.Uint32:
		return uint32(f.Uint())
	case reflect.Int32:
		return int32(f.Int())
	case reflect.Uint8:
		return uint8(f.Uint())
	default:
		return f.Interface()
	}
}

// fields decodes a structure by its definition (Part 6, 5.2.6 to 5.2.8).
func (t *Types) fields(b []byte, k *kind, depth int) (devices.Struct, int, error) {
	if depth > maxLevels {
		return nil, 0, fmt.Errorf("%w: nested too deep", errFields)
	}
	at := 0
	var mask uint32
	optionals, union := k.layout == ua.StructureTypeStructureWithOptionalFields, k.layout == ua.StructureTypeUnion
	if optionals || union {
		if len(b) < 4 {
			return nil, 0, errFields
		}
		mask, at = binary.LittleEndian.Uint32(b), 4
	}
	s, bit := devices.Struct{}, 0
	for i, f := range k.fields {
		if union && uint32(i+1) != mask {
			continue
		}
		if optionals && f.optional {
			bit++
			if mask&(1<<(bit-1)) == 0 {
				s = append(s, devices.Field{Name: f.name})
				continue
			}
		}
		v, n, err := t.field(b[at:], f, depth)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", f.name, err)
		}
		at += n
		s = append(s, devices.Field{Name: f.name, Value: v})
	}
	return s, at, nil
}

// field decodes a field: scalar, list, or matrix with its dimensions in front.
func (t *Types) field(b []byte, f field, depth int) (devices.Value, int, error) {
	k := t.byID[key(f.dataType)]
	if k == nil || !k.known {
		return nil, 0, fmt.Errorf("%w: unknown type %s", errFields, key(f.dataType))
	}
	if f.rank < 0 && f.rank != -2 && f.rank != -3 || f.rank == -2 || f.rank == -3 {
		return t.element(b, k, depth)
	}
	if f.rank > 1 {
		return nil, 0, fmt.Errorf("%w: a matrix as a field", errFields)
	}
	if len(b) < 4 {
		return nil, 0, errFields
	}
	n, at := int(int32(binary.LittleEndian.Uint32(b))), 4
	if n > len(b) {
		return nil, 0, fmt.Errorf("%w: %d elements", errFields, n)
	}
	list := []any{}
	for range max(n, 0) {
		v, used, err := t.element(b[at:], k, depth)
		if err != nil {
			return nil, 0, err
		}
		if used == 0 && n > 1 { // any number of nothing in no bytes
			return nil, 0, fmt.Errorf("%w: %d elements of no size", errFields, n)
		}
		at += used
		list = append(list, v)
	}
	return list, at, nil
}

func (t *Types) element(b []byte, k *kind, depth int) (devices.Value, int, error) {
	if k.fields != nil || k.encoding != nil {
		return t.fields(b, k, depth+1)
	}
	if k.builtin == 0 {
		return nil, 0, fmt.Errorf("%w: abstract type %s", errFields, k.name)
	}
	if k.builtin == ua.TypeIDVariant {
		v, n, err := codec.DecodeVariant(b)
		if err != nil {
			return nil, 0, err
		}
		return t.value(v.Value(), nil, depth+1), n, nil
	}
	// A Variant of that type is its number and then the value, of which no more is
	// copied than can be needed.
	const longest = 1 << 16
	need := min(len(b), longest)
	if size := codec.Size(k.builtin); size > 0 {
		need = min(need, size)
	} else if k.builtin == ua.TypeIDString || k.builtin == ua.TypeIDByteString {
		if len(b) < 4 {
			return nil, 0, errFields
		}
		if n := int32(binary.LittleEndian.Uint32(b)); n < 0 {
			need = 4
		} else {
			need = int(min(int64(len(b)), int64(n)+4))
		}
	}
	v, n, err := codec.DecodeVariant(append([]byte{byte(k.builtin)}, b[:need]...))
	if err != nil {
		return nil, 0, err
	}
	return t.value(v.Value(), k, depth+1), n - 1, nil
}
