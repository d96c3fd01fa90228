package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/codec"
)

func header() *ua.ResponseHeader {
	return &ua.ResponseHeader{
		Timestamp: time.Unix(1e9, 0).UTC(), ServiceDiagnostics: &ua.DiagnosticInfo{},
		StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil),
	}
}

func value(v any) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp, Value: ua.MustVariant(v), SourceTimestamp: time.Unix(1e9, 500).UTC()}
}

func publish(values ...any) *ua.PublishResponse {
	change := &ua.DataChangeNotification{DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for i, v := range values {
		change.MonitoredItems = append(change.MonitoredItems, &ua.MonitoredItemNotification{ClientHandle: uint32(i), Value: value(v)})
	}
	return &ua.PublishResponse{
		ResponseHeader: header(), SubscriptionID: 7, AvailableSequenceNumbers: []uint32{1, 2},
		NotificationMessage: &ua.NotificationMessage{SequenceNumber: 2, PublishTime: time.Unix(1e9, 0).UTC(), NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(change)}},
		Results:             []ua.StatusCode{}, DiagnosticInfos: []*ua.DiagnosticInfo{},
	}
}

func services() []any {
	guid := ua.NewGUID("72962B91-FA75-4AE6-8D28-B404DC7DAF63")
	return []any{
		publish(true, int8(-1), uint8(2), int16(-3), uint16(4), int32(-5), uint32(6), int64(-7), uint64(8), float32(1.5), 2.5,
			"text", []byte("bytes"), time.Unix(1e9, 0).UTC(), guid, ua.NewStringNodeID(2, "n"), ua.NewLocalizedText("l"),
			&ua.QualifiedName{NamespaceIndex: 1, Name: "q"}, ua.StatusBadTimeout, []int32{1, 2}, [][]float64{{1, 2}, {3, 4}}, []string{"a", ""},
			ua.NewExtensionObject(&ua.Range{Low: 1, High: 2}), ua.NewGUIDNodeID(1, "72962B91-FA75-4AE6-8D28-B404DC7DAF63")),
		&ua.ReadResponse{ResponseHeader: header(), Results: []*ua.DataValue{value(int32(1))}, DiagnosticInfos: []*ua.DiagnosticInfo{{EncodingMask: 0x40, InnerDiagnosticInfo: &ua.DiagnosticInfo{}}}},
		&ua.ServiceFault{ResponseHeader: header()},
		&ua.GetEndpointsResponse{ResponseHeader: header(), Endpoints: []*ua.EndpointDescription{{Server: &ua.ApplicationDescription{ApplicationName: ua.NewLocalizedText("x"), DiscoveryURLs: []string{"u"}}, UserIdentityTokens: []*ua.UserTokenPolicy{{PolicyID: "p"}}}}},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range services() {
		b, err := codec.Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := codec.Decode(b)
		if err != nil {
			t.Fatalf("%T: %v", want, err)
		}
		again, err := codec.Encode(got)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%T changed: %v %s", want, err, cmp.Diff(hex.Dump(b), hex.Dump(again)))
		}
		for n := range b {
			if _, err := codec.Decode(b[:n]); !errors.Is(err, codec.ErrMalformed) {
				t.Fatalf("%T cut at %d: %v", want, n, err)
			}
		}
	}
}

// nested gives a response to Read whose value is depth Variants in each other.
func nested(t *testing.T, depth int) []byte {
	t.Helper()
	b, err := codec.Encode(&ua.ReadResponse{ResponseHeader: header(), Results: []*ua.DataValue{}, DiagnosticInfos: []*ua.DiagnosticInfo{}})
	if err != nil {
		t.Fatal(err)
	}
	b = append(b[:len(b)-8], 1, 0, 0, 0, 1)
	b = append(b, bytes.Repeat([]byte{24}, depth)...)
	return append(b, 0, 0, 0, 0, 0)
}

// What would cost gopcua's decoder a stack or a memory that nobody can recover from.
func TestHostile(t *testing.T) {
	if _, err := codec.Decode(nested(t, 50)); err != nil {
		t.Errorf("50 deep: %v", err)
	}
	diagnostics, err := codec.Encode(&ua.ServiceFault{ResponseHeader: header()})
	if err != nil {
		t.Fatal(err)
	}
	at := 4 + 8 + 4 + 4
	deep := append(append(append([]byte{}, diagnostics[:at]...), bytes.Repeat([]byte{0x40}, 1<<20)...), diagnostics[at:]...)
	negative, err := codec.Encode(&ua.ReadResponse{ResponseHeader: header(), Results: []*ua.DataValue{value([]int32{1})}, DiagnosticInfos: []*ua.DiagnosticInfo{}})
	if err != nil {
		t.Fatal(err)
	}
	at = bytes.Index(negative, []byte{0x80 | 6, 1, 0, 0, 0}) + 1
	copy(negative[at:], []byte{0xfe, 0xff, 0xff, 0xff})
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"Variants":        {nested(t, 1<<20), "nested deeper"},
		"diagnostics":     {deep, "nested deeper"},
		"negative length": {negative, "array of -2"},
		"nothing":         {nil, "bytes wanted"},
		"unknown service": {[]byte{1, 0, 1, 0}, "unknown service"},
	} {
		if _, err := codec.Decode(tt.b); !errors.Is(err, codec.ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestRaw(t *testing.T) {
	id := ua.NewNumericNodeID(3, 5001)
	codec.KeepRaw(id)
	codec.KeepRaw(id)
	object := &ua.ExtensionObject{EncodingMask: ua.ExtensionObjectBinary, TypeID: &ua.ExpandedNodeID{NodeID: id}, Value: &codec.Raw{Bytes: []byte{1, 2, 3}}}
	b, err := codec.Encode(&ua.ReadResponse{ResponseHeader: header(), Results: []*ua.DataValue{value(object)}, DiagnosticInfos: []*ua.DiagnosticInfo{}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := codec.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	body := got.(*ua.ReadResponse).Results[0].Value.Value().(*ua.ExtensionObject).Value
	if diff := cmp.Diff(&codec.Raw{Bytes: []byte{1, 2, 3}}, body); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range services() {
		b, err := codec.Encode(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := codec.Decode(b)
		if err == nil {
			if _, err := codec.Encode(got); err != nil {
				t.Skip() // decoded leniently, not for sending
			}
			return
		}
		if strings.Contains(err.Error(), "decoder:") {
			t.Errorf("the guard let through what panics: %v", err)
		}
	})
}

func BenchmarkDecodePublish(b *testing.B) {
	values := make([]any, 1000)
	for i := range values {
		values[i] = float64(i)
	}
	m, err := codec.Encode(publish(values...))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := codec.Decode(m); err != nil {
			b.Fatal(err)
		}
	}
}
