package kubeletfront

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/skerry-io/skerry/devices/survey"
)

// kind says how a request is served.
type kind int

const (
	// kindNode is a path that belongs to a node, such as /healthz.
	kindNode kind = iota
	// kindLogs is the log of a container.
	kindLogs
	// kindExec is a command in a container.
	kindExec
	// kindCheckpoint writes the state of a container to the edge's disk.
	kindCheckpoint
	// kindAttach joins a container's own process.
	kindAttach
	// kindForward connects to ports of a pod.
	kindForward
	// kindDevice looks at, reads or writes devices of a node.
	kindDevice
)

func (k kind) String() string {
	switch k {
	case kindNode:
		return "node"
	case kindLogs:
		return "logs"
	case kindExec:
		return "exec"
	case kindCheckpoint:
		return "checkpoint"
	case kindAttach:
		return "attach"
	case kindForward:
		return "portforward"
	case kindDevice:
		return "device"
	}
	return "unknown"
}

// podPaths are the first elements of paths that name a pod, with the verb that
// is demanded whatever the method; empty leaves it to the method. Those without
// a handler are here so that none is ever taken for a node's path.
func podPaths(first string) (verb string, isPod bool) {
	switch first {
	case "containerLogs", "checkpoint":
		return "", true
	case "exec", "attach", "portForward", "run":
		return "create", true
	}
	return "", false
}

// metricsPrefix leads paths that name an edge themselves: metrics-server can be
// given one for each node by an annotation.
const metricsPrefix = "/edge/v1/nodes/"

// MetricsPath is where metrics-server finds a node's usage, which shares its
// address with all others. It goes into the Node's annotation.
func MetricsPath(node string) string { return metricsPrefix + node + "/metrics/resource" }

// target is what a request asks for, as far as its head tells.
type target struct {
	kind kind
	// path is the kubelet's path: for attributes and for the edge.
	path string
	// verb is what the authorizer is asked for.
	verb string
	// node is the edge that the request names, empty for none.
	node string
	// The following are of requests for a container, or for a pod: those have none.
	namespace, pod, container string
	// uid is the pod's when the path has it.
	uid string
}

// parseTarget reads the head of a request.
func parseTarget(r *http.Request) (target, error) {
	t := target{path: r.URL.Path, verb: methodVerb(r.Method)}
	if !httpstream.IsUpgradeRequest(r) {
		var path string
		t.node, path = forwardedNode(r.Header.Get("X-Forwarded-Uri"))
		// kube-apiserver appends the path that it sends to what it was asked for. If
		// that had "..", the two name different nodes: it has checked one and tells
		// the other.
		if t.node != "" && strings.Trim(path, "/") != strings.Trim(t.path, "/") {
			return t, &refusal{http.StatusBadRequest, "the path is not the one in X-Forwarded-Uri"}
		}
	}
	named := strings.HasPrefix(t.path, metricsPrefix)
	if named {
		node, rest, _ := strings.Cut(strings.TrimPrefix(t.path, metricsPrefix), "/")
		// This path is for those who dial the proxy themselves. By way of
		// kube-apiserver it would let nodes/A/proxy reach B: the right that was
		// checked there is for the node in X-Forwarded-Uri, or, with an upgrade, for
		// one that is not told.
		if t.node != "" && t.node != node || httpstream.IsUpgradeRequest(r) {
			return t, &refusal{http.StatusForbidden, "the path names another node than the request"}
		}
		t.node, t.path = node, "/"+rest
	}
	if own, ok := r.Context().Value(portNode{}).(string); ok {
		// What kube-apiserver was asked for decides the port that it dials, also for
		// an upgrade.
		if t.node != "" && t.node != own {
			return t, &refusal{http.StatusForbidden, "the port is another node's"}
		}
		t.node = own
	}
	if (named || t.node != "") && len(validation.IsDNS1123Subdomain(t.node)) > 0 {
		return t, &refusal{http.StatusBadRequest, "the name of the node is not valid"}
	}
	parts := strings.Split(strings.Trim(t.path, "/"), "/")
	// Nothing that a kubelet serves has such a path, and it must not mean one thing
	// to the authorizer and another to the edge.
	if !strings.HasPrefix(t.path, "/") || strings.Contains(t.path, "//") || slices.Contains(parts, ".") || slices.Contains(parts, "..") {
		return t, &refusal{http.StatusBadRequest, "the path is not clean"}
	}
	verb, isPod := podPaths(parts[0])
	if verb != "" {
		t.verb = verb
	}
	switch {
	case strings.HasPrefix(t.path, survey.Prefix) && !named:
		t.kind = kindDevice
		if r.Method != http.MethodGet && r.Method != http.MethodPost || httpstream.IsUpgradeRequest(r) {
			return t, &refusal{http.StatusMethodNotAllowed, "method not allowed"}
		}
		return t, nil
	case !isPod && r.Method != http.MethodGet:
		return t, &refusal{http.StatusMethodNotAllowed, "method not allowed"}
	case !isPod:
		t.kind = kindNode
		return t, nil
	case named:
		return t, notFound()
	}
	return t.parsePod(r.Method, parts)
}

// parsePod reads the path of a request for a pod.
func (t target) parsePod(method string, parts []string) (target, error) {
	t.path = "/" + strings.Join(parts, "/")
	switch {
	case parts[0] == "containerLogs" && len(parts) == 4:
		t.kind = kindLogs
		t.namespace, t.pod, t.container = parts[1], parts[2], parts[3]
		if method != http.MethodGet {
			return t, &refusal{http.StatusMethodNotAllowed, "method not allowed"}
		}
	case (parts[0] == "exec" || parts[0] == "attach") && (len(parts) == 4 || len(parts) == 5):
		t.kind = kindExec
		if parts[0] == "attach" {
			t.kind = kindAttach
		}
		t.namespace, t.pod, t.container = parts[1], parts[2], parts[len(parts)-1]
		if len(parts) == 5 {
			t.uid = parts[3]
		}
		return t, upgradeMethod(method)
	case parts[0] == "portForward" && (len(parts) == 3 || len(parts) == 4):
		t.kind = kindForward
		t.namespace, t.pod = parts[1], parts[2]
		if len(parts) == 4 {
			t.uid = parts[3]
		}
		return t, upgradeMethod(method)
	case parts[0] == "checkpoint" && len(parts) == 4:
		t.kind = kindCheckpoint
		t.namespace, t.pod, t.container = parts[1], parts[2], parts[3]
		if method != http.MethodPost {
			return t, &refusal{http.StatusMethodNotAllowed, "method not allowed"}
		}
	default:
		return t, notFound()
	}
	return t, nil
}

// upgradeMethod refuses methods that can't upgrade a connection.
func upgradeMethod(method string) error {
	if method != http.MethodGet && method != http.MethodPost {
		return &refusal{http.StatusMethodNotAllowed, "method not allowed"}
	}
	return nil
}

func notFound() *refusal { return &refusal{http.StatusNotFound, "404 page not found"} }

func methodVerb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return ""
}

// forwardedNode takes the node, and the path that is asked of it, out of the URI
// that kube-apiserver was asked for: /api/v1/nodes/NAME/proxy/PATH, where NAME may
// come as [SCHEME:]NAME:PORT.
func forwardedNode(uri string) (node, path string) {
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return "", ""
	}
	rest, ok := strings.CutPrefix(u.Path, "/api/v1/nodes/")
	if !ok {
		return "", ""
	}
	name, rest, _ := strings.Cut(rest, "/")
	path, ok = strings.CutPrefix(rest, "proxy")
	if !ok || path != "" && path[0] != '/' {
		return "", ""
	}
	switch f := strings.Split(name, ":"); len(f) {
	case 1, 2:
		return f[0], path
	case 3:
		return f[1], path
	}
	return "", ""
}
