package opcua

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestState(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900, time.UTC)
	for name, want := range map[string]state{
		"empty": {times: map[uint32]itemTime{}},
		"full": {hash: 1, start: -7, id: 3, last: 1<<32 - 1, skip: 9, refuse: []uint32{0, 300}, times: map[uint32]itemTime{
			7: {at, false}, 8: {at.Add(-time.Hour), true}, 1 << 31: {at.Add(-100), false},
		}},
	} {
		b := want.encode()
		got, err := decodeState(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(state{}, itemTime{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := decodeState([]byte("skerry modbus 1\n and more, much more than that")); err == nil {
		t.Error("took another driver's state")
	}
}

func FuzzState(f *testing.F) {
	f.Add(state{hash: 1, id: 2, refuse: []uint32{1}, times: map[uint32]itemTime{1: {time.Unix(1e9, 0), true}}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		if len(s.times) > len(b) || len(s.refuse) > len(b) {
			t.Errorf("%d and %d entries from %d bytes", len(s.times), len(s.refuse), len(b))
		}
	})
}

func TestAddress(t *testing.T) {
	table := []string{"http://opcfoundation.org/UA/", "urn:server", "urn:a"}
	for in, want := range map[string]string{
		"nsu=urn:a;s=Line1.Speed": "ns=2;s=Line1.Speed",
		"nsu=urn:a;s=x;y=1":       "ns=2;s=x;y=1",
		"nsu=urn:server;i=5":      "ns=1;i=5",
		"i=2258":                  "i=2258",
		"nsu=urn:a;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63": "ns=2;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63",
		"nsu=urn:a;b=AQID": "ns=2;b=AQID",
		"nsu=urn:gone;s=x": "",
	} {
		a, err := parseAddress(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		id, ok := a.in(table)
		if got := id.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
	for _, in := range []string{"", "ns=2;s=x", "nsu=urn:a", "nsu=;s=x", "s=", "x=1", "i=abc", "nsu=urn:a;i=99999999999"} {
		if _, err := parseAddress(in); err == nil {
			t.Errorf("took %q", in)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("nsu=urn:a;s=Line1.Speed")
	f.Add("nsu=urn:a;b=AQID")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := parseAddress(s); err == nil {
			if id, ok := a.in([]string{a.uri}); !ok || id == nil {
				t.Errorf("%q is nowhere", s)
			}
		}
	})
}
