package samples

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/devices"
)

var noon = time.Unix(1767225600, 5).UTC()

func sample(property string, v devices.Value) devices.Sample {
	return devices.Sample{Property: property, Value: v, Source: noon}
}

func frame() devices.Frame {
	return devices.Frame{
		Namespace: "plant", Name: "press", UID: "u1",
		Samples: []devices.Sample{
			sample("speed", uint16(7)), sample("ratio", float32(0.1)), sample("on", true), sample("total", uint64(math.MaxUint64)),
			sample("mode", devices.Enum{Number: 2, Name: "Auto"}), sample("name", "a \"b\"\\\nc"), sample("list", []any{int8(1), int8(2)}),
			sample("nan", math.NaN()), sample("big", 1e300),
			{Property: "gone", Quality: devices.BadNoCommunication, Server: noon},
		},
		Gaps: []devices.Gap{{Property: "speed", From: noon, To: noon.Add(time.Second), Lost: 3, Reason: "Outage"}, {Reason: "StoreFull"}},
	}
}

func TestLines(t *testing.T) {
	const at = " 1767225600000000005"
	tags := func(p string) string { return "device,node=edge-1,namespace=plant,device=press,property=" + p + " " }
	good := `quality="Good",status=0i` + at
	want := strings.Join([]string{
		tags("speed") + "value=7," + good,
		tags("ratio") + "value=0.1," + good,
		tags("on") + "value=1," + good,
		tags("total") + `value=1.8446744073709552e+19,text="18446744073709551615",` + good,
		tags("mode") + `value=2,text="Auto",` + good,
		tags("name") + `text="a \"b\"\\ c",` + good,
		tags("list") + `text="[1,2]",` + good,
		tags("nan") + `text="NaN",` + good,
		tags("big") + "value=1e+300," + good,
		tags("gone") + fmt.Sprintf(`quality="BadNoCommunication",status=%di`, uint32(devices.BadNoCommunication)) + at,
		"device_gap,node=edge-1,namespace=plant,device=press,property=speed lost=3i,reason=\"Outage\",from=1767225600000000005i 1767225601000000005",
		"device_gap,node=edge-1,namespace=plant,device=press lost=0i,reason=\"StoreFull\"",
	}, "\n") + "\n"
	if diff := cmp.Diff(want, string(lines("edge-1", frame()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNamesCannotForge: whatever an edge calls a property, it writes one line about its
// own device.
func TestNamesCannotForge(t *testing.T) {
	f := devices.Frame{Namespace: "plant", Name: "press", Samples: []devices.Sample{
		{Property: "a,device=other value=1\ndevice,device=other\\", Value: "x\",value=1 1\ndevice,device=other value=2", Source: noon},
	}}
	got := string(lines("edge-1", f))
	if strings.Count(got, "\n") != 1 || strings.Count(got, "device=other ") != 1 || !strings.HasPrefix(got, "device,node=edge-1,namespace=plant,device=press,property=a_device_other_value_1_device_device_other_ text=\"x\\\",") {
		t.Errorf("%q", got)
	}
}

func TestJSON(t *testing.T) {
	f := frame()
	f.Samples = f.Samples[3:5]
	f.Gaps = f.Gaps[:1]
	const of = `{"node":"edge-1","namespace":"plant","device":"press","uid":"u1",`
	const at = `"sourceTime":"2026-01-01T00:00:00.000000005Z"`
	want := of + `"property":"total","value":"18446744073709551615","quality":"Good",` + at + "}\n" +
		of + `"property":"mode","value":"Auto","quality":"Good",` + at + "}\n" +
		of + `"property":"speed","gap":{"from":"2026-01-01T00:00:00.000000005Z","to":"2026-01-01T00:00:01.000000005Z","lost":3,"reason":"Outage"}}` + "\n"
	got, err := jsonLines("edge-1", f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTake: a frame is taken when the receiver says so; only what it will never take is
// refused for good.
func TestTake(t *testing.T) {
	status, body, header := http.StatusNoContent, "", http.Header{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body, header = string(b), r.Header
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.Repeat("no. ", 1000))
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "authorization")
	if err := os.WriteFile(file, []byte("Token a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{URL: srv.URL, AuthorizationFile: file})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status         int
		taken, refused bool
	}{
		{http.StatusNoContent, true, false},
		{http.StatusOK, true, false},
		{http.StatusMovedPermanently, false, false},
		{http.StatusBadRequest, false, true},
		{http.StatusUnauthorized, false, false},
		{http.StatusNotFound, false, false},
		{http.StatusRequestEntityTooLarge, false, true},
		{http.StatusTooManyRequests, false, false},
		{http.StatusInternalServerError, false, false},
	} {
		status = tt.status
		err := s.Take(t.Context(), "edge-1", frame())
		if (err == nil) != tt.taken || errors.Is(err, ErrRefused) != tt.refused {
			t.Errorf("%d: %v", tt.status, err)
		}
		if err != nil && len(err.Error()) > 512 {
			t.Errorf("%d: the error has %d bytes", tt.status, len(err.Error()))
		}
	}
	if body != string(lines("edge-1", frame())) || header.Get("Authorization") != "Token a" {
		t.Errorf("it got %q with %v", body, header)
	}
	srv.Close()
	if err := s.Take(t.Context(), "edge-1", frame()); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("without a receiver: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{URL: "victoria:8428"},
		{URL: "ftp://victoria/write"},
		{URL: "http://user:secret@victoria/write"},
		{URL: "http://victoria/write", Format: "csv"},
		{URL: "http://victoria/write", AuthorizationFile: "/does/not/exist"},
	} {
		if _, err := New(cfg); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
