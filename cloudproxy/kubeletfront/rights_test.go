package kubeletfront

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// recorder is an authorizer that allows nothing and remembers what it was asked.
type recorder struct{ asked []string }

func (a *recorder) Authorize(_ context.Context, r authorizer.Attributes) (authorizer.Decision, string, error) {
	resource := r.GetResource() + "/" + r.GetSubresource()
	if r.GetAPIGroup() != "" || r.GetNamespace() != "" || !r.IsResourceRequest() {
		resource = "not a core, cluster-wide resource: " + resource
	}
	a.asked = append(a.asked, strings.Join([]string{r.GetVerb(), resource, r.GetName()}, " "))
	return authorizer.DecisionNoOpinion, "", nil
}

func newRequest(t *testing.T, method, path string, header ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e.status
	}
	return 0
}

// TestRightsAreAKubelets holds the rights that are demanded against those that a
// kubelet of Kubernetes 1.37 demands (pkg/kubelet/server/auth.go, with its
// KubeletFineGrainedAuthz), for what it serves. They differ in one thing: what
// runs in a container wants create, whatever the method.
func TestRightsAreAKubelets(t *testing.T) {
	one := func(right string) []string { return []string{right} }
	or := func(sub string) []string { return []string{"get nodes/" + sub + " n", "get nodes/proxy n"} }
	tests := []struct {
		method, path string
		want         []string
	}{
		{"GET", "/healthz", or("healthz")},
		{"GET", "/healthz/ping", or("healthz")},
		{"GET", "/healthz/log", or("healthz")},
		{"GET", "/healthz/syncloop", or("healthz")},
		{"GET", "/healthzx", one("get nodes/proxy n")},
		{"GET", "/pods", or("pods")},
		{"GET", "/pods/", or("pods")},
		{"GET", "/allocatedPods", or("pods")},
		{"GET", "/runningpods/", or("pods")},
		{"GET", "/podsx", one("get nodes/proxy n")},
		{"GET", "/configz", or("configz")},
		{"GET", "/flagz", one("get nodes/configz n")},
		{"GET", "/statusz", one("get nodes/statusz n")},
		{"GET", "/stats", one("get nodes/stats n")},
		{"GET", "/stats/summary", one("get nodes/stats n")},
		{"GET", "/statsx/summary", one("get nodes/proxy n")},
		{"GET", "/metrics", one("get nodes/metrics n")},
		{"GET", "/metrics/cadvisor", one("get nodes/metrics n")},
		{"GET", "/metrics/resource", one("get nodes/metrics n")},
		{"GET", "/metrics/probes", one("get nodes/metrics n")},
		{"GET", "/metrics/slis", one("get nodes/metrics n")},
		{"GET", "/logs", one("get nodes/log n")},
		{"GET", "/logs/", one("get nodes/log n")},
		{"GET", "/logs/pods/x/0.log", one("get nodes/log n")},
		{"GET", "/containerLogs/ns/p/c", one("get nodes/proxy n")},
		{"GET", "/debug/pprof/profile", one("get nodes/proxy n")},
		{"GET", "/", one("get nodes/proxy n")},
		{"POST", "/exec/ns/p/c", one("create nodes/proxy n")},
		{"POST", "/exec/ns/p/uid/c", one("create nodes/proxy n")},
		// Beyond a kubelet.
		{"GET", "/exec/ns/p/c", one("create nodes/proxy n")},
		{"GET", "/exec/ns/p/uid/c/", one("create nodes/proxy n")},
		{"GET", "/edge/v1/session", or("stats")},
	}
	for _, tt := range tests {
		r := newRequest(t, tt.method, tt.path)
		target, err := parseTarget(r)
		if err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
			continue
		}
		var asked recorder
		g := &guard{authz: &asked, log: slog.New(slog.DiscardHandler)}
		if err := g.authorize(t.Context(), &user.DefaultInfo{Name: "u"}, target, "n"); statusOf(err) != http.StatusForbidden {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
		}
		if d := cmp.Diff(tt.want, asked.asked); d != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.method, tt.path, d)
		}
	}
}

// TestCreateForWhatRunsInContainers: whatever is done about a path that runs
// something or opens a way into a pod, no right to read is enough for it.
func TestCreateForWhatRunsInContainers(t *testing.T) {
	for _, first := range []string{"exec", "attach", "portForward", "run"} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
			for _, rest := range []string{"", "/", "/ns/p", "/ns/p/c", "/ns/p/uid/c", "/ns/p/uid/c/x"} {
				r := newRequest(t, method, "/"+first+rest, "Connection", "Upgrade", "Upgrade", "websocket")
				if got, err := parseTarget(r); err == nil && (got.verb != "create" || got.kind == kindNode) {
					t.Errorf("%s %s: %+v", method, r.URL, got)
				}
			}
		}
	}
}

// TestPathTricks: a path means one thing, or is refused. What comes through must
// be what the edge is then asked for.
func TestPathTricks(t *testing.T) {
	const refused = ""
	tests := []struct{ path, want string }{
		{"//pods", refused},
		{"/pods//", refused},
		{"/metrics//../exec/ns/p/c", refused},
		{"/metrics/../exec/ns/p/c", refused},
		{"/metrics/%2e%2e/exec/ns/p/c", refused},
		{"/metrics/%2E%2E%2Fexec/ns/p/c", refused},
		{"/metrics/..", refused},
		{"/./exec/ns/p/c", refused},
		{"/containerLogs/ns//c", refused},
		{"/containerLogs/ns/%2fp/c", refused},
		{"/containerLogs/ns/p", refused},
		{"/containerLogs/ns/p/c/d", refused},
		{"/edge/v1/nodes/n/../m/metrics", refused},
		{"/edge/v1/nodes/N/metrics", refused},
		{"/edge/v1/nodes/a%2fb/metrics", "get nodes/proxy /b/metrics"},
		{"/edge/v1/nodes/n/exec/ns/p/c", refused},
		{"/edge/v1/nodes/n%2fexec/ns/p/c", refused},
		{"/edge/v1/nodes//metrics", refused},
		// An escaped slash is a slash, to the authorizer and to the edge.
		{"/exec%2fns/p/c", "create nodes/proxy /exec/ns/p/c"},
		{"/containerLogs%2Fns%2Fp%2Fc", "get nodes/proxy /containerLogs/ns/p/c"},
		// Escaped twice it is none, nor are two dots.
		{"/exec%252fns/p/c", "get nodes/proxy /exec%2fns/p/c"},
		{"/metrics/%252e%252e/pods", "get nodes/metrics /metrics/%2e%2e/pods"},
		// Paths of a kubelet have one case.
		{"/Exec/ns/p/c", "get nodes/proxy /Exec/ns/p/c"},
		{"/METRICS", "get nodes/proxy /METRICS"},
		{"/metrics;a=b/../x", refused},
		{"/metrics%00", "get nodes/proxy /metrics\x00"},
		{`/metrics\..\exec`, `get nodes/proxy /metrics\..\exec`},
	}
	for _, tt := range tests {
		got := refused
		if target, err := parseTarget(newRequest(t, http.MethodGet, "https://h"+tt.path)); err == nil {
			got = target.verb + " nodes/" + subresources(target.path)[0] + " " + target.path
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.path, got, tt.want)
		}
	}
}

// TestForwardedURI: who may name a node by X-Forwarded-Uri, and how.
func TestForwardedURI(t *testing.T) {
	const uri = "X-Forwarded-Uri"
	upgrade := func(connection ...string) []string {
		h := []string{uri, "/api/v1/nodes/b/proxy/pods", "Upgrade", "websocket"}
		for _, c := range connection {
			h = append(h, "Connection", c)
		}
		return h
	}
	tests := []struct {
		name, path string
		header     []string
		node       string
		status     int
	}{
		{"plain", "/pods", []string{uri, "/api/v1/nodes/b/proxy/pods"}, "b", 0},
		{"slash at the end", "/pods/", []string{uri, "/api/v1/nodes/b/proxy/pods/"}, "b", 0},
		{"root", "/", []string{uri, "/api/v1/nodes/b/proxy"}, "b", 0},
		{"escaped", "/logs/a%20b", []string{uri, "/api/v1/nodes/b/proxy/logs/a%20b"}, "b", 0},
		{"with port", "/pods", []string{uri, "/api/v1/nodes/b:10250/proxy/pods"}, "b", 0},
		{"not of nodes", "/pods", []string{uri, "/api/v1/namespaces/x/pods/y/proxy/pods"}, "", 0},
		{"not a URI", "/pods", []string{uri, "nodes/b"}, "", 0},
		{"another subresource", "/pods", []string{uri, "/api/v1/nodes/b/proxyx/pods"}, "", 0},
		{"name that is none", "/pods", []string{uri, "/api/v1/nodes/B_/proxy/pods"}, "", http.StatusBadRequest},
		{"name with a slash", "/pods", []string{uri, "/api/v1/nodes/a%2fb/proxy/pods"}, "", 0},
		// nodes/a/proxy/../../pods/proxy/x: the apiserver checks a, and tells of a
		// node that has the name of a kubelet's path.
		{"dots that went", "/pods/proxy/x", []string{uri, "/api/v1/nodes/pods/proxy/x"}, "", http.StatusBadRequest},
		{"dots that stay", "/pods", []string{uri, "/api/v1/nodes/a/proxy/../../b/proxy/pods"}, "", http.StatusBadRequest},
		// Of an upgrade it is the client's own.
		{"upgrade", "/pods", upgrade("Upgrade"), "", 0},
		{"upgrade in a list", "/pods", upgrade("keep-alive, upgrade"), "", 0},
		{"upgrade in another header", "/pods", upgrade("close", "UPGRADE"), "", 0},
		{"upgrade to SPDY", "/pods", []string{uri, "/api/v1/nodes/b/proxy/pods", "Connection", "Upgrade", "Upgrade", "SPDY/3.1"}, "", 0},
		{"no upgrade", "/pods", upgrade("close"), "b", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseTarget(newRequest(t, http.MethodGet, tt.path, tt.header...))
			if status := statusOf(err); status != tt.status || err == nil && got.node != tt.node {
				t.Errorf("node %q, %v; want %q, status %d", got.node, err, tt.node, tt.status)
			}
		})
	}
}
