package devices_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func model() *v1alpha1.DeviceModelSpec {
	return &v1alpha1.DeviceModelSpec{Types: []v1alpha1.TypeDefinition{
		{Name: "Mode", Kind: v1alpha1.TypeEnum, Values: []v1alpha1.EnumValue{{Number: 0, Name: "Off"}, {Number: 7, Name: "Auto"}}},
		{Name: "Point", Kind: v1alpha1.TypeStruct, Fields: []v1alpha1.FieldType{
			{Name: "x", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeFloat64}},
			{Name: "n", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt16, Dimensions: []int32{0}}},
			{Name: "mode", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeEnum, TypeName: "Mode"}},
		}},
	}}
}

func scalar(t v1alpha1.Type) v1alpha1.ValueType { return v1alpha1.ValueType{Type: t} }

func TestCoerce(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 5000, time.UTC)
	mode := v1alpha1.ValueType{Type: v1alpha1.TypeEnum, TypeName: "Mode"}
	point := v1alpha1.ValueType{Type: v1alpha1.TypeStruct, TypeName: "Point"}
	matrix := v1alpha1.ValueType{Type: v1alpha1.TypeUint8, Dimensions: []int32{2, 0}}
	for _, tc := range []struct {
		name string
		in   devices.Value
		to   v1alpha1.ValueType
		want devices.Value
		bad  devices.Quality // unless Good
	}{
		{"same", int16(-4), scalar(v1alpha1.TypeInt16), int16(-4), 0},
		{"smallest int8", int64(-128), scalar(v1alpha1.TypeInt8), int8(-128), 0},
		{"below int8", int64(-129), scalar(v1alpha1.TypeInt8), nil, devices.BadOutOfRange},
		{"above int8", uint8(128), scalar(v1alpha1.TypeInt8), nil, devices.BadOutOfRange},
		{"largest uint16", float64(65535), scalar(v1alpha1.TypeUint16), uint16(65535), 0},
		{"above uint16", 65536.0, scalar(v1alpha1.TypeUint16), nil, devices.BadOutOfRange},
		{"negative for uint32", int8(-1), scalar(v1alpha1.TypeUint32), nil, devices.BadOutOfRange},
		{"minus zero for uint32", math.Copysign(0, -1), scalar(v1alpha1.TypeUint32), uint32(0), 0},
		{"smallest int64", float64(math.MinInt64), scalar(v1alpha1.TypeInt64), int64(math.MinInt64), 0},
		{"above int64", uint64(1 << 63), scalar(v1alpha1.TypeInt64), nil, devices.BadOutOfRange},
		{"largest uint64", uint64(math.MaxUint64), scalar(v1alpha1.TypeUint64), uint64(math.MaxUint64), 0},
		{"above uint64", math.Ldexp(1, 64), scalar(v1alpha1.TypeUint64), nil, devices.BadTypeMismatch},
		{"fraction for int32", 1.5, scalar(v1alpha1.TypeInt32), nil, devices.BadTypeMismatch},
		{"NaN for int32", math.NaN(), scalar(v1alpha1.TypeInt32), nil, devices.BadTypeMismatch},
		{"int for float64", int32(3), scalar(v1alpha1.TypeFloat64), 3.0, 0},
		{"int that a float64 rounds", int64(1<<53 + 1), scalar(v1alpha1.TypeFloat64), nil, devices.BadTypeMismatch},
		{"largest int64 for float64", int64(math.MaxInt64), scalar(v1alpha1.TypeFloat64), nil, devices.BadTypeMismatch},
		{"nearest float32", 0.1, scalar(v1alpha1.TypeFloat32), float32(0.1), 0},
		{"above float32", 1e39, scalar(v1alpha1.TypeFloat32), nil, devices.BadOutOfRange},
		{"infinity for float32", math.Inf(1), scalar(v1alpha1.TypeFloat32), float32(math.Inf(1)), 0},
		{"number for bool", 1, scalar(v1alpha1.TypeBool), nil, devices.BadTypeMismatch},
		{"string for number", "5", scalar(v1alpha1.TypeInt8), nil, devices.BadTypeMismatch},
		{"datetime in text", "2026-03-01T12:00:00.000005Z", scalar(v1alpha1.TypeDateTime), at, 0},
		{"nothing", nil, scalar(v1alpha1.TypeInt8), nil, devices.BadTypeMismatch},
		{"enum by name", "Auto", mode, devices.Enum{Number: 7, Name: "Auto"}, 0},
		{"enum by number", uint8(7), mode, devices.Enum{Number: 7, Name: "Auto"}, 0},
		{"enum without its name", devices.Enum{Number: 7}, mode, devices.Enum{Number: 7, Name: "Auto"}, 0},
		{"unknown name", "Fast", mode, nil, devices.BadOutOfRange},
		{"unknown number", 3.0, mode, nil, devices.BadOutOfRange},
		{"type that the model lacks", 3.0, v1alpha1.ValueType{Type: v1alpha1.TypeEnum, TypeName: "Nil"}, nil, devices.BadConfiguration},
		{
			"struct in another order",
			devices.Struct{{Name: "mode", Value: int64(0)}, {Name: "x", Value: int64(2)}, {Name: "n", Value: []any{int64(1), int64(2)}}},
			point,
			devices.Struct{{Name: "x", Value: 2.0}, {Name: "n", Value: []any{int16(1), int16(2)}}, {Name: "mode", Value: devices.Enum{Name: "Off"}}},
			0,
		},
		{"struct without a field", devices.Struct{{Name: "x", Value: 2.0}}, point, nil, devices.BadTypeMismatch},
		{"struct with one too many", devices.Struct{{Name: "x", Value: 2.0}, {Name: "n", Value: []any{}}, {Name: "mode", Value: "Off"}, {Name: "y", Value: 1}}, point, nil, devices.BadTypeMismatch},
		{"matrix", []any{[]any{1.0}, []any{int64(2), int64(3)}}, matrix, []any{[]any{uint8(1)}, []any{uint8(2), uint8(3)}}, 0},
		{"too few rows", []any{[]any{1.0}}, matrix, nil, devices.BadTypeMismatch},
		{"scalar for an array", 1.0, matrix, nil, devices.BadTypeMismatch},
		{"array for a scalar", []any{1.0}, scalar(v1alpha1.TypeInt8), nil, devices.BadTypeMismatch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := devices.Coerce(tc.in, tc.to, model())
			if tc.bad != devices.Good {
				if err == nil || devices.QualityOf(err) != tc.bad {
					t.Fatalf("got %v, %v; want %v", got, err, tc.bad)
				}
				return
			}
			if err != nil || !devices.Equal(got, tc.want) {
				t.Fatalf("got %#v, %v; want %#v", got, err, tc.want)
			}
		})
	}
}

func TestCoerceProperty(t *testing.T) {
	low, high := -10.0, 10.0
	p := v1alpha1.Property{
		Name: "speed", ValueType: scalar(v1alpha1.TypeInt16), Min: &low, Max: &high, Access: v1alpha1.ReadWrite,
	}
	if got, err := devices.CoerceProperty(10.0, p, nil); err != nil || got != int16(10) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, v := range []float64{-11, 11} {
		_, err := devices.CoerceProperty(v, p, nil)
		if devices.QualityOf(err) != devices.BadOutOfRange || !strings.Contains(err.Error(), "speed") {
			t.Errorf("%v: %v", v, err)
		}
	}
	floats := p
	floats.ValueType = v1alpha1.ValueType{Type: v1alpha1.TypeFloat32, Dimensions: []int32{0}}
	if _, err := devices.CoerceProperty([]any{1.0, math.NaN()}, floats, nil); devices.QualityOf(err) != devices.BadOutOfRange {
		t.Errorf("NaN: %v", err)
	}
	p.Access = v1alpha1.ReadOnly
	if _, err := devices.CoerceProperty(1.0, p, nil); devices.QualityOf(err) != devices.BadNotWritable {
		t.Errorf("read only: %v", err)
	}
}

// TestJSON writes each type and reads it back.
func TestJSON(t *testing.T) {
	point := v1alpha1.ValueType{Type: v1alpha1.TypeStruct, TypeName: "Point"}
	for _, tc := range []struct {
		value devices.Value
		typ   v1alpha1.ValueType
		want  string
	}{
		{true, scalar(v1alpha1.TypeBool), `true`},
		{int8(-5), scalar(v1alpha1.TypeInt8), `-5`},
		{int64(1 << 53), scalar(v1alpha1.TypeInt64), `9007199254740992`},
		{int64(math.MinInt64), scalar(v1alpha1.TypeInt64), `"-9223372036854775808"`},
		{uint64(math.MaxUint64), scalar(v1alpha1.TypeUint64), `"18446744073709551615"`},
		{float32(0.1), scalar(v1alpha1.TypeFloat32), `0.1`},
		{1e300, scalar(v1alpha1.TypeFloat64), `1e+300`},
		{math.NaN(), scalar(v1alpha1.TypeFloat64), `"NaN"`},
		{float32(math.Inf(-1)), scalar(v1alpha1.TypeFloat32), `"-Infinity"`},
		{"a<\"é\n", scalar(v1alpha1.TypeString), `"a<\"é\n"`},
		{[]byte{0, 255}, scalar(v1alpha1.TypeBytes), `"AP8="`},
		{time.Date(2026, 1, 2, 3, 4, 5, 100, time.UTC), scalar(v1alpha1.TypeDateTime), `"2026-01-02T03:04:05.0000001Z"`},
		{devices.Enum{Number: 7, Name: "Auto"}, v1alpha1.ValueType{Type: v1alpha1.TypeEnum, TypeName: "Mode"}, `"Auto"`},
		{devices.Struct{{Name: "x", Value: 1.5}, {Name: "n", Value: []any{int16(1)}}, {Name: "mode", Value: devices.Enum{Number: 0, Name: "Off"}}}, point, `{"x":1.5,"n":[1],"mode":"Off"}`},
		{[]any{}, v1alpha1.ValueType{Type: v1alpha1.TypeString, Dimensions: []int32{0}}, `[]`},
	} {
		got, err := devices.EncodeJSON(tc.value)
		if err != nil || string(got) != tc.want {
			t.Errorf("%v: got %s, %v; want %s", tc.value, got, err, tc.want)
			continue
		}
		back, err := devices.DecodeJSON(got, tc.typ, model())
		if err != nil || !devices.Equal(back, tc.value) {
			t.Errorf("%s: read back %#v, %v", got, back, err)
		}
	}
	if got, err := devices.EncodeJSON(struct{}{}); err == nil {
		t.Errorf("a value that is none: %s", got)
	}
	if got, err := devices.EncodeJSON("\xff"); err != nil || string(got) != `"�"` {
		t.Errorf("no UTF-8: %s, %v", got, err)
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	for _, tc := range []struct{ text, typ string }{
		{``, "int8"},
		{`1 2`, "int8"},
		{`{"a":1}`, "int8"},
		{`"x"`, "int8"},
		{`1.5`, "int8"},
		{`null`, "int8"},
		{`"*"`, "bytes"},
		{`"yesterday"`, "datetime"},
		{`1`, "string"},
		{`[1]`, "int8"},
		{strings.Repeat("[", 100) + strings.Repeat("]", 100), "int8"},
	} {
		got, err := devices.DecodeJSON([]byte(tc.text), scalar(v1alpha1.Type(tc.typ)), model())
		if _, ok := errors.AsType[*devices.QualityError](err); !ok {
			t.Errorf("%q as %s: got %v, %v", tc.text, tc.typ, got, err)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"x":1,"n":[2],"mode":"Off"}`), "struct", "Point", 0)
	f.Add([]byte(`[[1],["2"]]`), "int64", "", 2)
	f.Fuzz(func(t *testing.T, data []byte, typ, typeName string, dimensions int) {
		vt := v1alpha1.ValueType{Type: v1alpha1.Type(typ), TypeName: typeName, Dimensions: make([]int32, max(0, min(dimensions, 4)))}
		v, err := devices.DecodeJSON(data, vt, model())
		if err != nil {
			return
		}
		text, err := devices.EncodeJSON(v)
		if err != nil {
			t.Fatalf("%#v was read and can't be written: %v", v, err)
		}
		back, err := devices.DecodeJSON(text, vt, model())
		if err != nil || !devices.Equal(v, back) {
			t.Fatalf("%s: read %#v, written as %s, read back %#v, %v", data, v, text, back, err)
		}
	})
}

func TestQuality(t *testing.T) {
	for q, want := range map[devices.Quality]string{
		devices.Good: "Good", devices.UncertainLastUsable: "UncertainLastUsableValue", devices.BadNoData: "BadNoData",
		0x809B0480: "BadNoData", 0x80AB0000: "0x80AB0000", // info bits; a code of no name
	} {
		if got := q.String(); got != want {
			t.Errorf("%#x: got %s, want %s", uint32(q), got, want)
		}
		back, err := devices.ParseQuality(want)
		if err != nil || back.String() != want {
			t.Errorf("%s is read as %v, %v", want, back, err)
		}
	}
	if !devices.Good.IsGood() || !devices.UncertainLastUsable.IsUncertain() || !devices.BadTimeout.IsBad() || devices.BadTimeout.IsGood() {
		t.Error("the top bits are not understood")
	}
	if _, err := devices.ParseQuality("Fine"); err == nil {
		t.Error("Fine is read as a quality")
	}
}

func TestEqual(t *testing.T) {
	values := []devices.Value{
		nil, true, int8(1), int16(1), uint64(1), float32(1), 1.0, math.NaN(), "1", []byte("1"), time.Unix(1, 0),
		devices.Enum{Number: 1},
		devices.Struct{{Name: "a", Value: 1.0}},
		devices.Struct{{Name: "b", Value: 1.0}},
		[]any{1.0},
		[]any{1.0, 2.0},
		[]any{nil},
	}
	var got, want [][2]int
	for i, a := range values {
		want = append(want, [2]int{i, i})
		for j, b := range values {
			if devices.Equal(a, b) {
				got = append(got, [2]int{i, j})
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if devices.Equal(struct{}{}, struct{}{}) {
		t.Error("what is no value equals")
	}
}
