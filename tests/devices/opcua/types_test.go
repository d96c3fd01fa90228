package opcua_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func typed(url string) *devices.Device {
	dev := counters(url, 1, func(o *v1alpha1.OPCUA) {
		o.SecurityPolicy, o.SecurityMode = v1alpha1.PolicyNone, v1alpha1.ModeNone
	})
	zero, hundred := 0.0, 100.0
	dev.Model.Types = []v1alpha1.TypeDefinition{
		{Name: "Mode", Kind: v1alpha1.TypeEnum, Values: []v1alpha1.EnumValue{{Number: 0, Name: "Off"}, {Number: 5, Name: "Auto"}, {Number: 7, Name: "Manual"}}},
	}
	for name, t := range map[string]v1alpha1.ValueType{
		"Boolean": {Type: v1alpha1.TypeBool}, "SByte": {Type: v1alpha1.TypeInt8}, "Byte": {Type: v1alpha1.TypeUint8}, "Int16": {Type: v1alpha1.TypeInt16},
		"UInt16": {Type: v1alpha1.TypeUint16}, "Int32": {Type: v1alpha1.TypeInt32}, "UInt32": {Type: v1alpha1.TypeUint32}, "Int64": {Type: v1alpha1.TypeInt64},
		"UInt64": {Type: v1alpha1.TypeUint64}, "Float": {Type: v1alpha1.TypeFloat32}, "Double": {Type: v1alpha1.TypeFloat64}, "String": {Type: v1alpha1.TypeString},
		"DateTime": {Type: v1alpha1.TypeDateTime}, "ByteString": {Type: v1alpha1.TypeBytes}, "Array": {Type: v1alpha1.TypeInt32, Dimensions: []int32{0}},
		"Matrix": {Type: v1alpha1.TypeFloat64, Dimensions: []int32{2, 3}}, "Mode": {Type: v1alpha1.TypeEnum, TypeName: "Mode"},
		"Analog":   {Type: v1alpha1.TypeFloat64},
		"ReadOnly": {Type: v1alpha1.TypeInt32}, "Missing": {Type: v1alpha1.TypeInt32},
	} {
		p := v1alpha1.Property{Name: name, ValueType: t, Access: v1alpha1.ReadWrite}
		if name == "Analog" {
			p.Min, p.Max = &zero, &hundred
		}
		dev.Model.Properties = append(dev.Model.Properties, p)
		dev.Spec.Properties = append(dev.Spec.Properties, v1alpha1.DeviceProperty{Name: name, OPCUA: &v1alpha1.OPCUAProperty{NodeID: space + name}, Verify: true})
	}
	dev.Model.Methods = []v1alpha1.Method{{
		Name: "Add", Inputs: []v1alpha1.FieldType{{Name: "a", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeFloat64}}, {Name: "b", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt16}}},
		Outputs: []v1alpha1.FieldType{{Name: "sum", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeFloat64}}},
	}}
	dev.Spec.Methods = []v1alpha1.DeviceMethod{{Name: "Add", OPCUA: v1alpha1.OPCUAMethod{ObjectID: space + "Types", MethodID: space + "Add"}}}
	return dev
}

// All types of values but structures, which package values tests: subscribed, read, written and read back; a method.
func TestTypes(t *testing.T) {
	p := startPeer(t, nil)
	r := run(t, t.TempDir(), typed(p.url), &port{values: map[string]devices.Sample{}})
	want := map[string]devices.Value{
		"Boolean": true, "SByte": int8(-8), "Byte": uint8(8), "Int16": int16(-16), "UInt16": uint16(16), "Int32": int32(-32), "UInt32": uint32(32),
		"Int64": int64(-64), "UInt64": uint64(64), "Float": float32(1.5), "Double": 2.5, "String": "text",
		"DateTime": time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), "ByteString": []byte{1, 2, 3}, "Array": []any{int32(1), int32(2), int32(3)},
		"Matrix": []any{[]any{1.0, 2.0, 3.0}, []any{4.0, 5.0, 6.0}}, "Mode": devices.Enum{Number: 5, Name: "Auto"}, "Analog": 20.0, "ReadOnly": int32(1),
	}
	got := func(name string) devices.Sample {
		r.port.mu.Lock()
		defer r.port.mu.Unlock()
		return r.port.values[name]
	}
	for name, v := range want {
		eventually(t, 30*time.Second, name, func() bool { return !got(name).Server.IsZero() || !got(name).Source.IsZero() })
		if diff := cmp.Diff(v, got(name).Value); diff != "" {
			t.Errorf("%s subscribed: %s %v", name, diff, got(name).Quality)
		}
		s, err := r.conn.Read(t.Context(), []string{name})
		if err != nil || cmp.Diff(v, s[0].Value) != "" {
			t.Errorf("%s read: %v %v", name, s, err)
		}
	}
	eventually(t, 30*time.Second, "the missing node is told", func() bool {
		return r.port.look().Degraded == "ItemsRefused"
	})
	// Without a value of any other item behind it.
	eventually(t, 5*time.Second, "the missing node is bad", func() bool {
		return got("Missing").Quality == devices.BadNodeIDUnknown
	})
	for name, v := range map[string]devices.Value{
		"Boolean": false, "SByte": 7, "Byte": 200, "Int16": 3.0, "UInt16": int64(60000), "Int32": -5, "UInt32": 5, "Int64": int64(-1 << 60), "UInt64": uint64(1 << 60),
		"Float": 0.5, "Double": 7, "String": "other", "DateTime": "2027-01-02T03:04:05Z", "ByteString": []byte{9}, "Array": []any{4, 5},
		"Matrix": []any{[]any{6.0, 5.0, 4.0}, []any{3.0, 2.0, 1.0}}, "Mode": "Manual",
	} {
		switch n := v.(type) {
		case int:
			v = int64(n)
		case []any:
			for i := range n {
				if e, ok := n[i].(int); ok {
					n[i] = int64(e)
				}
			}
		}
		if errs := r.conn.Write(t.Context(), []devices.Write{{Property: name, Value: v}}); errs[0] != nil {
			t.Errorf("%s written: %v", name, errs[0])
		}
	}
	for name, bad := range map[string]struct {
		v    devices.Value
		want devices.Quality
	}{
		"Byte": {int64(300), devices.BadOutOfRange}, "Int16": {1.5, devices.BadTypeMismatch}, "Mode": {"Sideways", devices.BadOutOfRange},
		"Analog": {101.0, devices.BadOutOfRange}, "ReadOnly": {int64(1), devices.BadNotWritable}, "Missing": {int64(1), devices.BadTypeMismatch},
	} {
		errs := r.conn.Write(t.Context(), []devices.Write{{Property: name, Value: bad.v}})
		if devices.QualityOf(errs[0]) != bad.want {
			t.Errorf("%s: %v, want %v", name, errs[0], bad.want)
		}
	}
	out, err := r.conn.Call(t.Context(), "Add", []devices.Field{{Name: "a", Value: 1.5}, {Name: "b", Value: int64(2)}})
	if diff := cmp.Diff([]devices.Field{{Name: "sum", Value: 3.5}}, out); diff != "" || err != nil {
		t.Errorf("Add: %s %v", diff, err)
	}
	if _, err := r.conn.Call(t.Context(), "Subtract", nil); !errors.Is(err, devices.ErrUnknownProperty) {
		t.Errorf("a method that is not there: %v", err)
	}
}
