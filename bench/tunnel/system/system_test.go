package system_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/bench/tunnel/system"
)

const patience = 20 * time.Second

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func newIssuer(t *testing.T) *system.Issuer {
	t.Helper()
	a, err := system.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	i, err := a.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestSystems does with each what the bench does, over loopback.
func TestSystems(t *testing.T) {
	for _, sys := range system.All() {
		t.Run(sys.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			i := newIssuer(t)
			serverTLS, err := i.Server()
			if err != nil {
				t.Fatal(err)
			}
			clientTLS, err := i.Client("edge-1", tls.NewLRUClientSessionCache(0))
			if err != nil {
				t.Fatal(err)
			}
			var services system.Services
			address := freeAddress(t)
			server, err := sys.Listen(ctx, system.Listen{Address: address, TLS: serverTLS, Handle: services.Handle})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second one has something to resume
				s, err := sys.Dial(ctx, system.Dial{Address: address, TLS: clientTLS})
				if err != nil {
					t.Fatal(err)
				}
				use(t, s, &services)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				waitFor(t, s.Done(), "end of a closed session")
			}
			s, err := sys.Dial(ctx, system.Dial{Address: address, TLS: clientTLS})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func waitFor(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Errorf("no %s", what)
	}
}

func open(t *testing.T, s system.Session, class system.Class, service byte) net.Conn {
	t.Helper()
	c, err := s.Open(t.Context(), class)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write([]byte{service}); err != nil {
		t.Fatal(err)
	}
	return c
}

// use moves bytes both ways beside each other.
func use(t *testing.T, s system.Session, services *system.Services) {
	t.Helper()
	echo := open(t, s, system.Interactive, system.Echo)
	source := open(t, s, system.Bulk, system.Source)
	sink := open(t, s, system.Bulk, system.Sink)
	block := bytes.Repeat([]byte("skerry"), 20_000)
	before := services.Received.Load()
	go sink.Write(block)
	var drained atomic.Int64
	go system.Drain(source, &drained)
	for i := range 3 {
		want := bytes.Repeat([]byte{byte(i)}, 5000) // more than one message of the mux
		go echo.Write(want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(echo, got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("echo (-want +got):\n%s", diff)
		}
	}
	deadline := time.Now().Add(patience)
	for services.Received.Load()-before < int64(len(block)) || drained.Load() < 1<<20 {
		if time.Now().After(deadline) {
			t.Fatalf("sink took %d of %d, source gave %d", services.Received.Load()-before, len(block), drained.Load())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestStranger wants mutual TLS from all of them.
func TestStranger(t *testing.T) {
	for _, sys := range system.All() {
		t.Run(sys.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			serverTLS, err := newIssuer(t).Server()
			if err != nil {
				t.Fatal(err)
			}
			clientTLS, err := newIssuer(t).Client("edge-1", nil)
			if err != nil {
				t.Fatal(err)
			}
			clientTLS.InsecureSkipVerify, clientTLS.VerifyConnection = true, nil
			var services system.Services
			address := freeAddress(t)
			server, err := sys.Listen(ctx, system.Listen{Address: address, TLS: serverTLS, Handle: services.Handle})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			s, err := sys.Dial(ctx, system.Dial{Address: address, TLS: clientTLS})
			if err != nil {
				return // refused
			}
			defer s.Close()
			// To a client of TLS 1.3 a refusal may show only later.
			c, err := s.Open(ctx, system.Interactive)
			if err != nil {
				return
			}
			if _, err := c.Write([]byte{system.Echo, 'x'}); err != nil {
				return
			}
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("a stranger got %d bytes", n)
			}
		})
	}
}

// scripted is a session that lives for a time.
type scripted struct{ done chan struct{} }

func (s scripted) Open(context.Context, system.Class) (net.Conn, error) {
	c, far := net.Pipe()
	return c, far.Close()
}
func (s scripted) Done() <-chan struct{} { return s.done }
func (s scripted) Close() error          { return nil }

func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var dials []time.Duration
		var numbers []int
		lives := []time.Duration{0, 0, time.Second, 0, 15 * time.Second, 0, time.Hour} // 0: the dial fails
		k := &system.Keeper{System: system.System{
			Dial: func(context.Context, system.Dial) (system.Session, error) {
				life := lives[len(dials)]
				dials = append(dials, time.Since(begin))
				if life == 0 {
					return nil, io.ErrUnexpectedEOF
				}
				s := scripted{make(chan struct{})}
				time.AfterFunc(life, func() { close(s.done) })
				return s, nil
			},
			Backoff: func(n int, _ time.Duration) time.Duration {
				numbers = append(numbers, n)
				return time.Duration(n) * 100 * time.Millisecond
			},
		}}
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		c, err := k.Open(ctx, system.Interactive)
		if err != nil || time.Since(begin) != 300*time.Millisecond {
			t.Errorf("the first stream is there after %v, %v", time.Since(begin), err)
		}
		c.Close()
		<-time.After(time.Minute)
		cancel()
		<-ended
		ms := time.Millisecond
		if diff := cmp.Diff([]time.Duration{0, 100 * ms, 300 * ms, 1600 * ms, 2000 * ms, 17100 * ms, 17300 * ms}, dials); diff != "" {
			t.Errorf("dials (-want +got):\n%s", diff)
		}
		// What has lived long enough begins anew.
		if diff := cmp.Diff([]int{1, 2, 3, 4, 1, 2, 1}, numbers); diff != "" {
			t.Errorf("numbers (-want +got):\n%s", diff)
		}
		if k.Dials() != 3 {
			t.Errorf("%d sessions, want 3", k.Dials())
		}
		if _, err := k.Open(ctx, system.Interactive); err == nil {
			t.Error("a stream without a session")
		}
	})
}

func TestBackoff(t *testing.T) {
	for _, sys := range system.All() {
		for n := 1; n < 40; n++ {
			if wait := sys.Backoff(n, 500*time.Millisecond); wait < 150*time.Millisecond || wait > 2500*time.Millisecond {
				t.Errorf("%s: pause %d is %v", sys.Name, n, wait)
			}
		}
	}
	kubeEdge, err := system.Find("websocket")
	if err != nil {
		t.Fatal(err)
	}
	if got := kubeEdge.Backoff(3, time.Minute); got != 0 {
		t.Errorf("after a long session the tick has passed, but the pause is %v", got)
	}
	if _, err := system.Find("carrier-pigeon"); err == nil {
		t.Error("found a system that there is not")
	}
}
