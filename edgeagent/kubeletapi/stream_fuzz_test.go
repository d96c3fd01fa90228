package kubeletapi_test

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// quiet is a runtime that runs nothing.
func quiet() kubeletapitest.Runtime {
	return kubeletapitest.Runtime{
		Override: func(_ context.Context, o cri.ExecOptions) (int, error) {
			if o.Stdin != nil {
				_, _ = io.Copy(io.Discard, o.Stdin)
			}
			return 0, nil
		},
		OnAttach: func(context.Context, cri.AttachOptions) error { return nil },
		OnDial: func(context.Context, uint16) (net.Conn, error) {
			a, b := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, b); _ = b.Close() }()
			return a, nil
		},
	}
}

func newQuiet(tb testing.TB) *kubeletapi.Server {
	tb.Helper()
	pods := &kubeletapitest.Pods{}
	p := pod(kubeletapi.Attempt{ID: "id1"})
	p.SandboxID = "s"
	pods.Set(p)
	s, err := kubeletapi.New(kubeletapi.Config{Pods: pods, Runtime: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// one gives a server bytes, and the end, and waits until it is done with them.
func one(t *testing.T, serve func(context.Context, net.Conn), b []byte) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(t.Context(), there)
	}()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = io.Copy(io.Discard, here)
	}()
	_ = here.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, _ = here.Write(b)
	_ = here.Close()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%x: the stream does not end", b)
	}
	<-answered
}

// FuzzStreams: whatever comes on a stream, it ends when the stream does.
func FuzzStreams(f *testing.F) {
	s := newQuiet(f)
	add := func(frames ...wire.Frame) {
		var b []byte
		for _, frame := range frames {
			b = wire.Append(b, frame)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	add(request("true"), &wire.Data{Bytes: []byte("in")}, &wire.Resize{Width: 1 << 40}, &wire.CloseInput{}, &wire.Data{Bytes: []byte("late")})
	add(&wire.ExecRequest{Namespace: "default", Pod: "p", UID: "u", Container: "c", Attach: true, TTY: true}, &wire.Exit{})
	add(&wire.ForwardRequest{Namespace: "default", Pod: "p", UID: "u", Port: 80}, &wire.Data{Bytes: []byte("in")}, &wire.Synced{})
	add(&wire.ForwardRequest{Namespace: "default", Pod: "p", UID: "u", Port: 1 << 40})
	add(&wire.Error{Text: "no"})
	f.Add([]byte{0x20, 0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, b []byte, forward bool) {
		// A client that only ends its direction is sounded out after a while.
		synctest.Test(t, func(t *testing.T) {
			if forward {
				one(t, s.ServeConnection, b)
			} else {
				one(t, s.ServeCommand, b)
			}
		})
	})
}
