package kubeletfront

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authentication/user"
)

type auditTest struct {
	name    string
	req     request
	command []string
	ended   string
	want    map[string]any
}

// TestAuditLine: each stream is told of in one line, which nobody can make long.
func TestAuditLine(t *testing.T) {
	long := strings.Repeat("x", 5000)
	tests := []auditTest{
		{
			"exec",
			request{
				target: target{kind: kindExec, namespace: "ns", pod: "p", container: "c"}, user: &user.DefaultInfo{Name: "u"},
				node: "n", podUID: "uid", remote: "192.0.2.1", client: "198.51.100.7",
			},
			[]string{"sh", "-c", "a\nb"},
			"exit 3",
			map[string]any{
				"level": "INFO", "kind": "exec", "user": "u", "node": "n", "namespace": "ns", "pod": "p", "container": "c", "pod_uid": "uid",
				"command": []any{"sh", "-c", "a\nb"}, "bytes_in": 5., "bytes_out": 7., "duration": float64(3 * time.Second), "ended": "exit 3",
				"remote": "192.0.2.1", "client": "198.51.100.7",
			},
		},
		{
			"what is too long",
			request{target: target{kind: kindExec, namespace: "ns", pod: "p", container: "c"}, user: &user.DefaultInfo{Name: "u"}, node: "n"},
			[]string{"sh", long, "b", "c"},
			long,
			map[string]any{
				"level": "INFO", "kind": "exec", "user": "u", "node": "n", "namespace": "ns", "pod": "p", "container": "c", "pod_uid": "",
				"command": []any{"sh", long[:1022] + "...", "... 2 more"}, "bytes_in": 5., "bytes_out": 7., "duration": float64(3 * time.Second),
				"ended": long[:256] + "...", "remote": "", "client": "",
			},
		},
		{
			"path of a node",
			request{target: target{kind: kindNode, path: "/" + long}, user: &user.DefaultInfo{Name: "u"}, node: "n"},
			nil, "200 OK",
			map[string]any{
				"level": "DEBUG", "kind": "node", "user": "u", "node": "n", "path": "/" + long[:255] + "...", "bytes_out": 7.,
				"duration": float64(3 * time.Second), "ended": "200 OK", "remote": "", "client": "",
			},
		},
	}
	device := func(path, body string) request {
		return request{
			target: target{kind: kindDevice, path: path, verb: "create"}, user: &user.DefaultInfo{Name: "u"}, node: "n",
			query: "url=opc.tcp%3A%2F%2Fplc%3A4840", body: []byte(body),
		}
	}
	told := func(path, body string) map[string]any {
		m := map[string]any{
			"level": "INFO", "kind": "device", "user": "u", "node": "n", "verb": "create", "path": path, "query": "url=opc.tcp://plc:4840",
			"bytes_in": 7., "bytes_out": 7., "duration": float64(3 * time.Second), "ended": "200 OK", "remote": "", "client": "",
		}
		if body != "" {
			m["body"] = body
		}
		return m
	}
	tests = append(tests, []auditTest{
		{"write", device("/devices/live/plant/press/write", `{"a":1}`), nil, "200 OK", told("/devices/live/plant/press/write", `{"a":1}`)},
		{"browse with a password", device("/devices/browse", `{"p":1}`), nil, "200 OK", told("/devices/browse", "")},
	}...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				m, err := newMetrics(prometheus.NewRegistry())
				if err != nil {
					t.Fatal(err)
				}
				s := &Server{log: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), limits: newLimits(1, 1), metrics: m}
				tt.req.start = time.Now()
				a, err := s.openStream(&tt.req)
				if err != nil {
					t.Fatal(err)
				}
				a.command = tt.command
				a.in.Add(5)
				a.out.Add(7)
				time.Sleep(3 * time.Second) //nolint:forbidigo // virtual time
				a.close(tt.ended)
				a.close("again")
				var got map[string]any
				if err := json.Unmarshal(out.Bytes(), &got); err != nil {
					t.Fatalf("%v in %s", err, &out)
				}
				delete(got, "time")
				tt.want["msg"] = "stream ended"
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if _, err := s.openStream(&tt.req); err != nil {
					t.Errorf("the place is not free: %v", err)
				}
			})
		})
	}
}

func TestBoundedCommand(t *testing.T) {
	many := make([]string, 100)
	got := boundedCommand(many)
	if len(got) != maxArguments+1 || got[maxArguments] != "... 68 more" {
		t.Errorf("%d arguments, the last is %q", len(got), got[len(got)-1])
	}
	if got := bounded("aé", 2); got != "a..." {
		t.Errorf("half a letter: %q", got)
	}
}

func TestFrom(t *testing.T) {
	for _, tt := range []struct {
		forwarded []string
		want      string
	}{
		{nil, ""},
		{[]string{"198.51.100.7"}, "198.51.100.7"},
		// A client's own come first.
		{[]string{"203.0.113.1, 198.51.100.7"}, "198.51.100.7"},
		{[]string{"203.0.113.1", "2001:db8::1"}, "2001:db8::1"},
		{[]string{"198.51.100.7, x\nlevel=INFO"}, ""},
	} {
		r := newRequest(t, http.MethodGet, "/")
		r.RemoteAddr = "[2001:db8::2]:443"
		r.Header["X-Forwarded-For"] = tt.forwarded
		if remote, client := from(r); remote != "2001:db8::2" || client != tt.want {
			t.Errorf("%q: %q, %q, want %q", tt.forwarded, remote, client, tt.want)
		}
	}
}
