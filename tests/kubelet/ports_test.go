package kubelet

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/remotecommand"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
)

// nodePorts are ports that a test gives to nodes.
type nodePorts struct {
	mu      sync.Mutex
	nodes   map[int]string
	changed chan struct{}
}

func (p *nodePorts) Ports() ([]int, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []int
	for port := range p.nodes {
		all = append(all, port)
	}
	return all, p.changed
}

func (p *nodePorts) Node(port int) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	node, ok := p.nodes[port]
	return node, ok
}

func (p *nodePorts) set(nodes map[int]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = nodes
	close(p.changed)
	p.changed = make(chan struct{})
}

// freePort is one that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// at waits until somebody listens on a port, and gives its URL.
func at(t *testing.T, port int) string {
	t.Helper()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return "https://" + addr
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestNodePorts: the port that was dialled says which node is meant, whatever the
// request says.
func TestNodePorts(t *testing.T) {
	p1, p2 := freePort(t), freePort(t)
	ports := &nodePorts{nodes: map[int]string{p1: "n1", p2: "n2"}, changed: make(chan struct{})}
	w := start(t, settings{front: kubeletfront.Config{Ports: ports, Addr: "127.0.0.1:0"}})
	w.edgePods.Set(edgePod(newPod("p", "u", "n1"), logFile(t, "one")))
	w.addEdge("n2", nil)
	shared, url1, url2 := w.url, at(t, p1), at(t, p2)
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket"}
	tests := []struct {
		url, path string
		header    []string
		status    int
		want      string
	}{
		{url1, "/healthz", nil, 200, "ok"},
		{url2, "/healthz", []string{"X-Forwarded-Uri", "/api/v1/nodes/n2/proxy/healthz"}, 200, "ok"},
		{url2, "/healthz", []string{"X-Forwarded-Uri", "/api/v1/nodes/n1/proxy/healthz"}, 403, "the port is another node's"},
		{url1, "/edge/v1/nodes/n1/healthz", nil, 200, "ok"},
		{url1, "/edge/v1/nodes/n2/healthz", nil, 403, "the port is another node's"},
		{url1, "/containerLogs/default/p/c", nil, 200, "one\n"},
		{url2, "/containerLogs/default/p/c", nil, 404, `pod "p" not found`},
		{shared, "/containerLogs/default/p/c", nil, 200, "one\n"},
		{shared, "/metrics", nil, 404, "the request names no edge"},
	}
	for _, tt := range tests {
		w.url = tt.url
		if status, got := w.get(tt.path, "", tt.header...); status != tt.status || got != tt.want {
			t.Errorf("%s%s %q: got %d %q, want %d %q", tt.url, tt.path, tt.header, status, got, tt.status, tt.want)
		}
	}
	// An upgrade carries no word of kube-apiserver's as to the node; its port does.
	w.url = url2
	if status, got := w.get("/exec/default/p/c?command=x&output=1", "", append(upgrade, "X-Forwarded-Uri", "/api/v1/nodes/n1/proxy/exec/default/p/c")...); status != 404 || !strings.Contains(got, `pod \"p\" not found`) {
		t.Errorf("exec at another node's port: got %d %q", status, got)
	}
	w.url = url1
	if err := w.callAt(t.Context(), protocols()[0], "/exec/default/p/c", remotecommand.StreamOptions{Stdout: io.Discard}, "true"); err != nil && strings.Contains(err.Error(), "not found") {
		t.Errorf("exec at the node's own port: %v", err)
	}

	// Ports come and go while the server runs.
	p3 := freePort(t)
	ports.set(map[int]string{p1: "n1", p3: "n2"})
	w.url = at(t, p3)
	if status, got := w.get("/healthz", ""); status != 200 {
		t.Errorf("a new port: got %d %q", status, got)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p2)))
		if err != nil {
			break
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("a port that is no node's is still listened on")
		}
	}
}

// TestNodePortTaken: another process has a node's port for a while.
func TestNodePortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	other := freePort(t)
	ports := &nodePorts{nodes: map[int]string{port: "n1", other: "n1"}, changed: make(chan struct{})}
	w := start(t, settings{front: kubeletfront.Config{Ports: ports, Addr: "127.0.0.1:0"}})
	w.url = at(t, other)
	if status, got := w.get("/healthz", ""); status != http.StatusOK {
		t.Errorf("the other port: got %d %q", status, got)
	}
	_ = ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		w.url = at(t, port)
		if status, _ := w.get("/healthz", ""); status == http.StatusOK {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the port is not served:\n%s", w.log)
		}
	}
}
