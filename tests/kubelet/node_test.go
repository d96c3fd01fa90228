package kubelet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// addNode starts the kubelet API of an edge that tells of its machine.
func (w *world) addNode(name string, pods *kubeletapitest.Pods, node kubeletapi.NodeConfig) {
	w.t.Helper()
	s, err := kubeletapi.New(kubeletapi.Config{Pods: pods, Runtime: kubeletapitest.Runtime{}, Node: node})
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.ServeKubelet(ctx, ln) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.edges.mu.Lock()
	defer w.edges.mu.Unlock()
	w.edges.nodes[name] = map[wire.Kind]string{wire.KindKubelet: ln.Addr().String()}
}

// named is a machine that tells its name.
func named(name, logs string) kubeletapi.NodeConfig {
	return kubeletapi.NodeConfig{
		Pods: func() iter.Seq[*corev1.Pod] {
			return func(yield func(*corev1.Pod) bool) {
				yield(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "on-" + name}})
			}
		},
		Summary: func(context.Context, bool) (any, error) { return name, nil },
		Configz: func() any { return name },
		Metrics: map[string]func(context.Context, io.Writer) error{"/metrics/resource": func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "metrics of "+name)
			return err
		}},
		LogDir: logs,
		Checkpoint: func(_ context.Context, id, _ string, _ time.Duration) error {
			return fmt.Errorf("%s can't checkpoint %s", name, id)
		},
		CheckpointDir: logs,
	}
}

func TestNodeRequests(t *testing.T) {
	w := start(t, settings{})
	logs := t.TempDir()
	if err := os.WriteFile(filepath.Join(logs, "a b?.log"), []byte("a line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n9"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.addNode("n1", w.edgePods, named("n1", logs))
	w.addNode("n2", &kubeletapitest.Pods{}, named("n2", logs))
	via := func(node, path string) []string { // how kube-apiserver puts it
		return []string{"X-Forwarded-Uri", "/api/v1/nodes/" + node + "/proxy" + path}
	}
	for _, tt := range []struct {
		path, node string // no node for none
		status     int
		want       string
		sub        string // what was asked of the authorizer last, "" for any
	}{
		{"/stats/summary", "n1", 200, "\"n1\"\n", "stats"},
		{"/stats/summary", "https:n2:10250", 200, "\"n2\"\n", "stats"},
		{"/metrics/resource", "n2", 200, "metrics of n2", "metrics"},
		{kubeletfront.MetricsPath("n2"), "", 200, "metrics of n2", "metrics"},
		{kubeletfront.MetricsPath("n2"), "n2", 200, "metrics of n2", "metrics"},
		{kubeletfront.MetricsPath("n2"), "n1", 403, "the path names another node than the request", ""},
		{"/metrics/resource", "", 404, "the request names no edge", ""},
		{"/pods", "n1", 200, `"name":"on-n1"`, "pods"},
		{"/configz", "n1", 200, "\"n1\"\n", "configz"},
		{"/logs/a%20b%3F.log", "n1", 200, "a line\n", "log"},
		{"/logs/none", "n1", 404, "404 page not found", "log"},
		{"/logs/../x", "n1", 400, "the path is not clean", ""},
		{"/runningpods/", "n1", 404, "404 page not found", "pods"}, // an edge that does not have it
		{"/healthz", "n9", 503, "edge n9 is offline since 2026-01-02T03:04:05Z", "healthz"},
		{"/pods", "-bad-", 400, "the name of the node is not valid", ""},
		{"/pods?" + strings.Repeat("x", 8<<10), "n1", 414, "more than 8192", "pods"},
		{"/logs/" + strings.Repeat("x/", 4<<10), "n1", 414, "more than 8192", "log"},
	} {
		var header []string
		if tt.node != "" {
			header = via(tt.node, tt.path)
		}
		w.setAllow(func(authorizationv1.SubjectAccessReviewSpec) bool { return true })
		status, got := w.get(tt.path, "user-"+fmt.Sprint(time.Now().UnixNano()), header...)
		if status != tt.status || !strings.Contains(got, tt.want) && !strings.Contains(unstatus(got), tt.want) {
			t.Errorf("%.60s via %q: got %d %.300q, want %d %q", tt.path, tt.node, status, got, tt.status, tt.want)
		}
		w.mu.Lock()
		if n := len(w.reviews); tt.sub != "" && (n == 0 || w.reviews[0].ResourceAttributes.Subresource != tt.sub || w.reviews[0].ResourceAttributes.Name == "") {
			t.Errorf("%.60s: asked for %+v, want %s", tt.path, w.reviews, tt.sub)
		}
		w.mu.Unlock()
	}
	resp := w.do(http.MethodPost, "/checkpoint/default/p/c", "")
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if want := "checkpointing of default/p/c failed (n1 can't checkpoint id)"; err != nil || resp.StatusCode != 500 || string(b) != want {
		t.Errorf("checkpoint: %v, %d %q, want %q", err, resp.StatusCode, b, want)
	}
	for path, status := range map[string]int{"/checkpoint/default/p/x": 400, "/checkpoint/default/none/c": 404, "/checkpoint/default/p": 404, "/pods": 405} {
		resp := w.do(http.MethodPost, path, "")
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("POST %s: %d, want %d", path, resp.StatusCode, status)
		}
	}
}

// unstatus gives the message of a Status, as kubectl shows it.
func unstatus(body string) string {
	var s metav1.Status
	if json.Unmarshal([]byte(body), &s) != nil || s.Kind != "Status" {
		return ""
	}
	return s.Message
}

// TestUpgradeNamesNoNode has a caller of pods who claims a node by himself.
func TestUpgradeNamesNoNode(t *testing.T) {
	w := start(t, settings{})
	w.addNode("n1", w.edgePods, named("n1", ""))
	status, got := w.get("/configz", "", "X-Forwarded-Uri", "/api/v1/nodes/n1/proxy/configz", "Connection", "Upgrade", "Upgrade", "websocket")
	if status != http.StatusNotFound || unstatus(got) != "the request names no edge" {
		t.Errorf("got %d %q", status, got)
	}
}

// TestSlowReader opens node requests and does not read them; the edge has many
// bytes to send. When the caller goes, all of it is freed.
func TestSlowReader(t *testing.T) {
	w := start(t, settings{})
	ended := make(chan struct{}, 1)
	node := named("n1", "")
	node.Metrics["/metrics/cadvisor"] = func(_ context.Context, out io.Writer) error {
		defer func() { ended <- struct{}{} }()
		block := make([]byte, 64<<10)
		for range 10_000 {
			if _, err := out.Write(block); err != nil {
				return err
			}
		}
		return nil
	}
	w.addNode("n1", w.edgePods, node)
	resp := w.do(http.MethodGet, "/metrics/cadvisor", "", "X-Forwarded-Uri", "/api/v1/nodes/n1/proxy/metrics/cadvisor")
	if _, err := bufio.NewReaderSize(resp.Body, 16).ReadByte(); err != nil {
		t.Fatal(err)
	}
	conn := w.edges.last()
	_ = resp.Body.Close()
	<-conn.closed
	<-ended
}
