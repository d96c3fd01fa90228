package admin

import (
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/cloudproxy/status"
)

func TestRoutes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "skerry_test_total", Help: "Counts."})
	reg.MustRegister(c)
	var notReady error
	s, err := New(Config{
		Listener: ln,
		Gatherer: reg,
		Ready:    func() error { return notReady },
		Edges:    func() []status.Session { return []status.Session{{Node: "edge-1", Since: time.Unix(0, 0).UTC()}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		b, _ := io.ReadAll(w.Result().Body)
		return w.Code, string(b)
	}
	for _, tt := range []struct {
		path string
		code int
		want string
	}{
		{"/healthz", 200, "ok"},
		{"/readyz", 200, "ok"},
		{"/edges", 200, `"node":"edge-1"`},
		{"/metrics", 200, "skerry_test_total 0"},
		{"/", 404, "not found"},
	} {
		if code, body := get(tt.path); code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("GET %s: %d %q, want %d and %q", tt.path, code, body, tt.code, tt.want)
		}
	}
	notReady = errors.New("informers are not synced")
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "informers") {
		t.Errorf("GET /readyz while not ready: %d %q", code, body)
	}
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("New took an empty Config")
	}
}
