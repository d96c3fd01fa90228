package kubelet

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"k8s.io/client-go/tools/remotecommand"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// httpEdge makes answer all that a node says to HTTP requests.
func (w *world) httpEdge(node string, answer func(net.Conn)) {
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
			answer(c)
			_ = c.Close()
		}
	}()
	w.edges.mu.Lock()
	defer w.edges.mu.Unlock()
	w.edges.nodes[node] = map[wire.Kind]string{wire.KindKubelet: ln.Addr().String()}
}

// TestEdgeAnswersWithBadStatus: such an answer must neither break the caller's
// connection nor keep the stream's place.
func TestEdgeAnswersWithBadStatus(t *testing.T) {
	w := start(t, settings{front: kubeletfront.Config{MaxStreamsPerEdge: 1}})
	status := make(chan string, 1)
	w.httpEdge("bad", func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 "+<-status+" x\r\nContent-Length: 0\r\n\r\n")
	})
	for _, s := range []string{"042", "000", "101", "777"} {
		status <- s
		if got, body := w.get("/healthz", "", "X-Forwarded-Uri", "/api/v1/nodes/bad/proxy/healthz"); got != http.StatusBadGateway {
			t.Errorf("status %s: got %d %q", s, got, body)
		}
	}
}

// wantStop ends the proxy, which must not wait for a caller that does not read.
func (w *world) wantStop() {
	w.t.Helper()
	ended := make(chan struct{})
	go func() { w.stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		w.t.Fatal("the proxy does not end")
	}
}

// TestStopWithLogsNobodyReads is `kubectl logs -f | less`.
func TestStopWithLogsNobodyReads(t *testing.T) {
	w := start(t, settings{})
	w.httpEdge("flood", func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		for block := make([]byte, 64<<10); ; {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	resp := w.do(http.MethodGet, "/logs/", "", "X-Forwarded-Uri", "/api/v1/nodes/flood/proxy/logs/")
	defer func() { _ = resp.Body.Close() }()
	w.wantStop()
}

// stuck is a terminal that was stopped with Ctrl-S.
type stuck struct {
	on  signal
	off <-chan struct{}
}

func (s stuck) Write(b []byte) (int, error) {
	_, _ = s.on.Write(b)
	<-s.off
	return 0, io.ErrClosedPipe
}

func TestStopWithCommandNobodyReads(t *testing.T) {
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			w := start(t, settings{})
			flood := wire.Append(nil, &wire.Data{Channel: wire.ChannelStdout, Bytes: make([]byte, 16<<10)})
			w.rawEdge("n2", bytes.Repeat(flood, 1024))
			w.addPod(newPod("p2", "u2", "n2"))
			ctx, cancel := context.WithCancel(t.Context())
			s := stuck{make(signal), ctx.Done()}
			done := make(chan error, 1)
			go func() {
				done <- w.callAt(ctx, protocol, "/exec/default/p2/c", remotecommand.StreamOptions{Stdout: s}, "yes")
			}()
			await(t, s.on, done)
			w.wantStop()
			cancel()
			<-done
		})
	}
}
