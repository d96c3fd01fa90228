package value

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const (
	large  = v1alpha1.BigEndian
	little = v1alpha1.LittleEndian
)

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func reg(t v1alpha1.ModbusType) v1alpha1.ModbusProperty {
	return v1alpha1.ModbusProperty{Table: v1alpha1.TableHolding, Type: t}
}

func ordered(t v1alpha1.ModbusType, words, bytes v1alpha1.Order) v1alpha1.ModbusProperty {
	m := reg(t)
	m.WordOrder, m.ByteOrder = words, bytes
	return m
}

func scaled(t v1alpha1.ModbusType, scale, offset float64) v1alpha1.ModbusProperty {
	m := reg(t)
	m.Scale, m.Offset = &scale, &offset
	return m
}

func long(t v1alpha1.ModbusType, n int32) v1alpha1.ModbusProperty {
	m := reg(t)
	m.Length = n
	return m
}

func model(types ...v1alpha1.TypeDefinition) *v1alpha1.DeviceModelSpec {
	return &v1alpha1.DeviceModelSpec{Types: types}
}

// Each is read, and written back to the same bytes.
func TestThereAndBack(t *testing.T) {
	mode := v1alpha1.TypeDefinition{Name: "Mode", Kind: v1alpha1.TypeEnum, Values: []v1alpha1.EnumValue{{Number: 2, Name: "Auto"}}}
	for name, c := range map[string]struct {
		at    v1alpha1.ModbusProperty
		kind  v1alpha1.ValueType
		bytes string
		want  devices.Value
	}{
		"int16":         {reg("int16"), v1alpha1.ValueType{Type: "int16"}, "fffe", int16(-2)},
		"uint16":        {reg("uint16"), v1alpha1.ValueType{Type: "uint16"}, "fffe", uint16(65534)},
		"int32 ABCD":    {reg("int32"), v1alpha1.ValueType{Type: "int32"}, "01020304", int32(0x01020304)},
		"int32 CDAB":    {ordered("int32", little, large), v1alpha1.ValueType{Type: "int32"}, "03040102", int32(0x01020304)},
		"int32 BADC":    {ordered("int32", large, little), v1alpha1.ValueType{Type: "int32"}, "02010403", int32(0x01020304)},
		"int32 DCBA":    {ordered("int32", little, little), v1alpha1.ValueType{Type: "int32"}, "04030201", int32(0x01020304)},
		"uint64 A..H":   {reg("uint64"), v1alpha1.ValueType{Type: "uint64"}, "ff02030405060708", uint64(0xff02030405060708)},
		"uint64 GHEF":   {ordered("uint64", little, large), v1alpha1.ValueType{Type: "uint64"}, "0708050603040102", uint64(0x0102030405060708)},
		"int64 BADC":    {ordered("int64", large, little), v1alpha1.ValueType{Type: "int64"}, "0201040306050807", int64(0x0102030405060708)},
		"int64 H..A":    {ordered("int64", little, little), v1alpha1.ValueType{Type: "int64"}, "feffffffffffffff", int64(-2)},
		"float32 CDAB":  {ordered("float32", little, large), v1alpha1.ValueType{Type: "float32"}, "00004148", float32(12.5)},
		"float64 DCBA":  {ordered("float64", little, little), v1alpha1.ValueType{Type: "float64"}, "182d4454fb210940", math.Pi},
		"float32 wide":  {reg("float32"), v1alpha1.ValueType{Type: "float64"}, "3dcccccd", 0.1},
		"int8":          {reg("int8"), v1alpha1.ValueType{Type: "int8"}, "00ff", int8(-1)},
		"bcd16":         {reg("bcd16"), v1alpha1.ValueType{Type: "uint16"}, "1234", uint16(1234)},
		"bcd32 CDAB":    {ordered("bcd32", little, large), v1alpha1.ValueType{Type: "uint32"}, "56781234", uint32(12345678)},
		"bcd scaled":    {scaled("bcd16", 0.01, 0), v1alpha1.ValueType{Type: "float64"}, "1234", 12.34},
		"string":        {long("string", 4), v1alpha1.ValueType{Type: "string"}, "534b2d3900000000", "SK-9"},
		"bytes":         {long("bytes", 2), v1alpha1.ValueType{Type: "bytes"}, "00ff00aa", []byte{0, 255, 0, 170}},
		"bytes swapped": {v1alpha1.ModbusProperty{Table: "input", Type: "bytes", Length: 1, ByteOrder: little}, v1alpha1.ValueType{Type: "bytes"}, "0102", []byte{2, 1}},
		"tenths":        {scaled("int16", 0.1, 0), v1alpha1.ValueType{Type: "float64"}, "00e7", 23.1},
		"tenths, small": {scaled("int16", 0.1, 0), v1alpha1.ValueType{Type: "float32"}, "00e7", float32(23.1)},
		"negative":      {scaled("int16", 0.1, 0), v1alpha1.ValueType{Type: "float64"}, "ff19", -23.1},
		"offset":        {scaled("uint16", 0.05, -40), v1alpha1.ValueType{Type: "float64"}, "0321", 0.05},
		"a third":       {scaled("uint16", 1.0/3, 0), v1alpha1.ValueType{Type: "float64"}, "0002", 2 * 0.3333333333333333},
		"whole scale":   {scaled("uint16", 10, 5), v1alpha1.ValueType{Type: "int32"}, "0007", int32(75)},
		"big and scale": {scaled("uint64", 0.001, 0), v1alpha1.ValueType{Type: "float64"}, "0000ffffffffffff", 281474976710.655},
		"float scaled":  {scaled("float32", 0.1, 1), v1alpha1.ValueType{Type: "float64"}, "41200000", 2.0},
		"enum":          {reg("uint16"), v1alpha1.ValueType{Type: "enum", TypeName: "Mode"}, "0002", devices.Enum{Number: 2, Name: "Auto"}},
		"list":          {reg("int16"), v1alpha1.ValueType{Type: "int16", Dimensions: []int32{3}}, "0001ffff0003", []any{int16(1), int16(-1), int16(3)}},
	} {
		t.Run(name, func(t *testing.T) {
			codec, err := New(c.at, c.kind, model(mode))
			if err != nil {
				t.Fatal(err)
			}
			b := unhex(t, c.bytes)
			got, q := codec.Decode(append([]byte{9, 9}, b...), 1)
			if !q.IsGood() || !devices.Equal(got, c.want) {
				t.Fatalf("%v (%T) %v, want %v (%T)", got, got, q, c.want, c.want)
			}
			back, mask, err := codec.Encode(c.want)
			if wantMask := uint16(0xFFFF); name != "int8" && mask != wantMask || name == "int8" && mask != 0xFF {
				t.Errorf("mask %04x", mask)
			}
			if err != nil || hex.EncodeToString(back) != c.bytes {
				t.Errorf("%x, %v, want %s", back, err, c.bytes)
			}
		})
	}
}

func TestBits(t *testing.T) {
	boolean := v1alpha1.ValueType{Type: "bool"}
	coil, err := New(v1alpha1.ModbusProperty{Table: "coil"}, boolean, nil)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range []bool{true, false, true, true, false, false, true, true, false, true} {
		if v, q := coil.Decode([]byte{0xcd, 0x02}, at); v != want || !q.IsGood() {
			t.Errorf("bit %d: %v, %v", at, v, q)
		}
	}
	list, err := New(v1alpha1.ModbusProperty{Table: "coil"}, v1alpha1.ValueType{Type: "bool", Dimensions: []int32{3}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := list.Decode([]byte{0x80, 0x01}, 7); !cmp.Equal(v, any([]any{true, true, false})) {
		t.Errorf("list %v", v)
	}
	if b, _, err := list.Encode([]any{true, false, true}); err != nil || !cmp.Equal(b, []byte{1, 0, 1}) {
		t.Errorf("%v, %v", b, err)
	}
	for order, want := range map[v1alpha1.Order]string{large: "1000", little: "0010"} {
		at := v1alpha1.ModbusProperty{Table: "holding", Type: "bool", Bit: new(int32(12)), ByteOrder: order}
		bit, err := New(at, boolean, nil)
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := bit.Decode(unhex(t, want), 0); v != true {
			t.Errorf("%s: %v", order, v)
		}
		data, mask, err := bit.Encode(true)
		if err != nil || hex.EncodeToString(data) != want || binary.BigEndian.Uint16(data) != mask {
			t.Errorf("%s: %x, mask %04x, %v", order, data, mask, err)
		}
	}
}

func TestWhatCantBeReadIsBad(t *testing.T) {
	for name, c := range map[string]struct {
		at    v1alpha1.ModbusProperty
		kind  v1alpha1.Type
		bytes string
		want  devices.Quality
	}{
		"no BCD":           {reg("bcd16"), "uint16", "12a4", devices.BadOutOfRange},
		"not a number":     {reg("float32"), "float32", "7fc00000", devices.BadSensorFailure},
		"infinite":         {scaled("float32", 2, 0), "float64", "7f800000", devices.BadSensorFailure},
		"too large":        {reg("uint32"), "int16", "00010000", devices.BadOutOfRange},
		"too large scaled": {scaled("uint64", 10, 0), "uint64", "ffffffffffffffff", devices.BadOutOfRange},
		"negative":         {reg("int16"), "uint16", "ffff", devices.BadOutOfRange},
		"a fraction":       {reg("float32"), "int16", "3fc00000", devices.BadOutOfRange},
		"cut short":        {reg("int32"), "int32", "0001", devices.BadNoData},
	} {
		codec, err := New(c.at, v1alpha1.ValueType{Type: c.kind}, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v, q := codec.Decode(unhex(t, c.bytes), 0); v != nil || q != c.want {
			t.Errorf("%s: %v, %v, want %v", name, v, q, c.want)
		}
	}
}

func TestWhatCantBeWrittenIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		at   v1alpha1.ModbusProperty
		kind v1alpha1.Type
		v    devices.Value
		want string
	}{
		"between two":  {scaled("int16", 0.1, 0), "float64", 23.14, "the nearest are 23.1 and 23.2"},
		"no multiple":  {scaled("int16", 10, 0), "int32", int32(15), "no multiple"},
		"too large":    {scaled("int16", 0.1, 0), "float64", 4000.0, "the register would be 40000, int16 holds -32768 to 32767"},
		"negative":     {reg("uint16"), "int32", int32(-1), "uint16 holds 0 to 65535"},
		"five digits":  {reg("bcd16"), "uint32", uint32(10000), "bcd16 holds 0 to 9999"},
		"no number":    {reg("float32"), "float64", math.NaN(), "finite"},
		"above":        {reg("float32"), "float64", 1e39, "float32"},
		"a long text":  {long("string", 1), "string", "abc", "room for 2"},
		"few bytes":    {long("bytes", 2), "bytes", []byte{1}, "exactly 4"},
		"not integral": {reg("int16"), "float64", 1.5, "the nearest are 1 and 2"},
	} {
		codec, err := New(c.at, v1alpha1.ValueType{Type: c.kind}, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var q *devices.QualityError
		if _, _, err := codec.Encode(c.v); !errors.As(err, &q) || !strings.Contains(q.Reason, c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestFaultsOfTheConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		at    v1alpha1.ModbusProperty
		kind  v1alpha1.ValueType
		field string
	}{
		"no table":          {v1alpha1.ModbusProperty{Type: "int16"}, v1alpha1.ValueType{Type: "int16"}, "table"},
		"number of a coil":  {v1alpha1.ModbusProperty{Table: "coil", Type: "int16"}, v1alpha1.ValueType{Type: "int16"}, "type"},
		"no type":           {reg("nibble"), v1alpha1.ValueType{Type: "int16"}, "type"},
		"bool without bit":  {reg("bool"), v1alpha1.ValueType{Type: "bool"}, "bit"},
		"text for a number": {long("string", 2), v1alpha1.ValueType{Type: "int16"}, "type"},
		"number for a text": {reg("int16"), v1alpha1.ValueType{Type: "string"}, "type"},
		"no length":         {reg("string"), v1alpha1.ValueType{Type: "string"}, "length"},
		"past the end":      {v1alpha1.ModbusProperty{Table: "holding", Type: "int32", Address: 65535}, v1alpha1.ValueType{Type: "int32"}, "address"},
		"too long a list":   {reg("int32"), v1alpha1.ValueType{Type: "int32", Dimensions: []int32{63}}, "length"},
		"a list of any":     {reg("int32"), v1alpha1.ValueType{Type: "int32", Dimensions: []int32{0}}, "type"},
		"a matrix":          {reg("int32"), v1alpha1.ValueType{Type: "int32", Dimensions: []int32{2, 2}}, "type"},
		"no scale":          {scaled("int16", 0, 0), v1alpha1.ValueType{Type: "float64"}, "scale"},
		"scaled to whole":   {scaled("int16", 0.1, 0), v1alpha1.ValueType{Type: "int32"}, "type"},
		"no enumeration":    {reg("int16"), v1alpha1.ValueType{Type: "enum", TypeName: "Mode"}, "type"},
	} {
		var e *devices.ConfigError
		if _, err := New(c.at, c.kind, nil); !errors.As(err, &e) || e.Field != c.field {
			t.Errorf("%s: %v, want a fault of %s", name, err, c.field)
		}
	}
}

// Every value that an int16 with a scale can have is read, written back to itself, and
// is the decimal that a person would write.
func TestScaleIsExact(t *testing.T) {
	for _, scale := range []float64{0.1, 0.01, 0.001, 0.25, 0.3, 1.7, 1e-6, 123.456} {
		for _, offset := range []float64{0, -40, 0.05, 273.15} {
			codec, err := New(scaled("int16", scale, offset), v1alpha1.ValueType{Type: "float64"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for raw := -32768; raw < 32768; raw += 331 {
				b := binary.BigEndian.AppendUint16(nil, uint16(raw))
				v, q := codec.Decode(b, 0)
				back, _, err := codec.Encode(v)
				if err != nil || !q.IsGood() || string(back) != string(b) {
					t.Fatalf("scale %v, offset %v: %d became %v and then %x, %v", scale, offset, raw, v, back, err)
				}
			}
		}
	}
}

func FuzzCodec(f *testing.F) {
	f.Add(uint8(0), uint8(0), []byte{0, 1, 2, 3}, 0.1, 0.0)
	f.Add(uint8(9), uint8(3), []byte{0x7f, 0xc0, 0, 0}, 1.0, 1e300)
	raws := []v1alpha1.ModbusType{"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bcd16", "bcd32", "string", "bytes"}
	kinds := []v1alpha1.Type{"float64", "float32", "int16", "uint64", "int64", "string", "bytes"}
	f.Fuzz(func(t *testing.T, raw, kind uint8, data []byte, scale, offset float64) {
		at := scaled(raws[int(raw)%len(raws)], scale, offset)
		if scale == 1 && offset == 0 {
			at.Scale, at.Offset = nil, nil
		}
		at.WordOrder, at.ByteOrder = large, large
		if kind&64 != 0 {
			at.WordOrder = little
		}
		if kind&128 != 0 {
			at.ByteOrder = little
		}
		if at.Type == "string" || at.Type == "bytes" {
			at.Length = int32(len(data) / 2)
		}
		codec, err := New(at, v1alpha1.ValueType{Type: kinds[int(kind&63)%len(kinds)]}, nil)
		if err != nil {
			return
		}
		v, q := codec.Decode(data, 0)
		if q.IsBad() != (v == nil) {
			t.Fatalf("%v with %v", v, q)
		}
		if v == nil {
			return
		}
		back, _, err := codec.Encode(v)
		if err != nil { // a scale may have made two raw values the same, or a float too large
			return
		}
		if again, _ := codec.Decode(back, 0); !devices.Equal(again, v) && at.Type != "string" && !codec.isFloat() {
			t.Fatalf("%v was written as %x and read as %v", v, back, again)
		}
	})
}
