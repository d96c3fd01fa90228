package kubelet

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	"github.com/skerry-io/skerry/cloudproxy/kubeletfront"
	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// protocols are the ways in which callers run commands.
func protocols() []string {
	return []string{"spdy", "v5.channel.k8s.io", "v4.channel.k8s.io"}
}

// call runs a command through the front and reports what came back.
func (w *world) call(ctx context.Context, protocol string, o remotecommand.StreamOptions, command ...string) error {
	w.t.Helper()
	return w.callAt(ctx, protocol, "/exec/default/p/c", o, command...)
}

func (w *world) callAt(ctx context.Context, protocol, path string, o remotecommand.StreamOptions, command ...string) error {
	w.t.Helper()
	u, err := url.Parse(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	q := url.Values{"command": command}
	for name, set := range map[string]bool{"input": o.Stdin != nil, "output": o.Stdout != nil, "error": o.Stderr != nil, "tty": o.Tty} {
		if set {
			q.Set(name, "1")
		}
	}
	u.RawQuery = q.Encode()
	var ex remotecommand.Executor
	if protocol == "spdy" {
		ex, err = remotecommand.NewSPDYExecutor(w.config("kube-apiserver"), http.MethodPost, u)
	} else {
		ex, err = remotecommand.NewWebSocketExecutorForProtocols(w.config("kube-apiserver"), http.MethodGet, u.String(), protocol)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return ex.StreamWithContext(ctx, o)
}

func TestExec(t *testing.T) {
	w := start(t, settings{})
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			var out, errOut bytes.Buffer
			if err := w.call(t.Context(), protocol, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}, "sh", "-c", "echo a; echo b >&2"); err != nil {
				t.Fatal(err)
			}
			if out.String() != "a\n" || errOut.String() != "b\n" {
				t.Errorf("got %q and %q", out.String(), errOut.String())
			}
			err := w.call(t.Context(), protocol, remotecommand.StreamOptions{Stdout: &out}, "sh", "-c", "exit 42")
			var exit utilexec.CodeExitError
			if !errors.As(err, &exit) || exit.Code != 42 {
				t.Errorf("exit 42: got %v", err)
			}
			err = w.call(t.Context(), protocol, remotecommand.StreamOptions{Stdout: &out}, "/no/such/command")
			if err == nil || !strings.Contains(err.Error(), "no such file") {
				t.Errorf("no such command: got %v", err)
			}
		})
	}
	if !strings.Contains(w.log.String(), `msg="stream ended" kind=exec user=kube-apiserver node=n1 namespace=default pod=p container=c command="[sh -c exit 42]" bytes_in=0 bytes_out=0`) ||
		!strings.Contains(w.log.String(), `ended="exit 42"`) {
		t.Errorf("the log misses the command:\n%s", w.log)
	}
}

// TestExecEcho sends 10 MB through a command and back. The protocol v4 can't end
// the input, so there the command counts.
func TestExecEcho(t *testing.T) {
	w := start(t, settings{})
	data := make([]byte, 10<<20)
	_, _ = rand.Read(data)
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			command := []string{"cat"}
			if strings.HasPrefix(protocol, "v4") {
				command = []string{"head", "-c", "10485760"}
			}
			var out bytes.Buffer
			if err := w.call(t.Context(), protocol, remotecommand.StreamOptions{Stdin: bytes.NewReader(data), Stdout: &out}, command...); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), data) {
				t.Errorf("%d bytes came back of %d", out.Len(), len(data))
			}
		})
	}
}

// sizes is a queue of terminal sizes that blocks at its end.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

func TestExecResize(t *testing.T) {
	w := start(t, settings{runtime: kubeletapitest.Runtime{Override: func(_ context.Context, o cri.ExecOptions) (int, error) {
		for i := uint16(1); i <= 5; i++ {
			if s := <-o.Resize; !o.TTY || o.Stderr != nil || s != (cri.Size{Width: 80 + i, Height: i}) {
				return int(s.Height), nil
			}
			_, _ = o.Stdout.Write([]byte{byte(i)})
		}
		return 0, nil
	}}})
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			q := make(sizes, 5)
			for i := uint16(1); i <= 5; i++ {
				q <- remotecommand.TerminalSize{Width: 80 + i, Height: i}
			}
			defer close(q)
			var out bytes.Buffer
			if err := w.call(t.Context(), protocol, remotecommand.StreamOptions{Stdin: new(blocked(t)), Stdout: &out, Tty: true, TerminalSizeQueue: q}, "sh"); err != nil {
				t.Fatal(err)
			}
			if out.String() != "\x01\x02\x03\x04\x05" {
				t.Errorf("got %q", out.String())
			}
		})
	}
}

// reader is an input that says nothing until the test ends.
type reader struct{ done <-chan struct{} }

func blocked(t *testing.T) reader {
	t.Helper()
	return reader{t.Context().Done()}
}

func (r *reader) Read([]byte) (int, error) {
	<-r.done
	return 0, io.EOF
}

// started is a command that says so, and then waits for its end.
func started(canceled chan<- error) kubeletapi.Runtime {
	return kubeletapitest.Runtime{Override: func(ctx context.Context, o cri.ExecOptions) (int, error) {
		_, _ = io.WriteString(o.Stdout, "started")
		<-ctx.Done()
		canceled <- context.Cause(ctx)
		return 0, ctx.Err()
	}}
}

// signal is a writer that tells of its first byte.
type signal chan struct{}

func (s signal) Write(b []byte) (int, error) {
	if len(b) > 0 {
		close(s)
	}
	return len(b), nil
}

// await waits for the first byte of a call that ends with done.
func await(t *testing.T, on signal, done <-chan error) {
	t.Helper()
	select {
	case <-on:
	case err := <-done:
		t.Fatalf("ended before its first byte: %v", err)
	}
}

// TestExecCallerGone cuts the caller off while the command neither reads nor writes.
func TestExecCallerGone(t *testing.T) {
	canceled := make(chan error, 1)
	w := start(t, settings{runtime: started(canceled)})
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			on := make(signal)
			done := make(chan error, 1)
			go func() { done <- w.call(ctx, protocol, remotecommand.StreamOptions{Stdout: on}, "sleep") }()
			await(t, on, done)
			cancel()
			<-done
			select {
			case <-canceled:
			case <-time.After(20 * time.Second):
				t.Fatal("the command outlives its caller")
			}
		})
	}
	w.stop()
	if n := strings.Count(w.log.String(), `ended="the caller went away"`); n != len(protocols()) {
		t.Errorf("%d of %d lines about callers that went away:\n%s", n, len(protocols()), w.log)
	}
}

func TestExecEdgeGone(t *testing.T) {
	canceled := make(chan error, 10)
	w := start(t, settings{runtime: started(canceled)})
	for _, protocol := range protocols() {
		t.Run(protocol, func(t *testing.T) {
			on := make(signal)
			done := make(chan error, 1)
			go func() {
				done <- w.call(t.Context(), protocol, remotecommand.StreamOptions{Stdin: new(blocked(t)), Stdout: on}, "sleep")
			}()
			await(t, on, done)
			_ = w.edges.last().Conn.Close()
			if err := <-done; err == nil || !strings.Contains(err.Error(), "stream to edge n1 was lost") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestExecDrain ends the proxy while a command runs.
func TestExecDrain(t *testing.T) {
	canceled := make(chan error, 1)
	w := start(t, settings{runtime: started(canceled)})
	on := make(signal)
	done := make(chan error, 1)
	go func() { done <- w.call(t.Context(), "spdy", remotecommand.StreamOptions{Stdout: on}, "sleep") }()
	await(t, on, done)
	w.stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the proxy is shutting down") {
		t.Errorf("got %v", err)
	}
	<-canceled
}

// TestDrain lets a command run on while others are refused.
func TestDrain(t *testing.T) {
	w := start(t, settings{})
	stdin, typist := io.Pipe()
	on := make(signal)
	done := make(chan error, 1)
	go func() {
		done <- w.call(t.Context(), "spdy", remotecommand.StreamOptions{Stdin: stdin, Stdout: on}, "cat")
	}()
	_, _ = io.WriteString(typist, "x")
	await(t, on, done)

	pool := x509.NewCertPool()
	pool.AddCert(w.ca.cert)
	dials := 0
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{w.ca.issue("kube-apiserver", false)}},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	defer tr.CloseIdleConnections()
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusServiceUnavailable, http.StatusServiceUnavailable} {
		if i == 2 {
			w.drain()
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.ProtoMajor != 2 || resp.StatusCode != want {
			t.Errorf("request %d: %s %s, %v; want %d", i, resp.Proto, resp.Status, err, want)
		}
		if i >= 2 && !strings.Contains(string(body), "the proxy is shutting down: try again") {
			t.Errorf("request %d: %s", i, body)
		}
	}
	// The connection that is there ends with the first refusal: by another one a
	// caller may reach another replica.
	if dials != 2 {
		t.Errorf("%d connections, want 2", dials)
	}
	_ = typist.Close()
	if err := <-done; err != nil {
		t.Errorf("the command ended with %v", err)
	}
}

// TestExecRefused are answers before the upgrade, and those of the edge after it.
func TestExecRefused(t *testing.T) {
	w := start(t, settings{front: kubeletfront.Config{MaxStreamsPerEdge: 1}})
	w.addPod(newPod("off", "u2", "n2"))
	gone := newPod("gone", "u3", "n1")
	w.addPod(gone)
	w.edgePods.Set(kubeletapi.Pod{Namespace: "default", Name: "gone", UID: "before"})
	var out bytes.Buffer
	o := remotecommand.StreamOptions{Stdout: &out}
	tests := []struct {
		path, want string
	}{
		{"/exec/default/off/c", "edge n2 is offline since 2026-01-02T03:04:05Z"},
		{"/exec/default/none/c", `pod "none" not found`},
		{"/exec/default/p/x", "container x is not valid for pod p"},
		{"/exec/default/p/other-uid/c", `pod "p" not found`},
		{"/exec/default/gone/c", `error executing command in container: pod "gone" not found`},
	}
	for _, protocol := range protocols()[:2] {
		for _, tt := range tests {
			if protocol != "spdy" && !strings.Contains(tt.want, "error executing") {
				continue // a WebSocket client does not show what a failed handshake says
			}
			err := w.callAt(t.Context(), protocol, tt.path, o, "true")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s %s: got %v, want %s", protocol, tt.path, err, tt.want)
			}
		}
	}
	if err := w.callAt(t.Context(), "spdy", "/exec/default/p/u/c", o, "true"); err != nil {
		t.Errorf("with the pod's UID: %v", err)
	}

	// One stream is the most here.
	stdin, typist := io.Pipe()
	on := make(signal)
	done := make(chan error, 1)
	go func() {
		done <- w.call(t.Context(), "spdy", remotecommand.StreamOptions{Stdin: stdin, Stdout: on}, "cat")
	}()
	_, _ = typist.Write([]byte("x"))
	await(t, on, done)
	if err := w.call(t.Context(), "spdy", o, "true"); err == nil || !strings.Contains(err.Error(), "1 streams to edge n1 are open") {
		t.Errorf("beyond the bound: got %v", err)
	}
	_ = typist.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if status, body := w.get("/exec/default/p/c?command=true&output=1", ""); status != 400 || body != "Upgrade request required" {
		t.Errorf("without upgrade: got %d %q", status, body)
	}
}

// TestExecEdgeBreaksProtocol is an edge that answers with frames that make no sense.
func TestExecEdgeBreaksProtocol(t *testing.T) {
	w := start(t, settings{})
	var out bytes.Buffer
	for _, b := range [][]byte{{1, 2, 3}, wire.Append(nil, &wire.Synced{}), nil} {
		w.rawEdge("n1", b)
		if err := w.call(t.Context(), "spdy", remotecommand.StreamOptions{Stdout: &out}, "true"); err == nil || !strings.Contains(err.Error(), "edge n1") {
			t.Errorf("%x: got %v", b, err)
		}
	}
}
