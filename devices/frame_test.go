package devices_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/devices"
)

func frame() devices.Frame {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)
	values := []devices.Value{
		nil, false, true, int8(math.MinInt8), int16(math.MaxInt16), int32(-7), int64(math.MinInt64), uint8(255), uint16(65535),
		uint32(math.MaxUint32), uint64(math.MaxUint64), float32(1.5), -2.25, "text",
		[]byte{0, 1},
		time.Unix(-62135596800, 5).UTC(),
		devices.Enum{Number: -3, Name: "Off"},
		devices.Struct{{Name: "x", Value: []any{int8(1), nil}}},
		[]any{[]any{1.0}, []any{}},
	}
	f := devices.Frame{Namespace: "plant", Name: "press", UID: "u-1"}
	for i, v := range values {
		name := []string{"speed", "level"}[i%2]
		f.Samples = append(f.Samples, devices.Sample{Property: name, Value: v, Quality: devices.Quality(i) << 28, Source: at.Add(time.Duration(i))})
	}
	f.Samples[3].Server = at
	f.Gaps = []devices.Gap{{Property: "level", From: at, To: at.Add(time.Hour), Lost: 12, Reason: "Outage"}, {Reason: "Unknown"}}
	return f
}

func TestFrame(t *testing.T) {
	want := frame()
	b, err := devices.AppendFrame(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := devices.ParseFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for n := range b {
		if _, err := devices.ParseFrame(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a frame", n, len(b))
		}
	}
	if _, err := devices.AppendFrame(nil, devices.Frame{Samples: []devices.Sample{{Value: struct{}{}}}}); err == nil {
		t.Error("what is no value is encoded")
	}
}

func FuzzParseFrame(f *testing.F) {
	b, err := devices.AppendFrame(nil, frame())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := devices.ParseFrame(b)
		if err != nil {
			return
		}
		again, err := devices.AppendFrame(nil, got)
		if err != nil {
			t.Fatal(err)
		}
		back, err := devices.ParseFrame(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := devices.AppendFrame(nil, back)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%x is read as %+v and written as %x (%v)", again, back, third, err)
		}
	})
}
