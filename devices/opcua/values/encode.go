package values

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/codec"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// builtinNames are the types of package devices for built-in types.
func target(b ua.TypeID) (v1alpha1.Type, bool) {
	types := [...]v1alpha1.Type{
		ua.TypeIDBoolean: v1alpha1.TypeBool, ua.TypeIDSByte: v1alpha1.TypeInt8, ua.TypeIDByte: v1alpha1.TypeUint8, ua.TypeIDInt16: v1alpha1.TypeInt16,
		ua.TypeIDUint16: v1alpha1.TypeUint16, ua.TypeIDInt32: v1alpha1.TypeInt32, ua.TypeIDUint32: v1alpha1.TypeUint32, ua.TypeIDInt64: v1alpha1.TypeInt64,
		ua.TypeIDUint64: v1alpha1.TypeUint64, ua.TypeIDFloat: v1alpha1.TypeFloat32, ua.TypeIDDouble: v1alpha1.TypeFloat64, ua.TypeIDString: v1alpha1.TypeString,
		ua.TypeIDDateTime: v1alpha1.TypeDateTime, ua.TypeIDByteString: v1alpha1.TypeBytes,
	}
	if int(b) >= len(types) || types[b] == "" {
		return "", false
	}
	return types[b], true
}

// Type is a data type as a model says it, false for what has none: a structure that
// the server does not define, or an abstract type. Enumerations and structures have
// the server's name for them.
func (t *Types) Type(dataType *ua.NodeID) (v1alpha1.ValueType, bool) {
	k := t.byID[key(dataType)]
	switch {
	case k == nil || !k.known:
		return v1alpha1.ValueType{}, false
	case k.enum != nil:
		return v1alpha1.ValueType{Type: v1alpha1.TypeEnum, TypeName: k.name}, true
	case k.fields != nil || k.encoding != nil:
		return v1alpha1.ValueType{Type: v1alpha1.TypeStruct, TypeName: k.name}, true
	}
	name, ok := target(k.builtin)
	if !ok && (k.builtin == ua.TypeIDLocalizedText || k.builtin == ua.TypeIDGUID || k.builtin == ua.TypeIDXMLElement) {
		name, ok = v1alpha1.TypeString, true
	}
	return v1alpha1.ValueType{Type: name}, ok
}

// Variant coerces a value to a data type of the server: rank is the node's
// ValueRank. The error is a *devices.QualityError.
func (t *Types) Variant(v devices.Value, dataType *ua.NodeID, rank int32) (*ua.Variant, error) {
	k := t.byID[key(dataType)]
	if k == nil || !k.known {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: "the server does not define data type " + key(dataType)}
	}
	native, err := t.native(v, k, 0)
	if err != nil {
		return nil, err
	}
	if rank < 0 {
		if _, list := v.([]any); list && rank == -1 {
			return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: "the server's node is no array"}
		}
	}
	out, err := ua.NewVariant(native)
	if err != nil {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: err.Error()}
	}
	return out, nil
}

// native is the value as gopcua wants it: a slice of the type for a list.
func (t *Types) native(v devices.Value, k *kind, depth int) (any, error) {
	if list, ok := v.([]any); ok && depth < maxLevels {
		return t.nativeList(list, k, depth)
	}
	mismatch := func(format string, args ...any) error {
		return &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case k.fields != nil || k.encoding != nil:
		s, ok := v.(devices.Struct)
		if !ok || k.encoding == nil {
			return nil, mismatch("%T where structure %s was due", v, k.name)
		}
		body, err := t.body(s, k, depth+1)
		if err != nil {
			return nil, err
		}
		return &ua.ExtensionObject{
			EncodingMask: ua.ExtensionObjectBinary, TypeID: &ua.ExpandedNodeID{NodeID: k.encoding}, Value: &codec.Raw{Bytes: body},
		}, nil
	case k.enum != nil:
		return k.number(v)
	case k.builtin == ua.TypeIDLocalizedText:
		s, ok := v.(string)
		if !ok {
			return nil, mismatch("%T where a text was due", v)
		}
		return ua.NewLocalizedText(s), nil
	}
	name, ok := target(k.builtin)
	if !ok {
		return nil, mismatch("values of data type %s can't be written", k.name)
	}
	if e, ok := v.(devices.Enum); ok {
		v = e.Number
	}
	return devices.Coerce(v, v1alpha1.ValueType{Type: name}, nil)
}

// number is a value of an enumeration, by number or name.
func (k *kind) number(v devices.Value) (any, error) {
	switch v := v.(type) {
	case devices.Enum:
		return v.Number, nil
	case string:
		for n, name := range k.enum {
			if name == v {
				return n, nil
			}
		}
		return nil, &devices.QualityError{Quality: devices.BadOutOfRange, Reason: fmt.Sprintf("%q is no name of %s", v, k.name)}
	}
	return devices.Coerce(v, v1alpha1.ValueType{Type: v1alpha1.TypeInt32}, nil)
}

func (t *Types) nativeList(list []any, k *kind, depth int) (any, error) {
	elements := make([]reflect.Value, len(list))
	for i, e := range list {
		n, err := t.native(e, k, depth+1)
		if err != nil {
			return nil, err
		}
		elements[i] = reflect.ValueOf(n)
	}
	if len(elements) == 0 {
		return reflect.MakeSlice(reflect.SliceOf(k.goType()), 0, 0).Interface(), nil
	}
	of := elements[0].Type()
	if of.Kind() == reflect.Uint8 {
		raw := make(ua.ByteArray, len(elements))
		for i, e := range elements {
			raw[i] = byte(e.Uint())
		}
		return raw, nil
	}
	out := reflect.MakeSlice(reflect.SliceOf(of), 0, len(elements))
	for _, e := range elements {
		if e.Type() != of || e.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Slice && e.Len() != elements[0].Len() {
			return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: "the rows of a matrix differ in length"}
		}
		out = reflect.Append(out, e)
	}
	return out.Interface(), nil
}

func (k *kind) goType() reflect.Type {
	zero := map[ua.TypeID]any{
		ua.TypeIDBoolean: false, ua.TypeIDSByte: int8(0), ua.TypeIDInt16: int16(0), ua.TypeIDUint16: uint16(0), ua.TypeIDInt32: int32(0), ua.TypeIDUint32: uint32(0),
		ua.TypeIDInt64: int64(0), ua.TypeIDUint64: uint64(0), ua.TypeIDFloat: float32(0), ua.TypeIDDouble: float64(0), ua.TypeIDString: "",
		ua.TypeIDDateTime: time.Time{}, ua.TypeIDByteString: []byte{},
	}
	if z, ok := zero[k.builtin]; ok {
		return reflect.TypeOf(z)
	}
	return reflect.TypeFor[*ua.ExtensionObject]()
}

// body encodes a structure by its definition.
func (t *Types) body(s devices.Struct, k *kind, depth int) ([]byte, error) {
	mismatch := func(format string, args ...any) error {
		return &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: fmt.Sprintf(format, args...)}
	}
	if depth > maxLevels || k.layout == ua.StructureTypeUnion {
		return nil, mismatch("structure %s can't be written", k.name)
	}
	var b []byte
	var mask uint32
	bit := 0
	for _, f := range k.fields {
		i := slices.IndexFunc(s, func(g devices.Field) bool { return g.Name == f.name })
		if f.optional && k.layout == ua.StructureTypeStructureWithOptionalFields {
			bit++
			if i < 0 || s[i].Value == nil {
				continue
			}
			mask |= 1 << (bit - 1)
		}
		if i < 0 {
			return nil, mismatch("structure %s needs field %s", k.name, f.name)
		}
		part, err := t.fieldBytes(s[i].Value, f, depth)
		if err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	if k.layout == ua.StructureTypeStructureWithOptionalFields {
		b = append(binary.LittleEndian.AppendUint32(nil, mask), b...)
	}
	return b, nil
}

func (t *Types) fieldBytes(v devices.Value, f field, depth int) ([]byte, error) {
	k := t.byID[key(f.dataType)]
	if k == nil || !k.known || f.rank > 1 {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: "field " + f.name + " has a type that can't be written"}
	}
	if f.rank < 0 {
		return t.elementBytes(v, k, depth)
	}
	list, ok := v.([]any)
	if !ok {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: fmt.Sprintf("field %s is a list, not %T", f.name, v)}
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(list)))
	for _, e := range list {
		part, err := t.elementBytes(e, k, depth)
		if err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	return b, nil
}

func (t *Types) elementBytes(v devices.Value, k *kind, depth int) ([]byte, error) {
	if k.fields != nil || k.encoding != nil {
		s, ok := v.(devices.Struct)
		if !ok {
			return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: fmt.Sprintf("%T where structure %s was due", v, k.name)}
		}
		return t.body(s, k, depth+1)
	}
	n, err := t.native(v, k, depth+1)
	if err != nil {
		return nil, err
	}
	variant, err := ua.NewVariant(n)
	if err != nil {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: err.Error()}
	}
	b, err := variant.Encode()
	if err != nil {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: err.Error()}
	}
	return b[1:], nil // without the type's number
}
