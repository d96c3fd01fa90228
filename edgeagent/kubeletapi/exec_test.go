package kubeletapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// edge is a running Server with one pod, default/p of UID u.
type edge struct {
	pods          *kubeletapitest.Pods
	exec, kubelet net.Listener
}

func pod(current kubeletapi.Attempt) kubeletapi.Pod {
	return kubeletapi.Pod{Namespace: "default", Name: "p", UID: "u", Containers: []kubeletapi.Container{
		{Name: "c", State: kubeletapi.Running, Current: current},
		{Name: "wait", State: kubeletapi.Waiting, Reason: "ImagePullBackOff"},
	}}
}

func startEdge(t *testing.T, cfg kubeletapi.Config) *edge {
	t.Helper()
	e := &edge{pods: &kubeletapitest.Pods{}, exec: listen(t), kubelet: listen(t)}
	e.pods.Set(pod(kubeletapi.Attempt{ID: "id1"}))
	if cfg.Runtime == nil {
		cfg.Runtime = kubeletapitest.Runtime{}
	}
	cfg.Pods = e.pods
	s, err := kubeletapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- s.ServeExec(ctx, e.exec) }()
	go func() { done <- s.ServeKubelet(ctx, e.kubelet) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// command is the cloud's end of one stream.
type command struct {
	t      *testing.T
	conn   *net.TCPConn
	frames *wire.Reader
}

func (e *edge) command(t *testing.T, frames ...wire.Frame) *command {
	t.Helper()
	conn, err := net.Dial("tcp", e.exec.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &command{t: t, conn: conn.(*net.TCPConn), frames: wire.NewReader(bufio.NewReader(conn), 64<<10)}
	c.send(frames...)
	return c
}

func (c *command) send(frames ...wire.Frame) {
	c.t.Helper()
	for _, f := range frames {
		if err := wire.Write(c.conn, f); err != nil {
			c.t.Fatal(err)
		}
	}
}

// result reads to the end: what came on both outputs, and the last frame.
func (c *command) result() (stdout, stderr string, last wire.Frame) {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		f, err := c.frames.Next()
		if errors.Is(err, io.EOF) {
			return stdout, stderr, last
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if last != nil {
			c.t.Fatalf("%#v after the last frame", f)
		}
		switch f := f.(type) {
		case *wire.Data:
			if f.Channel == wire.ChannelStdout {
				stdout += string(f.Bytes)
			} else {
				stderr += string(f.Bytes)
			}
		default:
			last = f
		}
	}
}

func request(command ...string) *wire.ExecRequest {
	return &wire.ExecRequest{Namespace: "default", Pod: "p", UID: "u", Container: "c", Command: command, Stdin: true, Stdout: true, Stderr: true}
}

func TestExec(t *testing.T) {
	e := startEdge(t, kubeletapi.Config{})
	other := request("true")
	other.UID = "u2"
	noContainer := request("true")
	noContainer.Container = "x"
	waiting := request("true")
	waiting.Container = "wait"
	tests := []struct {
		name           string
		frames         []wire.Frame
		stdout, stderr string
		last           wire.Frame
	}{
		{"exit 0", []wire.Frame{request("true")}, "", "", &wire.Exit{}},
		{"exit code", []wire.Frame{request("sh", "-c", "echo a; echo b >&2; exit 7")}, "a\n", "b\n", &wire.Exit{Code: 7}},
		{
			"input",
			[]wire.Frame{request("cat"), &wire.Data{Bytes: []byte("hello ")}, &wire.Resize{Width: 1 << 40}, &wire.Data{Bytes: []byte("you")}, &wire.CloseInput{}},
			"hello you", "", &wire.Exit{},
		},
		{"input for a command that ends at once", []wire.Frame{request("true"), &wire.Data{Bytes: make([]byte, wire.MaxData)}}, "", "", &wire.Exit{}},
		{"another pod of the name", []wire.Frame{other}, "", "", &wire.Error{Code: wire.CodeNotFound, Text: `pod "p" not found`}},
		{"no such container", []wire.Frame{noContainer}, "", "", &wire.Error{Code: wire.CodeNotFound, Text: `container "x" not found in pod "p"`}},
		{"container waits", []wire.Frame{waiting}, "", "", &wire.Error{Code: wire.CodeNotRunning, Text: `container "wait" in pod "p" is not running`}},
		{"no command", []wire.Frame{request()}, "", "", &wire.Error{Code: wire.CodeBadRequest, Text: "no command"}},
		{"no request", []wire.Frame{&wire.CloseInput{}}, "", "", &wire.Error{Code: wire.CodeProtocol, Text: "the stream begins with *wire.CloseInput, not with a request"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := e.command(t, tt.frames...)
			stdout, stderr, last := c.result()
			if stdout != tt.stdout || stderr != tt.stderr {
				t.Errorf("got %q and %q, want %q and %q", stdout, stderr, tt.stdout, tt.stderr)
			}
			if d := cmp.Diff(tt.last, last); d != "" {
				t.Errorf("last frame (-want +got):\n%s", d)
			}
		})
	}
}

// TestExecInputIsBounded sends input to a command that does not read it: sizes
// get through until the buffer is full, then the stream's flow control acts;
// when the stream dies the command is canceled.
func TestExecInputIsBounded(t *testing.T) {
	sizes := make(chan cri.Size)
	canceled := make(chan error)
	e := startEdge(t, kubeletapi.Config{Runtime: kubeletapitest.Runtime{Override: func(ctx context.Context, o cri.ExecOptions) (int, error) {
		for s := range o.Resize {
			sizes <- s
			if s.Height == 2 {
				break
			}
		}
		<-ctx.Done()
		canceled <- ctx.Err()
		return 0, ctx.Err()
	}}})
	req := request("sleep")
	req.TTY = true
	c := e.command(t, req)
	block := &wire.Data{Bytes: make([]byte, 32<<10-8)}
	for range 8 {
		c.send(block)
	}
	c.send(&wire.Resize{Width: 80, Height: 1}, &wire.Resize{Width: 81, Height: 2})
	if a, b := <-sizes, <-sizes; a.Height != 1 || b.Height != 2 {
		t.Errorf("sizes %v, %v", a, b)
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	sent := 0
	for wire.Write(c.conn, block) == nil {
		if sent++; sent > 1000 {
			t.Fatal("32 MB went into a command that does not read")
		}
	}
	// The reader of frames waits; a probe notices that the peer is gone.
	_ = c.conn.SetLinger(0)
	_ = c.conn.Close()
	select {
	case <-canceled:
	case <-time.After(30 * time.Second):
		t.Fatal("the command outlives its stream")
	}
}

func TestExecCanceledWithStream(t *testing.T) {
	canceled := make(chan error, 1)
	started := make(chan struct{})
	e := startEdge(t, kubeletapi.Config{Runtime: kubeletapitest.Runtime{Override: func(ctx context.Context, _ cri.ExecOptions) (int, error) {
		close(started)
		<-ctx.Done()
		canceled <- ctx.Err()
		return 0, ctx.Err()
	}}})
	c := e.command(t, request("sleep"))
	<-started
	_ = c.conn.Close()
	<-canceled
}

func TestExecBound(t *testing.T) {
	e := startEdge(t, kubeletapi.Config{MaxCommands: 1})
	first := e.command(t, request("cat"), &wire.Data{Bytes: []byte("x")})
	if _, err := first.frames.Next(); err != nil {
		t.Fatal(err)
	}
	_, _, last := e.command(t, request("true")).result()
	if f, ok := last.(*wire.Error); !ok || f.Code != wire.CodeTooMany {
		t.Errorf("got %#v, want too many", last)
	}
	first.send(&wire.CloseInput{})
	if _, _, last := first.result(); last == nil {
		t.Error("the first command has no end")
	}
}

func TestExecShutdown(t *testing.T) {
	s, err := kubeletapi.New(kubeletapi.Config{Pods: oneRunning(), Runtime: kubeletapitest.Runtime{}})
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{exec: listen(t)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.ServeExec(ctx, e.exec) }()
	c := e.command(t, request("cat"), &wire.Data{Bytes: []byte("x")})
	if _, err := c.frames.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, _, last := c.result()
	if d := cmp.Diff(wire.Frame(&wire.Error{Code: wire.CodeGoingAway, Text: "the edge agent is shutting down"}), last); d != "" {
		t.Error(d)
	}
	_ = c.conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func oneRunning() *kubeletapitest.Pods {
	pods := &kubeletapitest.Pods{}
	pods.Set(pod(kubeletapi.Attempt{ID: "id1"}))
	return pods
}

// TestExecOutputOrder writes on both outputs by turns, in pieces larger than a frame.
func TestExecOutputOrder(t *testing.T) {
	e := startEdge(t, kubeletapi.Config{Runtime: kubeletapitest.Runtime{Override: func(_ context.Context, o cri.ExecOptions) (int, error) {
		for i := range byte(20) {
			for _, w := range []io.Writer{o.Stdout, o.Stderr} {
				if _, err := w.Write(bytes.Repeat([]byte{i}, 100_000)); err != nil {
					return 0, err
				}
			}
		}
		return 0, nil
	}}})
	c := e.command(t, request("x"))
	var got []byte
	for {
		f, err := c.frames.Next()
		if err != nil {
			break
		}
		if d, ok := f.(*wire.Data); ok {
			if len(d.Bytes) > wire.MaxData {
				t.Fatalf("frame of %d bytes", len(d.Bytes))
			}
			got = append(append(got, d.Bytes...), byte(d.Channel))
		}
	}
	var want []byte
	for i := range byte(20) {
		for _, ch := range []byte{1, 2} {
			for rest := 100_000; rest > 0; rest -= wire.MaxData {
				want = append(append(want, bytes.Repeat([]byte{i}, min(rest, wire.MaxData))...), ch)
			}
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("the order of the output changed")
	}
}

// FuzzExec feeds a stream with anything: it must end, and answer with whole frames.
func FuzzExec(f *testing.F) {
	seed := wire.Append(nil, request("true"))
	f.Add(seed)
	f.Add(wire.Append(wire.Append(seed, &wire.Data{Bytes: []byte("x")}), &wire.CloseInput{}))
	f.Add(seed[:5])
	f.Add(wire.Append(nil, &wire.Resize{}))
	s, err := kubeletapi.New(kubeletapi.Config{Pods: oneRunning(), Runtime: kubeletapitest.Runtime{Override: func(_ context.Context, o cri.ExecOptions) (int, error) {
		if o.Stdin != nil {
			_, _ = io.Copy(io.Discard, o.Stdin)
		}
		return 3, nil
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ln := &onePipe{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		here, there := net.Pipe()
		ln.conns <- there
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.ServeExec(ctx, ln) }()
		go func() {
			_, _ = here.Write(b)
			_ = here.Close()
		}()
		r := wire.NewReader(bufio.NewReader(here), 64<<10)
		for {
			if _, err := r.Next(); err != nil {
				if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLarge) {
					t.Error(err)
				}
				break
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// onePipe is a listener of the connections put into it.
type onePipe struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *onePipe) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *onePipe) Close() error   { close(l.closed); return nil }
func (l *onePipe) Addr() net.Addr { return &net.UnixAddr{} }
