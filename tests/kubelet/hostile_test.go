package kubelet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/rest"
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

// TestBadUpgrades: whatever a caller says of its upgrade, it is answered, and keeps
// no place.
func TestBadUpgrades(t *testing.T) {
	w := start(t, settings{front: kubeletfront.Config{MaxStreamsPerEdge: 1}})
	for _, path := range []string{"/exec/default/p/c?command=true&output=1", "/attach/default/p/c?output=1", "/portForward/default/p?port=80"} {
		for _, header := range [][]string{
			{"Upgrade", ""},
			{"Upgrade", "SPDY/3.1"},
			{"Upgrade", "SPDY/3.1", "X-Stream-Protocol-Version", ""},
			{"Upgrade", "SPDY/3.1", "X-Stream-Protocol-Version", ", ,"},
			{"Upgrade", "SPDY/3.1", "X-Stream-Protocol-Version", "v9.channel.k8s.io"},
			{"Upgrade", "SPDY/9", "X-Stream-Protocol-Version", "v4.channel.k8s.io"},
			{"Upgrade", "h2c", "X-Stream-Protocol-Version", "portforward.k8s.io"},
			{"Upgrade", "websocket"},
			{"Upgrade", "websocket", "Sec-WebSocket-Version", "12", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="},
			{"Upgrade", "websocket", "Sec-WebSocket-Protocol", "v5.channel.k8s.io"},
			{"Upgrade", "websocket", "Sec-WebSocket-Protocol", "SPDY/3.1+portforward.k8s.io"},
			{"Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol", "SPDY/3.1+v9.k8s.io"},
		} {
			eventually(t, func() error { // the place of the one before may not be free at once
				status, body := w.get(path, "", append([]string{"Connection", "Upgrade"}, header...)...)
				if status < 400 || status > 499 || status == http.StatusTooManyRequests {
					return fmt.Errorf("%s %q: got %d %q", path, header, status, body)
				}
				return nil
			})
		}
	}
	for _, path := range []string{"/portForward/default/p", "/portForward/default/p?port=", "/portForward/default/p?port=0", "/portForward/default/p?port=80,99999"} {
		status, body := w.get(path, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol", "v4.channel.k8s.io")
		if status != http.StatusBadRequest {
			t.Errorf("%s: got %d %q", path, status, body)
		}
	}
	w.noStreams()
}

// TestForwardOldWebSocket is the protocol that has the ports in its query and two
// channels for each.
func TestForwardOldWebSocket(t *testing.T) {
	w := start(t, settings{})
	port := serverIn(t, func(c *net.TCPConn) {
		b := make([]byte, 5)
		_, _ = io.ReadFull(c, b)
		_, _ = c.Write(bytes.ToUpper(b))
	})
	cfg, err := rest.TLSConfigFor(w.config("kube-apiserver"))
	if err != nil {
		t.Fatal(err)
	}
	d := websocket.Dialer{TLSClientConfig: cfg, Subprotocols: []string{"v4.channel.k8s.io"}}
	c, resp, err := d.DialContext(t.Context(), strings.Replace(w.url, "https", "wss", 1)+fmt.Sprintf("/portForward/default/p?port=%d", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	defer func() { _ = c.Close() }()
	if err := c.WriteMessage(websocket.BinaryMessage, append([]byte{0}, "hello"...)); err != nil {
		t.Fatal(err)
	}
	var got [2][]byte
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			break // it ends with its only connection
		}
		got[b[0]] = append(got[b[0]], b[1:]...)
	}
	prefix := []byte{byte(port), byte(port >> 8)}
	if want := append(prefix, "HELLO"...); !bytes.Equal(got[0], want) || !bytes.Equal(got[1], prefix) {
		t.Errorf("got %q and %q, want %q", got[0], got[1], want)
	}
	w.noStreams()
}
