package values_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/codec"
	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/opcua/values"
)

// definitions are a server's data types, by the text of their ids.
type definitions map[string]any

func (d definitions) Read(_ context.Context, attributes []session.Attribute) ([]*ua.DataValue, error) {
	out := make([]*ua.DataValue, len(attributes))
	for i, a := range attributes {
		out[i] = &ua.DataValue{Status: ua.StatusBadAttributeIDInvalid, Value: new(ua.Variant)}
		def, ok := d[a.Node.String()]
		switch {
		case a.ID == ua.AttributeIDBrowseName:
			out[i].Value = ua.MustVariant(&ua.QualifiedName{Name: "T" + a.Node.String()})
		case ok:
			out[i].Value = ua.MustVariant(&ua.ExtensionObject{Value: def})
		}
	}
	return out, nil
}

// Browse gives the supertype: a Double for ids above 100.
func (d definitions) Browse(_ context.Context, nodes []*ua.BrowseDescription) ([][]*ua.ReferenceDescription, error) {
	out := make([][]*ua.ReferenceDescription, len(nodes))
	for i, n := range nodes {
		if n.NodeID.IntID() > 100 {
			out[i] = []*ua.ReferenceDescription{{NodeID: &ua.ExpandedNodeID{NodeID: ua.NewNumericNodeID(0, 11)}}}
		}
	}
	return out, nil
}

func n(i uint32) *ua.NodeID { return ua.NewNumericNodeID(4, i) }

func builtin(t ua.TypeID) *ua.NodeID { return ua.NewNumericNodeID(0, uint32(t)) }

func loaded(tb testing.TB) *values.Types {
	tb.Helper()
	types := values.NewTypes()
	err := types.Load(context.Background(), definitions{ //nolint:forbidigo // a fuzz target has no context of its own
		n(1).String(): &ua.EnumDefinition{Fields: []*ua.EnumField{{Value: 0, Name: "Off"}, {Value: 3, Name: "On"}}},
		n(2).String(): &ua.StructureDefinition{DefaultEncodingID: n(20), Fields: []*ua.StructureField{
			{Name: "a", DataType: builtin(ua.TypeIDInt16), ValueRank: -1},
			{Name: "list", DataType: builtin(ua.TypeIDString), ValueRank: 1},
			{Name: "mode", DataType: n(1), ValueRank: -1},
			{Name: "own", DataType: n(101), ValueRank: -1},
		}},
		n(3).String(): &ua.StructureDefinition{DefaultEncodingID: n(30), StructureType: ua.StructureTypeStructureWithOptionalFields, Fields: []*ua.StructureField{
			{Name: "must", DataType: builtin(ua.TypeIDByte), ValueRank: -1},
			{Name: "may", DataType: n(2), ValueRank: -1, IsOptional: true},
			{Name: "too", DataType: builtin(ua.TypeIDDateTime), ValueRank: -1, IsOptional: true},
		}},
		// A structure that holds itself.
		n(4).String(): &ua.StructureDefinition{DefaultEncodingID: n(40), Fields: []*ua.StructureField{{Name: "self", DataType: n(4), ValueRank: 1}}},
	}, []*ua.NodeID{n(1), n(3), n(4), n(101), n(5)})
	if err != nil {
		tb.Fatal(err)
	}
	return types
}

func TestStructs(t *testing.T) {
	types := loaded(t)
	inner := devices.Struct{{Name: "a", Value: int16(-5)}, {Name: "list", Value: []any{"x", ""}}, {Name: "mode", Value: devices.Enum{Number: 3, Name: "On"}}, {Name: "own", Value: 2.5}}
	for name, tt := range map[string]struct {
		dataType uint32
		v        devices.Value
	}{
		"plain":         {2, inner},
		"all optional":  {3, devices.Struct{{Name: "must", Value: uint8(1)}, {Name: "may", Value: inner}, {Name: "too", Value: time.Unix(1e9, 0).UTC()}}},
		"none optional": {3, devices.Struct{{Name: "must", Value: uint8(1)}, {Name: "may"}, {Name: "too"}}},
		"in itself":     {4, devices.Struct{{Name: "self", Value: []any{devices.Struct{{Name: "self", Value: []any{}}}}}}},
		"enumeration":   {1, devices.Enum{Number: 3, Name: "On"}},
		"own double":    {101, 2.5},
		"matrix":        {101, []any{[]any{1.0, 2.0}, []any{3.0, 4.0}}},
	} {
		v, err := types.Variant(tt.v, n(tt.dataType), -2)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tt.v, types.Value(v, n(tt.dataType))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, tt := range map[string]struct {
		dataType uint32
		v        devices.Value
	}{
		"unknown type": {5, 1.0}, "not a number": {101, "x"}, "no such name": {1, "Sideways"}, "a field is missing": {2, devices.Struct{{Name: "a", Value: int16(1)}}},
		"uneven rows": {101, []any{[]any{1.0}, []any{1.0, 2.0}}},
	} {
		_, err := types.Variant(tt.v, n(tt.dataType), -2)
		if _, ok := errors.AsType[*devices.QualityError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzStruct: bytes of a structure are read by its definition or given as bytes.
func FuzzStruct(f *testing.F) {
	types := loaded(f)
	f.Add([]byte{1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 'x', 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 64})
	f.Add([]byte{3, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, encoding := range []uint32{20, 30, 40} {
			v, err := ua.NewVariant(&ua.ExtensionObject{EncodingMask: 1, TypeID: &ua.ExpandedNodeID{NodeID: n(encoding)}, Value: &codec.Raw{Bytes: b}})
			if err != nil {
				t.Fatal(err)
			}
			switch types.Value(v, n(2)).(type) {
			case devices.Struct, []byte, nil:
			default:
				t.Errorf("%T", types.Value(v, n(2)))
			}
		}
	})
}
