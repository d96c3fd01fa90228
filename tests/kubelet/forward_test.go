package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// eventually waits for cond, which another goroutine makes true.
func eventually(t *testing.T, cond func() error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// forwardings are the ways in which callers forward ports.
func forwardings() []string { return []string{"spdy", "websocket"} }

// serverIn is a server in the pod. It stops listening at the test's end.
func serverIn(t *testing.T, serve func(*net.TCPConn)) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).Port
}

// echo answers what it is told, and ends when it is told so.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// forwarder is a kubectl port-forward.
type forwarder struct {
	t    *testing.T
	addr string
	errs *waiter
	stop func() error
}

// dialer makes the connections that a forwarder sends its streams by.
func (w *world) dialer(way, path string) httpstream.Dialer {
	w.t.Helper()
	u, err := url.Parse(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	if way == "websocket" {
		d, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, w.config("kube-apiserver"))
		if err != nil {
			w.t.Fatal(err)
		}
		return d
	}
	rt, up, err := spdy.RoundTripperFor(w.config("kube-apiserver"))
	if err != nil {
		w.t.Fatal(err)
	}
	return spdy.NewDialerForStreaming(up, &http.Client{Transport: rt}, http.MethodPost, u)
}

func (w *world) forward(way, path string, port int) *forwarder {
	w.t.Helper()
	stop, ready, errs := make(chan struct{}), make(chan struct{}), newWaiter()
	pf, err := portforward.NewOnAddressesForStreaming(w.dialer(way, path), []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, errs)
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- pf.ForwardPorts() }()
	f := &forwarder{t: w.t, errs: errs}
	f.stop = sync.OnceValue(func() error {
		close(stop)
		return <-done
	})
	w.t.Cleanup(func() { _ = f.stop() })
	select {
	case <-ready:
	case err := <-done:
		w.t.Fatal(err)
	}
	ports, err := pf.GetPorts()
	if err != nil {
		w.t.Fatal(err)
	}
	f.addr = fmt.Sprintf("127.0.0.1:%d", ports[0].Local)
	return f
}

func (f *forwarder) dial() *net.TCPConn {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// ask says something on a connection of its own and reads the answer to its end.
func (f *forwarder) ask(say []byte) ([]byte, error) {
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(say)
		_ = c.(*net.TCPConn).CloseWrite()
		wrote <- err
	}()
	answer, err := io.ReadAll(c)
	return answer, errors.Join(err, <-wrote)
}

func TestForward(t *testing.T) {
	w := start(t, settings{})
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	tests := []struct {
		name       string
		server     func(*net.TCPConn)
		say, heard []byte
	}{
		{"echo", echo, data, data},
		{"speaks first", func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "220 ready\n")
			b, _ := io.ReadAll(c)
			_, _ = c.Write(append(b, "bye\n"...))
		}, []byte("QUIT\n"), []byte("220 ready\nQUIT\nbye\n")},
		{"only speaks", func(c *net.TCPConn) { _, _ = c.Write(data) }, nil, data},
		{"waits for the end of its input", func(c *net.TCPConn) {
			n, _ := io.Copy(io.Discard, c)
			_, _ = fmt.Fprintf(c, "%d bytes", n)
		}, data, []byte("4194304 bytes")},
	}
	for _, way := range forwardings() {
		for _, tt := range tests {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				f := w.forward(way, "/portForward/default/p", serverIn(t, tt.server))
				got, err := f.ask(tt.say)
				if err != nil || !bytes.Equal(got, tt.heard) {
					t.Errorf("%d bytes, %v; want %d", len(got), err, len(tt.heard))
				}
				if err := f.stop(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	eventually(t, func() error {
		if n := strings.Count(w.log.String(), "kind=portforward"); n != 2*len(tests) {
			return fmt.Errorf("%d lines in the log, want %d:\n%s", n, 2*len(tests), w.log)
		}
		return nil
	})
	if log := w.log.String(); !strings.Contains(log, "bytes_in=4194304 bytes_out=4194304") || !strings.Contains(log, `ended="1 connections: `) {
		t.Errorf("the log misses it:\n%s", log)
	}
}

// TestForwardMany: of connections that have ended nothing may be left, at neither
// end, while the caller goes on.
func TestForwardMany(t *testing.T) {
	w := start(t, settings{front: kubeletfront.Config{MaxStreamsPerEdge: 130}})
	port := serverIn(t, echo)
	for _, way := range forwardings() {
		t.Run(way, func(t *testing.T) {
			f := w.forward(way, "/portForward/default/p", port)
			one := func(i int) {
				say := fmt.Appendf(nil, "connection %d", i)
				if got, err := f.ask(say); err != nil || !bytes.Equal(got, say) {
					t.Errorf("connection %d: got %q, %v; %s", i, got, err, f.errs)
				}
			}
			one(-1)
			before := runtime.NumGoroutine()
			for i := range 1000 {
				one(i)
			}
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() { one(i) })
			}
			wg.Wait()
			eventually(t, func() error {
				if n := runtime.NumGoroutine(); n > before+2 {
					return fmt.Errorf("%d goroutines, %d before", n, before)
				}
				return nil
			})
			w.noStreams()
		})
	}
}

// noStreams waits until all streams to edges are closed.
func (w *world) noStreams() {
	w.t.Helper()
	w.edges.mu.Lock()
	open := w.edges.open
	w.edges.open = nil
	w.edges.mu.Unlock()
	for i, c := range open {
		select {
		case <-c.closed:
		case <-time.After(20 * time.Second):
			w.t.Fatalf("stream %d of %d is open", i, len(open))
		}
	}
}

// TestForwardRefused: a connection that can't be made says why, and the caller may
// make others. What it does with that is its own business: kubectl of 1.23 and
// later ends then.
func TestForwardRefused(t *testing.T) {
	w := start(t, settings{front: kubeletfront.Config{MaxStreamsPerEdge: 3}})
	off := newPod("off", "u2", "n2")
	gone, idle := newPod("gone", "u3", "n1"), newPod("idle", "u4", "n1")
	w.addPod(off)
	w.addPod(gone)
	w.addPod(idle)
	w.edgePods.Set(kubeletapi.Pod{Namespace: "default", Name: "gone", UID: "before"})
	w.edgePods.Set(kubeletapi.Pod{Namespace: "default", Name: "idle", UID: "u4"})

	for _, way := range forwardings() {
		_, _, err := w.dialer(way, "/portForward/default/off").Dial(portforward.PortForwardProtocolV1Name)
		if err == nil || way == "spdy" && !strings.Contains(err.Error(), "edge n2 is offline since 2026-01-02T03:04:05Z") {
			t.Errorf("%s: offline: got %v", way, err)
		}
	}
	port := serverIn(t, echo)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	none := closed.Addr().(*net.TCPAddr).Port
	for _, way := range forwardings() {
		t.Run(way, func(t *testing.T) {
			for path, want := range map[string]string{
				"gone": `, uid u3: pod "gone" not found`,
				"idle": `, uid u4: pod "idle" is not running`,
			} {
				c := w.streams(way, path)
				if got := c.open(port); !strings.Contains(got, want) {
					t.Errorf("%s: got %q", path, got)
				}
				_ = c.conn.Close()
			}
			w.noStreams()
			c := w.streams(way, "p")
			want := fmt.Sprintf("error forwarding port %d to pod p, uid u: failed to connect to localhost:%d inside pod p: dial tcp 127.0.0.1:%d: connect: connection refused", none, none, none)
			for range 3 {
				if got := c.open(none); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if got := c.open(port); got != "" {
				t.Errorf("after refused ones: got %q", got)
			}
			// The caller holds one place, and each connection another.
			hold := []io.Closer{c.hold(port), c.hold(port)}
			if got := c.open(port); !strings.Contains(got, "3 streams to edge n1 are open, which is the most") {
				t.Errorf("beyond the bound: got %q", got)
			}
			for _, h := range hold {
				_ = h.Close()
			}
			_ = c.conn.Close()
			w.noStreams()
		})
	}
}

// streams are the bare streams of one caller.
type streams struct {
	t    *testing.T
	conn httpstream.Connection
	id   int
}

func (w *world) streams(way, pod string) *streams {
	w.t.Helper()
	conn, _, err := w.dialer(way, "/portForward/default/"+pod).Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return &streams{t: w.t, conn: conn}
}

func (s *streams) pair(port int) (errs, data httpstream.Stream) {
	s.t.Helper()
	s.id++
	h := http.Header{}
	h.Set("port", fmt.Sprint(port))
	h.Set("requestID", fmt.Sprint(s.id))
	h.Set("streamType", "error")
	errs, err := s.conn.CreateStream(h)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = errs.Close()
	h.Set("streamType", "data")
	data, err = s.conn.CreateStream(h)
	if err != nil {
		s.t.Fatal(err)
	}
	return errs, data
}

// open makes a connection, says something to an echo, and gives what the error
// stream tells.
func (s *streams) open(port int) string {
	s.t.Helper()
	errs, data := s.pair(port)
	_, _ = io.WriteString(data, "x")
	_ = data.Close()
	_, _ = io.ReadAll(data)
	text, err := io.ReadAll(errs)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// hold makes a connection that stays.
func (s *streams) hold(port int) io.Closer {
	s.t.Helper()
	_, data := s.pair(port)
	_, _ = io.WriteString(data, "x")
	_, err := io.ReadFull(data, make([]byte, 1))
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// TestForwardCallerGone: a caller that goes, or resets one connection of several,
// frees what its connections held, whether or not the pod listens or speaks.
func TestForwardCallerGone(t *testing.T) {
	w := start(t, settings{})
	var open atomic.Int64
	flood := serverIn(t, func(c *net.TCPConn) {
		open.Add(1)
		defer open.Add(-1)
		for b := make([]byte, 32<<10); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	deaf := serverIn(t, func(c *net.TCPConn) {
		open.Add(1)
		defer open.Add(-1)
		// Only the end of the other side's output shows that it has gone.
		_, _ = io.Copy(io.Discard, c)
	})
	none := func() error {
		if n := open.Load(); n > 0 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	}
	for _, way := range forwardings() {
		t.Run(way, func(t *testing.T) {
			c := w.streams(way, "p")
			_, data := c.pair(flood)
			if _, err := io.ReadFull(data, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			_ = data.Reset()
			eventually(t, none)

			// SPDY as it is used here has no flow control: who does not read one stream
			// may get nothing on the others.
			_, other := c.pair(deaf)
			_, _ = io.WriteString(other, "x")
			_, data = c.pair(flood)
			if _, err := io.ReadFull(data, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error {
				if n := open.Load(); n < 2 {
					return fmt.Errorf("%d connections are open", n)
				}
				return nil
			})
			_ = c.conn.Close()
			eventually(t, none)
			w.noStreams()
		})
	}
}

// TestForwardOutage: a connection that is made while the edge is out of reach waits
// for it. Were it refused, kubectl would end.
func TestForwardOutage(t *testing.T) {
	w := start(t, settings{})
	f := w.forward("spdy", "/portForward/default/p", serverIn(t, echo))
	w.edges.mu.Lock()
	kinds := w.edges.nodes["n1"]
	delete(w.edges.nodes, "n1")
	w.edges.mu.Unlock()
	c := f.dial()
	_, _ = io.WriteString(c, "hello")
	time.AfterFunc(time.Second, func() {
		w.edges.mu.Lock()
		defer w.edges.mu.Unlock()
		w.edges.nodes["n1"] = kinds
	})
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v; %s", got, err, f.errs)
	}
}

// TestForwardPodBreaks: a pod that resets a connection has that told.
func TestForwardPodBreaks(t *testing.T) {
	w := start(t, settings{})
	port := serverIn(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	})
	c := w.streams("spdy", "p")
	errs, data := c.pair(port)
	_, _ = io.WriteString(data, "x")
	text, err := io.ReadAll(errs)
	if err != nil || !strings.Contains(string(text), "connection reset by peer") {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestForwardDrain ends the proxy while a connection is open.
func TestForwardDrain(t *testing.T) {
	w := start(t, settings{})
	f := w.forward("spdy", "/portForward/default/p", serverIn(t, echo))
	c := f.dial()
	_, _ = io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.wantStop()
	if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

// TestForwardEdgeBreaksProtocol is an edge that answers with what makes no sense.
func TestForwardEdgeBreaksProtocol(t *testing.T) {
	w := start(t, settings{})
	for _, b := range [][]byte{{1, 2, 3}, wire.Append(nil, &wire.Synced{}), bytes.Repeat([]byte{0xff}, 64)} {
		w.rawEdge("n1", b)
		if got := w.streams("spdy", "p").open(80); !strings.Contains(got, "edge n1") {
			t.Errorf("%x: got %q", b, got)
		}
	}
}

// TestForwardBadStreams: streams that make no sense are reset, those that do are
// served beside them.
func TestForwardBadStreams(t *testing.T) {
	w := start(t, settings{})
	port := serverIn(t, echo)
	c := w.streams("spdy", "p")
	for _, h := range []map[string]string{
		{"streamType": "data"},
		{"streamType": "data", "port": "0"},
		{"streamType": "data", "port": "70000"},
		{"streamType": "data", "port": "-1"},
		{"streamType": "both", "port": "80"},
		{"port": "80"},
	} {
		header := http.Header{}
		for k, v := range h {
			header.Set(k, v)
		}
		if s, err := c.conn.CreateStream(header); err == nil {
			if b, err := io.ReadAll(s); len(b) > 0 || err != nil {
				t.Errorf("%v: got %q, %v", h, b, err)
			}
		}
	}
	if got := c.open(port); got != "" {
		t.Errorf("beside bad ones: got %q", got)
	}
}

// TestForwardOldCaller has no header that says which streams belong together.
func TestForwardOldCaller(t *testing.T) {
	w := start(t, settings{})
	port := serverIn(t, echo)
	c := w.streams("spdy", "p")
	for range 3 {
		h := http.Header{}
		h.Set("port", fmt.Sprint(port))
		h.Set("streamType", "error")
		errs, err := c.conn.CreateStream(h)
		if err != nil {
			t.Fatal(err)
		}
		h.Set("streamType", "data")
		data, err := c.conn.CreateStream(h)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(data, "hello")
		_ = data.Close()
		if got, err := io.ReadAll(data); string(got) != "hello" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if got, err := io.ReadAll(errs); len(got) > 0 || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
}
