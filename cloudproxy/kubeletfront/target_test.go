package kubeletfront

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func FuzzParseTarget(f *testing.F) {
	f.Add("GET", "/containerLogs/ns/p/c", "", false)
	f.Add("POST", "/exec/ns/p/uid/c", "/api/v1/nodes/n/proxy/exec/ns/p/uid/c", true)
	f.Add("GET", "/edge/v1/nodes/n/metrics/resource", "", false)
	f.Add("GET", "//exec/../metrics", "/api/v1/nodes/a:b:c/proxy", false)
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
		case kindLogs, kindExec:
			if got.namespace == "" || got.pod == "" || got.container == "" || !slices.Equal(subresources(got.path), []string{"proxy"}) {
				t.Errorf("%q: %+v", path, got)
			}
			if got.kind == kindExec && got.verb != "create" {
				t.Errorf("%q needs only %s", path, got.verb)
			}
		}
		if upgrade && got.node != "" && !strings.HasPrefix(path, metricsPrefix) {
			t.Errorf("%q with upgrade has the node %q", path, got.node)
		}
	})
}
