package kubeletapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// forwarded is one connection to a port of a pod, in virtual time: over a real
// tunnel on one side, to a pod that is a pipe on the other.
type forwarded struct {
	t      *testing.T
	client *tunnel.Stream
	pod    net.Conn
	served chan struct{} // closed when the edge is done with it
}

func newForwarded(t *testing.T, target func(net.Conn) net.Conn) *forwarded {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	pods := &kubeletapitest.Pods{}
	p := pod(kubeletapi.Attempt{ID: "id1"})
	p.SandboxID = "s"
	pods.Set(p)
	s, err := kubeletapi.New(kubeletapi.Config{Pods: pods, Runtime: kubeletapitest.Runtime{
		OnDial: func(context.Context, uint16) (net.Conn, error) { return target(near), nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: 50 * time.Millisecond}).Pair("n1")
	f := &forwarded{t: t, pod: far, served: make(chan struct{})}
	go func() {
		defer close(f.served)
		if st, err := edge.Accept(t.Context()); err == nil {
			s.ServeConnection(t.Context(), st)
		}
	}()
	if f.client, err = cloud.Open(t.Context(), wire.KindForward); err != nil {
		t.Fatal(err)
	}
	f.send(&wire.ForwardRequest{Namespace: "default", Pod: "p", UID: "u", Port: 80})
	return f
}

func (f *forwarded) send(frames ...wire.Frame) {
	f.t.Helper()
	for _, frame := range frames {
		if err := wire.Write(f.client, frame); err != nil {
			f.t.Fatal(err)
		}
	}
}

// hear collects what the client is told until the end, and how many empty frames
// were among it.
func (f *forwarded) hear() <-chan heard {
	out := make(chan heard, 1)
	go func() {
		var h heard
		frames := wire.NewReader(bufio.NewReader(f.client), 64<<10)
		for {
			frame, err := frames.Next()
			if err != nil {
				h.err = err
				out <- h
				return
			}
			d, ok := frame.(*wire.Data)
			switch {
			case !ok:
				h.last = frame
			case len(d.Bytes) == 0:
				h.empty++
			default:
				h.data = append(h.data, d.Bytes...)
			}
		}
	}()
	return out
}

type heard struct {
	data  []byte
	empty int
	last  wire.Frame
	err   error
}

// endsWithin fails when the edge still holds the connection after a time.
func (f *forwarded) endsWithin(d time.Duration) {
	f.t.Helper()
	select {
	case <-f.served:
	case <-time.After(d):
		f.t.Fatalf("the edge holds the connection %v later", d)
	}
}

func asIs(c net.Conn) net.Conn { return c }

// TestForwardClientGone: the pod is silent, so nothing but a write of the edge's own
// shows that the client has gone.
func TestForwardClientGone(t *testing.T) {
	for _, tt := range []struct {
		name string
		goes func(*tunnel.Stream)
	}{
		{"resets", func(st *tunnel.Stream) { st.Reset(wire.CodeCanceled) }},
		{"closes", func(st *tunnel.Stream) { _ = st.Close() }},
	} {
		t.Run("after its end, "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newForwarded(t, asIs)
				f.send(&wire.Data{Bytes: []byte("hello")})
				if _, err := io.ReadFull(f.pod, make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
				if err := f.client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				tunneltest.Pass(time.Hour)
				tt.goes(f.client)
				f.endsWithin(time.Minute)
			})
		})
		t.Run("while the pod does not read, "+tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newForwarded(t, asIs)
				f.send(&wire.Data{Bytes: []byte("hello")})
				tunneltest.Pass(time.Hour)
				tt.goes(f.client)
				f.endsWithin(time.Minute)
			})
		})
	}
}

// TestForwardWaits: a client that is there loses nothing by the edge's asking,
// however long the pod takes.
func TestForwardWaits(t *testing.T) {
	t.Run("for an answer after its end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newForwarded(t, asIs)
			got := f.hear()
			if err := f.client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			tunneltest.Pass(time.Hour)
			_, _ = io.WriteString(f.pod, "at last")
			_ = f.pod.Close()
			h := <-got
			if string(h.data) != "at last" || h.last != nil || !errors.Is(h.err, io.EOF) {
				t.Errorf("got %q, %v, %v", h.data, h.last, h.err)
			}
			if h.empty < 60 || h.empty > 120 {
				t.Errorf("asked %d times in an hour", h.empty)
			}
			f.endsWithin(time.Minute)
		})
	})
	t.Run("until the pod reads", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newForwarded(t, asIs)
			got := f.hear()
			say := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
			f.send(&wire.Data{Bytes: say[:9]}, &wire.Data{Bytes: say[9:]})
			if err := f.client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			read := make([]byte, 0, len(say))
			for len(read) < cap(read) {
				tunneltest.Pass(20 * time.Minute)
				n, err := f.pod.Read(read[len(read):min(cap(read), len(read)+5000)])
				if err != nil {
					t.Fatal(err)
				}
				read = read[:len(read)+n]
				_, _ = io.WriteString(f.pod, ".")
			}
			if !bytes.Equal(read, say) {
				t.Error("the pod has read something else")
			}
			_ = f.pod.Close()
			if h := <-got; string(h.data) != "....." || h.last != nil || !errors.Is(h.err, io.EOF) {
				t.Errorf("got %q, %v, %v", h.data, h.last, h.err)
			}
			f.endsWithin(time.Minute)
		})
	})
}

// TestForwardDeafClient: what is asked of a client that does not read must
// not keep its own bytes from the pod.
func TestForwardDeafClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForwarded(t, asIs)
		flood := make(chan struct{})
		go func() {
			defer close(flood)
			for b := make([]byte, 32<<10); ; {
				if _, err := f.pod.Write(b); err != nil {
					return
				}
			}
		}()
		f.send(&wire.Data{Bytes: []byte("hello")})
		tunneltest.Pass(time.Hour)
		got := make([]byte, 5)
		if _, err := io.ReadFull(f.pod, got); err != nil || string(got) != "hello" {
			t.Errorf("the pod reads %q, %v", got, err)
		}
		f.client.Reset(wire.CodeCanceled)
		f.endsWithin(time.Minute)
		<-flood
	})
}

// TestForwardIdle: a connection on which nobody speaks costs no byte.
func TestForwardIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForwarded(t, asIs)
		got := f.hear()
		f.send(&wire.Data{Bytes: []byte("hello")})
		if _, err := io.ReadFull(f.pod, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		tunneltest.Pass(time.Hour)
		_ = f.pod.Close()
		if h := <-got; h.empty > 0 || !errors.Is(h.err, io.EOF) {
			t.Errorf("asked %d times in an hour; %v", h.empty, h.err)
		}
		_ = f.client.Close()
		f.endsWithin(time.Minute)
	})
}

// mute is a pod that has ended its output.
type mute struct{ net.Conn }

func (mute) Read([]byte) (int, error) { return 0, io.EOF }

// TestForwardMutePod: to a client of a pod that has ended its output nothing can be
// written any more; whether it has gone can't be seen while the pod reads nothing.
func TestForwardMutePod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForwarded(t, func(c net.Conn) net.Conn { return mute{c} })
		say := []byte("hello, are you there?")
		f.send(&wire.Data{Bytes: say})
		for _, b := range say[:4] { // slow, but it reads
			tunneltest.Pass(3 * time.Minute)
			got := make([]byte, 1)
			if _, err := f.pod.Read(got); err != nil || got[0] != b {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		f.client.Reset(wire.CodeCanceled)
		f.endsWithin(10 * time.Minute)
	})
}
