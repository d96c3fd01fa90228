package kubelet

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/skerry-io/skerry/devices/survey"
)

// TestDeviceRequests: what is asked of devices needs nodes/proxy, with the verb create
// unless it only reads, and reaches the edge with its body.
func TestDeviceRequests(t *testing.T) {
	w := start(t, settings{})
	node := named("n1", "")
	node.Devices = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // what came
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, b)
	})
	w.addNode("n1", w.edgePods, node)
	const write, read = "/devices/live/plant/press-1/write", "/devices/live/plant/press-1/read"
	w.setAllow(func(s authorizationv1.SubjectAccessReviewSpec) bool {
		a := s.ResourceAttributes
		return a.Subresource == "proxy" && a.Name == "n1" && (a.Verb == "get" || s.User == "operator" && a.Verb == "create")
	})
	for _, tt := range []struct {
		method, path, user, node, body string
		status                         int
		want                           string
	}{
		{"POST", write, "operator", "n1", `{"a":1}`, 200, "POST " + write + ` {"a":1}`},
		{"GET", read + "?property=a", "viewer", "n1", "", 200, "GET " + read + "?property=a "},
		{"POST", write, "viewer", "n1", `{"a":1}`, 403, "verb=create, resource=nodes, subresource(s)=[proxy]"},
		{"POST", write, "operator", "n2", `{"a":1}`, 403, "Forbidden"},
		{"POST", write, "operator", "", `{"a":1}`, 403, "Forbidden"},
		{"PUT", write, "operator", "n1", `{"a":1}`, 405, "method not allowed"},
		{"POST", write, "operator", "n1", strings.Repeat("x", survey.MaxBody+1), 413, "more than 262144 bytes"},
		{"POST", "/devices/../exec/default/p/c", "operator", "n1", "", 400, ""},
	} {
		var header []string
		if tt.node != "" {
			header = []string{"X-Forwarded-Uri", "/api/v1/nodes/" + tt.node + "/proxy" + strings.Split(tt.path, "?")[0]}
		}
		resp := w.send(tt.method, tt.path, tt.user, strings.NewReader(tt.body), header...)
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		got := string(b)
		if message := unstatus(got); message != "" {
			got = message
		}
		if err != nil || resp.StatusCode != tt.status || !strings.Contains(got, tt.want) {
			t.Errorf("%s %s by %s at %q: %v, %d %q, want %d %q", tt.method, tt.path, tt.user, tt.node, err, resp.StatusCode, got, tt.status, tt.want)
		}
	}
}
