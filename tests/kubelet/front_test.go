package kubelet

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// rawEdge makes a node's commands and forwarded connections answered with b, after
// the request.
func (w *world) rawEdge(node string, b []byte) {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := wire.NewReader(bufio.NewReader(c), 64<<10).Next(); err == nil {
				_, _ = c.Write(b)
			}
			_ = c.Close()
		}
	}()
	w.edges.mu.Lock()
	defer w.edges.mu.Unlock()
	w.edges.nodes[node] = map[wire.Kind]string{wire.KindExec: ln.Addr().String(), wire.KindForward: ln.Addr().String()}
}

func logFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(records(lines...)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func records(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("2026-01-02T03:04:05.000000006Z stdout F " + l + "\n")
	}
	return b.String()
}

func TestLogs(t *testing.T) {
	w := start(t, settings{})
	w.edgePods.Set(edgePod(newPod("p", "u", "n1"), logFile(t, "one", "two")))
	w.addPod(newPod("off", "u2", "n2"))
	w.addPod(newPod("pending", "u3", ""))
	tests := []struct {
		path   string
		status int
		want   string
	}{
		{"/containerLogs/default/p/c", 200, "one\ntwo\n"},
		{"/containerLogs/default/p/c?tailLines=1&timestamps=true", 200, "2026-01-02T03:04:05.000000006Z two\n"},
		{"/containerLogs/default/p/c?tailLines=-1", 422, "tailLines: -1 is less than 0"},
		{"/containerLogs/default/p/c?previous=true", 400, `previous terminated container "c" in pod "p" not found`},
		{"/containerLogs/default/off/c", 503, "edge n2 is offline since 2026-01-02T03:04:05Z"},
		{"/containerLogs/default/pending/c", 400, "pod pending does not have a host assigned"},
		{"/containerLogs/default/none/c", 404, `pod "none" not found`},
		{"/containerLogs/default/p/x", 400, "container x is not valid for pod p"},
		{"/containerLogs/default/p", 404, "404 page not found"},
		{"/containerLogs/default/../p/c", 400, "the path is not clean"},
		{"//metrics", 400, "the path is not clean"},
		{"/containerLogs/default/p/c/?tailLines=1", 200, "two\n"},
		{"/run/default/p/c", 404, "404 page not found"},
		{"/attach/default/p/c?output=1", 400, "Upgrade request required"},
		{"/portForward/default/p", 400, "Upgrade request required"},
		{"/portForward/default/none", 404, `pod "none" not found`},
		{"/healthz", 200, "ok"},
		{"/metrics", 404, "the request names no edge"},
	}
	for _, tt := range tests {
		if status, got := w.get(tt.path, ""); status != tt.status || got != tt.want {
			t.Errorf("%s: got %d %q, want %d %q", tt.path, status, got, tt.status, tt.want)
		}
	}
	w.stop()
	if !strings.Contains(w.log.String(), `kind=logs user=kube-apiserver node=n1 namespace=default pod=p container=c command=[] bytes_in=0 bytes_out=8 `) {
		t.Errorf("the log misses the stream:\n%s", w.log)
	}
}

func TestLogsFollow(t *testing.T) {
	w := start(t, settings{})
	path := logFile(t, "one")
	w.edgePods.Set(edgePod(newPod("p", "u", "n1"), path))
	resp := w.do(http.MethodGet, "/containerLogs/default/p/c?follow=true", "")
	if resp.ProtoMajor != 2 {
		t.Errorf("HTTP/%d, want 2", resp.ProtoMajor)
	}
	body := bufio.NewReader(resp.Body)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, line := range []string{"one", "two", "three"} {
		if line != "one" {
			if _, err := f.WriteString(records(line)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := body.ReadString('\n'); got != line+"\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	conn := w.edges.last()
	_ = resp.Body.Close()
	<-conn.closed

	// An edge that vanishes is not the end of the log.
	resp = w.do(http.MethodGet, "/containerLogs/default/p/c?follow=true", "")
	defer resp.Body.Close()
	if got, err := bufio.NewReader(resp.Body).ReadString('\n'); got != "one\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	_ = w.edges.last().Conn.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a log that was cut off looks whole")
	}
}

// TestReplacedPod has a copy of pods that is behind the API.
func TestReplacedPod(t *testing.T) {
	w := start(t, settings{})
	n2 := w.addEdge("n2", nil)
	now := newPod("p", "new", "n2")
	n2.Set(edgePod(now, logFile(t, "from n2")))
	if err := w.client.Tracker().Update(schema.GroupVersionResource{Version: "v1", Resource: "pods"}, now, "default"); err != nil {
		t.Fatal(err)
	}
	// n1 has let go of the pod, so it is the edge that says no.
	w.edgePods.Set(kubeletapi.Pod{Namespace: "default", Name: "p", UID: "other"})
	if status, got := w.get("/containerLogs/default/p/c", ""); status != 200 || got != "from n2\n" {
		t.Errorf("after the edge's no: got %d %q", status, got)
	}
	// n1 still has it, but the copy says that it is going.
	w.edgePods.Set(edgePod(newPod("p", "u", "n1"), logFile(t, "from n1")))
	going := newPod("p", "u", "n1")
	going.DeletionTimestamp = new(metav1.Now())
	w.lister.mu.Lock()
	w.lister.pods["default/p"] = going
	w.lister.mu.Unlock()
	if status, got := w.get("/containerLogs/default/p/c", ""); status != 200 || got != "from n2\n" {
		t.Errorf("of a pod that is going: got %d %q", status, got)
	}
	// A pod that the copy does not have yet.
	w.lister.mu.Lock()
	w.lister.pods = map[string]*corev1.Pod{}
	w.lister.mu.Unlock()
	if status, got := w.get("/containerLogs/default/p/c", ""); status != 200 || got != "from n2\n" {
		t.Errorf("of a pod that is new: got %d %q", status, got)
	}
}

func TestAuthentication(t *testing.T) {
	w := start(t, settings{})
	other := newAuthority(t)
	good := w.ca
	tests := []struct {
		name, user string
		ca         *authority
		header     []string
		status     int
	}{
		{"nobody", "-", good, nil, 401},
		{"certificate", "someone", good, nil, 200},
		{"certificate of another CA", "someone", other, nil, 401},
		{"token", "-", good, []string{"Authorization", "Bearer good"}, 200},
		{"wrong token", "-", good, []string{"Authorization", "Bearer bad"}, 401},
		{"token beside a certificate of another CA", "someone", other, []string{"Authorization", "Bearer good"}, 200},
	}
	for _, tt := range tests {
		w.issuer = tt.ca
		status, body := w.get("/healthz", tt.user, tt.header...)
		if status != tt.status || status == 401 && body != "Unauthorized" {
			t.Errorf("%s: got %d %q, want %d", tt.name, status, body, tt.status)
		}
	}
	w.issuer = good

	// The client CA is replaced while the server runs. The fake API forgets what
	// happens between an informer's list and its watch, so it is told again.
	cms := w.client.CoreV1().ConfigMaps("kube-system")
	cm, err := cms.Get(t.Context(), "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.Data["client-ca-file"] = string(other.pem())
	for i, deadline := 0, time.Now().Add(30*time.Second); time.Now().Before(deadline); i++ {
		cm.Labels = map[string]string{"try": strconv.Itoa(i)}
		if _, err := cms.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if status, _ := w.get("/healthz", "someone"); status == 401 {
			return
		}
	}
	t.Error("the client CA of the start is still trusted")
}

func TestAuthorization(t *testing.T) {
	w := start(t, settings{})
	type review struct{ Verb, Subresource, Name string }
	tests := []struct {
		method, path string
		header       []string
		want         []review
	}{
		{"GET", "/containerLogs/default/p/c", nil, []review{{"get", "proxy", "n1"}}},
		{"POST", "/exec/default/p/c", nil, []review{{"create", "proxy", "n1"}}},
		{"GET", "/exec/default/p/c", []string{"Connection", "Upgrade", "Upgrade", "websocket"}, []review{{"create", "proxy", "n1"}}},
		{"GET", "/containerLogs/default/none/c", nil, []review{{"get", "proxy", ""}}},
		{"GET", "/healthz", []string{"X-Forwarded-Uri", "/api/v1/nodes/n1/proxy/healthz"}, []review{{"get", "healthz", "n1"}, {"get", "proxy", "n1"}}},
		{"GET", "/healthz", nil, []review{{"get", "healthz", ""}, {"get", "proxy", ""}}},
		{"GET", "/metrics/resource", []string{"X-Forwarded-Uri", "/api/v1/nodes/n7/proxy/metrics/resource"}, []review{{"get", "metrics", "n7"}}},
		{"GET", "/edge/v1/nodes/n1/metrics/resource", nil, []review{{"get", "metrics", "n1"}}},
		{"GET", "/stats/summary", nil, []review{{"get", "stats", ""}}},
		{"GET", "/edge/v1/session", []string{"X-Forwarded-Uri", "/api/v1/nodes/n1/proxy/edge/v1/session"}, []review{{"get", "stats", "n1"}, {"get", "proxy", "n1"}}},
		{"GET", "/logs/syslog", nil, []review{{"get", "log", ""}}},
		{"GET", "/pods", nil, []review{{"get", "pods", ""}, {"get", "proxy", ""}}},
		// Where a client's own header would get through, it counts for nothing.
		{"GET", "/stats/summary", []string{"X-Forwarded-Uri", "/api/v1/nodes/n1/proxy/stats/summary", "Connection", "Upgrade", "Upgrade", "x"}, []review{{"get", "stats", ""}}},
	}
	for i, tt := range tests {
		w.setAllow(func(authorizationv1.SubjectAccessReviewSpec) bool { return false })
		// Answers are kept per user.
		resp := w.do(tt.method, tt.path, "user"+string(rune('a'+i)), tt.header...)
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 403 || !strings.HasPrefix(string(body), "Forbidden (user=user") {
			t.Errorf("%s %s: got %d %q", tt.method, tt.path, resp.StatusCode, body)
		}
		var got []review
		w.mu.Lock()
		for _, r := range w.reviews {
			a := r.ResourceAttributes
			if a == nil || a.Resource != "nodes" || !slices.Contains(r.Groups, "group") {
				t.Fatalf("review %+v", r)
			}
			got = append(got, review{a.Verb, a.Subresource, a.Name})
		}
		w.mu.Unlock()
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.method, tt.path, d)
		}
	}
}

// TestNobodyIsNamedByAHeader: unlike servers behind the API aggregator, a kubelet
// has its callers from certificates and tokens alone. What a client sends through
// nodes/NAME/proxy comes with kube-apiserver's own certificate.
func TestNobodyIsNamedByAHeader(t *testing.T) {
	w := start(t, settings{})
	cm, err := w.client.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "extension-apiserver-authentication", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.Data["requestheader-client-ca-file"] = string(w.ca.pem())
	cm.Data["requestheader-allowed-names"] = `["front-proxy-client"]`
	cm.Data["requestheader-username-headers"] = `["X-Remote-User"]`
	cm.Data["requestheader-group-headers"] = `["X-Remote-Group"]`
	if _, err := w.client.CoreV1().ConfigMaps("kube-system").Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.setAllow(func(r authorizationv1.SubjectAccessReviewSpec) bool {
		return r.User != "front-proxy-client" || slices.Contains(r.Groups, "system:masters")
	})
	forged := []string{
		"X-Remote-User", "admin", "X-Remote-Group", "system:masters", "X-Remote-Extra-Scopes", "all",
		"Impersonate-User", "admin", "Impersonate-Group", "system:masters",
	}
	if status, body := w.get("/healthz", "front-proxy-client", forged...); status != 403 || !strings.HasPrefix(body, "Forbidden (user=front-proxy-client,") {
		t.Errorf("with the aggregator's certificate: got %d %q", status, body)
	}
	if status, _ := w.get("/healthz", "-", forged...); status != 401 {
		t.Errorf("without a certificate: got %d", status)
	}
}

// TestRightForOneNode: a right for one node is none for the pods of another, by
// whatever way they are asked for.
func TestRightForOneNode(t *testing.T) {
	w := start(t, settings{})
	w.edgePods.Set(edgePod(newPod("p", "u", "n1"), logFile(t, "one")))
	w.addEdge("n2", nil)
	w.setAllow(func(r authorizationv1.SubjectAccessReviewSpec) bool {
		return r.User == "kube-apiserver" || r.User == "of-n2" && r.ResourceAttributes.Name == "n2"
	})
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket"}
	by := func(uri string, more ...string) []string { return append([]string{"X-Forwarded-Uri", uri}, more...) }
	tests := []struct {
		path, user string
		header     []string
		status     int
	}{
		{"/containerLogs/default/p/c", "of-n2", nil, 403},
		{"/containerLogs/default/p/c", "of-n2", by("/api/v1/nodes/n2/proxy/containerLogs/default/p/c"), 403},
		{"/containerLogs/default/p/c", "of-n2", by("/api/v1/nodes/n1/proxy/containerLogs/default/p/c"), 403},
		{"/containerLogs/default/none/c", "of-n2", nil, 403}, // not even whether there is one
		{"/exec/default/p/c?command=x", "of-n2", upgrade, 403},
		{"/exec/default/p/c?command=x", "of-n2", by("/api/v1/nodes/n2/proxy/exec/default/p/c", upgrade...), 403},
		{"/metrics", "of-n2", by("/api/v1/nodes/n1/proxy/metrics"), 403},
		{"/metrics", "of-n2", by("/api/v1/nodes/n2/proxy/metrics", upgrade...), 403},
		{"/metrics", "of-n2", nil, 403},
		{"/edge/v1/nodes/n1/metrics", "of-n2", nil, 403},
		{"/edge/v1/nodes/n1/healthz", "of-n2", by("/api/v1/nodes/n2/proxy/edge/v1/nodes/n1/healthz"), 403},
		{"/healthz", "of-n2", by("/api/v1/nodes/n2/proxy/healthz"), 200},
		{"/edge/v1/nodes/n2/healthz", "of-n2", nil, 200},
		// kube-apiserver may everything; it has checked its user's right for n2.
		{"/containerLogs/default/p/c", "", by("/api/v1/nodes/n2/proxy/containerLogs/default/p/c"), 404},
		{"/edge/v1/nodes/n1/healthz", "", by("/api/v1/nodes/n2/proxy/edge/v1/nodes/n1/healthz"), 403},
		{"/healthz", "", by("/api/v1/nodes/n1/proxy/pods"), 400},
	}
	for _, tt := range tests {
		if status, body := w.get(tt.path, tt.user, tt.header...); status != tt.status {
			t.Errorf("%s by %q with %q: got %d %q, want %d", tt.path, tt.user, tt.header, status, body, tt.status)
		}
	}
}

// TestNodePaths are requests that name a node.
func TestNodePaths(t *testing.T) {
	w := start(t, settings{})
	w.edgePods.Set(edgePod(newPod("p", "u", "n1"), logFile(t, "one")))
	w.addEdge("n2", nil)
	tests := []struct {
		path, uri string
		status    int
		want      string
	}{
		{"/healthz", "/api/v1/nodes/n1/proxy/healthz", 200, "ok"},
		{"/healthz", "/api/v1/nodes/https:n1:10250/proxy/healthz", 200, "ok"},
		{"/healthz", "/api/v1/nodes/n9/proxy/healthz", 503, "edge n9 is offline since 2026-01-02T03:04:05Z"},
		{"/healthz", "/api/v1/nodes/N_9/proxy/healthz", 400, "the name of the node is not valid"},
		{"/edge/v1/nodes/n1/healthz", "", 200, "ok"},
		{"/edge/v1/nodes/n1/containerLogs/default/p/c", "", 404, "404 page not found"},
		{"/containerLogs/default/p/c", "/api/v1/nodes/n1/proxy/containerLogs/default/p/c", 200, "one\n"},
		// A right for n2 is none for the pods of n1.
		{"/containerLogs/default/p/c", "/api/v1/nodes/n2/proxy/containerLogs/default/p/c", 404, `pod "p" not found`},
	}
	for _, tt := range tests {
		status, got := w.get(tt.path, "", "X-Forwarded-Uri", tt.uri)
		// Of a node's own requests a refusal is a Status, which kubectl shows.
		if text := unstatus(got); tt.uri != "" && text != "" {
			got = text
		}
		if status != tt.status || got != tt.want {
			t.Errorf("%s of %s: got %d %q, want %d %q", tt.path, tt.uri, status, got, tt.status, tt.want)
		}
	}
	resp := w.do(http.MethodPost, "/healthz", "")
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d", resp.StatusCode)
	}
}

// FuzzParseTarget holds requests for containers and for nodes apart: what the
// authorizer is asked must fit what is served.
