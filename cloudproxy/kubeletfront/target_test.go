package kubeletfront

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func FuzzParseTarget(f *testing.F) {
	f.Add("GET", "/containerLogs/ns/p/c", "", false)
	f.Add("POST", "/exec/ns/p/uid/c", "/api/v1/nodes/n/proxy/exec/ns/p/uid/c", true)
	f.Add("POST", "/attach/ns/p/c", "", true)
	f.Add("POST", "/portForward/ns/p", "", true)
	f.Add("GET", "/portForward/ns/p/uid", "", true)
	f.Add("GET", "/edge/v1/nodes/n/metrics/resource", "", false)
	f.Add("GET", "//exec/../metrics", "/api/v1/nodes/a:b:c/proxy", false)
	f.Add("POST", "/checkpoint/ns/p/c", "/api/v1/nodes/n/proxy/checkpoint/ns/p/c", false)
	f.Add("GET", "/edge/v1/nodes/n/checkpoint/ns/p/c", "", false)
	f.Add("GET", "/logs/pods/%2e%2e/x", "/api/v1/nodes/https:n:10250/proxy/logs/", false)
	f.Add("POST", "/devices/live/plant/press-1/write", "/api/v1/nodes/n/proxy/devices/live/plant/press-1/write", false)
	f.Add("DELETE", "/devices/browse", "", false)
	f.Fuzz(func(t *testing.T, method, path, uri string, upgrade bool) {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil) //nolint:forbidigo // a test
		r.Method, r.URL.Path = method, path
		r.Header.Set("X-Forwarded-Uri", uri)
		if upgrade {
			r.Header.Set("Connection", "Upgrade")
		}
		got, err := parseTarget(r)
		if err != nil {
			return
		}
		switch got.kind {
		case kindNode:
			if _, pod := podPaths(strings.Split(strings.Trim(got.path, "/"), "/")[0]); pod || got.verb != "get" {
				t.Errorf("%q is taken for a node's: %+v", path, got)
			}
		case kindDevice:
			if !slices.Equal(subresources(got.path), []string{"proxy"}) || got.verb != map[string]string{"GET": "get", "POST": "create"}[method] || upgrade {
				t.Errorf("%s %q: %+v", method, path, got)
			}
		case kindLogs, kindExec, kindAttach, kindForward:
			if got.namespace == "" || got.pod == "" || (got.container == "") != (got.kind == kindForward) || !slices.Equal(subresources(got.path), []string{"proxy"}) {
				t.Errorf("%q: %+v", path, got)
			}
			if got.kind != kindLogs && got.verb != "create" {
				t.Errorf("%q needs only %s", path, got.verb)
			}
		case kindCheckpoint:
			if got.namespace == "" || got.pod == "" || got.container == "" || !slices.Equal(subresources(got.path), []string{"checkpoint"}) || got.verb != "create" {
				t.Errorf("%q: %+v", path, got)
			}
		}
		if upgrade && got.node != "" {
			t.Errorf("%q with upgrade has the node %q", path, got.node)
		}
	})
}

// Whoever may use nodes/a/proxy has no right to b, whose path may be asked for
// by those who come without kube-apiserver.
func TestNamedPathIsOfTheForwardedNode(t *testing.T) {
	for _, tt := range []struct {
		name, uri string
		upgrade   bool
		want      int // 0 for let through
	}{
		{"direct", "", false, 0},
		{"same node", "/api/v1/nodes/b/proxy/edge/v1/nodes/b/pods", false, 0},
		{"other node", "/api/v1/nodes/a/proxy/edge/v1/nodes/b/pods", false, http.StatusForbidden},
		{"upgrade", "", true, http.StatusForbidden},
		{"upgrade with the header", "/api/v1/nodes/b/proxy/edge/v1/nodes/b/pods", true, http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, metricsPrefix+"b/pods", nil)
			if tt.uri != "" {
				r.Header.Set("X-Forwarded-Uri", tt.uri)
			}
			if tt.upgrade {
				r.Header.Set("Connection", "Upgrade")
			}
			got, err := parseTarget(r)
			status := 0
			if e, ok := errors.AsType[*refusal](err); ok {
				status = e.status
			}
			if status != tt.want || err == nil && (got.node != "b" || got.path != "/pods") {
				t.Errorf("%+v, %v; want status %d", got, err, tt.want)
			}
		})
	}
}
