package values

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// What a definition of a model has room for (devices/v1alpha1).
const (
	maxTypeName   = 63
	maxEnumValues = 512
	maxFields     = 128
	maxFieldName  = 128
	maxRank       = 4
)

// Description makes models' types of a server's data types. Names are the server's; a
// name that another type has gets the number 2 and so on, in the order in which the
// types are asked for.
type Description struct {
	types   *Types
	names   map[string]string // of data types, by key
	defined map[string]v1alpha1.TypeDefinition
	failed  map[string]error
}

// Describe begins a description by what t has loaded.
func (t *Types) Describe() *Description {
	return &Description{types: t, names: map[string]string{}, defined: map[string]v1alpha1.TypeDefinition{}, failed: map[string]error{}}
}

// Definitions are the enumerations and structures that were described, by name.
func (d *Description) Definitions() []v1alpha1.TypeDefinition {
	out := make([]v1alpha1.TypeDefinition, 0, len(d.defined))
	for _, def := range d.defined {
		out = append(out, def)
	}
	slices.SortFunc(out, func(a, b v1alpha1.TypeDefinition) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Type is the type of a node's values. The error says why a model has no such type.
func (d *Description) Type(dataType *ua.NodeID, rank int32, dimensions []uint32) (v1alpha1.ValueType, error) {
	v, err := d.element(dataType, 0)
	if err != nil {
		return v, err
	}
	switch {
	case rank == -1:
		return v, nil
	case rank < 0:
		return v, fmt.Errorf("its value is a scalar or an array as it likes (ValueRank %d)", rank)
	case rank == 0:
		return v, errors.New("its value is an array of any number of dimensions")
	case rank > maxRank:
		return v, fmt.Errorf("its value has %d dimensions, a model has %d at most", rank, maxRank)
	}
	for i := range int(rank) {
		n := uint32(0)
		if i < len(dimensions) && dimensions[i] <= 1<<20 {
			n = dimensions[i]
		}
		v.Dimensions = append(v.Dimensions, int32(n))
	}
	return v, nil
}

func (d *Description) element(dataType *ua.NodeID, depth int) (v1alpha1.ValueType, error) {
	v, ok := d.types.Type(dataType)
	switch {
	case !ok || v.Type == "":
		return v, fmt.Errorf("the server does not say what data type %s is, or it is abstract", key(dataType))
	case v.Type != v1alpha1.TypeEnum && v.Type != v1alpha1.TypeStruct:
		return v, nil
	case v.Type == v1alpha1.TypeEnum && len(d.types.byID[key(dataType)].enum) == 0:
		return v1alpha1.ValueType{Type: v1alpha1.TypeInt32}, nil
	case v.Type == v1alpha1.TypeStruct && dataType.Namespace() == 0 && dataType.IntID() != id.Structure:
		return v, fmt.Errorf("%s is a structure of OPC UA itself", v.TypeName)
	}
	k := key(dataType)
	if err := d.failed[k]; err != nil {
		return v, err
	}
	if name, ok := d.names[k]; ok {
		if _, whole := d.defined[k]; !whole {
			return v, fmt.Errorf("structure %s has itself in it", name)
		}
		v.TypeName = name
		return v, nil
	}
	v.TypeName = d.name(v.TypeName)
	d.names[k] = v.TypeName
	def, err := d.define(v, d.types.byID[k], depth)
	if err != nil {
		d.failed[k] = err
		return v, err
	}
	d.defined[k] = def
	return v, nil
}

// name makes a data type's name one of its own.
func (d *Description) name(want string) string {
	if want == "" {
		want = "Type"
	}
	taken := func(name string) bool {
		for _, n := range d.names {
			if n == name {
				return true
			}
		}
		return false
	}
	name := cut(want, maxTypeName)
	for n := 2; taken(name); n++ {
		suffix := fmt.Sprintf("-%d", n)
		name = cut(want, maxTypeName-len(suffix)) + suffix
	}
	return name
}

func cut(s string, most int) string {
	for len(s) > most { // by whole letters
		r := []rune(s)
		s = string(r[:len(r)-1])
	}
	return s
}

func (d *Description) define(v v1alpha1.ValueType, k *kind, depth int) (v1alpha1.TypeDefinition, error) {
	def := v1alpha1.TypeDefinition{Name: v.TypeName, Kind: v.Type}
	if v.Type == v1alpha1.TypeEnum {
		if len(k.enum) > maxEnumValues {
			return def, fmt.Errorf("enumeration %s has %d values, a model has %d at most", v.TypeName, len(k.enum), maxEnumValues)
		}
		for number, name := range k.enum {
			if name == "" {
				name = fmt.Sprint(number)
			}
			def.Values = append(def.Values, v1alpha1.EnumValue{Number: number, Name: cut(name, maxFieldName)})
		}
		slices.SortFunc(def.Values, func(a, b v1alpha1.EnumValue) int { return cmp.Compare(a.Number, b.Number) })
		return def, nil
	}
	switch {
	case depth > maxLevels:
		return def, fmt.Errorf("structure %s is nested too deeply", v.TypeName)
	case k.layout == ua.StructureTypeUnion:
		return def, fmt.Errorf("%s is a union", v.TypeName)
	case len(k.fields) == 0 || len(k.fields) > maxFields:
		return def, fmt.Errorf("structure %s has %d fields, a model has 1 to %d", v.TypeName, len(k.fields), maxFields)
	}
	seen := map[string]bool{}
	for _, f := range k.fields {
		t, err := d.element(f.dataType, depth+1)
		switch {
		case err != nil:
			return def, fmt.Errorf("structure %s, field %s: %w", v.TypeName, f.name, err)
		case f.rank > 1:
			return def, fmt.Errorf("structure %s, field %s: a matrix", v.TypeName, f.name)
		case f.name == "" || len(f.name) > maxFieldName || seen[f.name]:
			return def, fmt.Errorf("structure %s, field %q: the name is empty, too long or there twice", v.TypeName, f.name)
		case f.rank >= 0:
			t.Dimensions = []int32{0}
		}
		seen[f.name] = true
		def.Fields = append(def.Fields, v1alpha1.FieldType{Name: f.name, ValueType: t})
	}
	return def, nil
}
