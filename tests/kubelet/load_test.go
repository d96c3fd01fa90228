package kubelet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/tools/remotecommand"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
)

// counter tells when n commands run.
type counter struct {
	mu   sync.Mutex
	n    int
	full chan struct{} // closed when want run
	want int
}

func (c *counter) run(ctx context.Context, _ cri.ExecOptions) (int, error) {
	c.mu.Lock()
	if c.n++; c.n == c.want {
		close(c.full)
	}
	c.mu.Unlock()
	<-ctx.Done()
	return 0, ctx.Err()
}

// most is how many commands TestManyStreams holds at one edge; over 20 edges it holds
// four times as many. What has to hold is -streams 500, which takes a minute.
var most = flag.Int("streams", 50, "commands at one edge")

// TestManyStreams holds many commands at one edge, and more over 20, and finds the
// bounds beyond.
func TestManyStreams(t *testing.T) {
	for _, tt := range []struct {
		name        string
		edges, each int
		front       kubeletfront.Config
		status      int
		refusal     string
	}{
		{"one edge", 1, *most, kubeletfront.Config{MaxStreamsPerEdge: *most}, http.StatusTooManyRequests, fmt.Sprintf("%d streams to edge e0 are open, which is the most", *most)},
		{"20 edges", 20, *most / 5, kubeletfront.Config{MaxStreams: 4 * *most}, http.StatusServiceUnavailable, fmt.Sprintf("%d streams are open at this proxy, which is the most", 4**most)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, settings{front: tt.front})
			c := &counter{want: tt.edges * tt.each, full: make(chan struct{})}
			for e := range tt.edges {
				node, name := fmt.Sprintf("e%d", e), fmt.Sprintf("p%d", e)
				pods := w.addEdge(node, kubeletapitest.Runtime{Override: c.run})
				p := newPod(name, "u"+name, node)
				w.addPod(p)
				pods.Set(edgePod(p, ""))
			}
			cfg := w.config("kube-apiserver")
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, c.want)
			var callers sync.WaitGroup
			for i := range c.want {
				callers.Go(func() {
					path := fmt.Sprintf("/exec/default/p%d/c?command=sleep&output=1", i%tt.edges)
					ex, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, w.url+path)
					if err == nil {
						err = ex.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: newWaiter()})
					}
					if ctx.Err() == nil {
						failed <- errors.Join(err, errors.New("it ended early"))
					}
				})
			}
			select {
			case <-c.full:
			case err := <-failed:
				cancel()
				t.Fatal(err)
			}
			status, body := w.get("/exec/default/p0/c?command=sleep&output=1", "", "Connection", "Upgrade", "Upgrade", "SPDY/3.1")
			if status != tt.status || !strings.Contains(body, tt.refusal) {
				t.Errorf("one more: got %d %q, want %d %q", status, body, tt.status, tt.refusal)
			}
			cancel()
			callers.Wait()
			w.noStreams()
		})
	}
}
