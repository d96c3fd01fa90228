package registry_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/registry"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	rtt = 100 * time.Millisecond
	// grace is how long sessions wait for a new link.
	grace = 5 * time.Minute
)

type fixture struct {
	*registry.Registry
	net     *tunneltest.Net
	metrics *prometheus.Registry
}

// start runs a registry to the end of the test; setup may be nil.
func start(t *testing.T, setup func(*registry.Registry)) *fixture {
	t.Helper()
	return startWith(t, registry.Config{}, setup)
}

// startWith is start with more of a configuration.
func startWith(t *testing.T, cfg registry.Config, setup func(*registry.Registry)) *fixture {
	t.Helper()
	f := &fixture{metrics: prometheus.NewRegistry(), net: tunneltest.New(t, tunneltest.Options{
		RTT: rtt, Listen: func(c *tunnel.ListenConfig) { c.Grace = grace },
	})}
	cfg.Listener, cfg.Registerer = f.net.Listener(), f.metrics
	var err error
	f.Registry, err = registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if setup != nil {
		setup(f.Registry)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want canceled", err)
		}
	})
	return f
}

// dial connects an edge and waits until the registry has seen it.
func (f *fixture) dial(t *testing.T, node string, incarnation byte, seq uint64) *tunnel.Session {
	t.Helper()
	s, err := f.tryDial(t, node, incarnation, seq)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *fixture) tryDial(t *testing.T, node string, incarnation byte, seq uint64) (*tunnel.Session, error) {
	t.Helper()
	cfg := f.net.Config(node, seq)
	cfg.Hello.Incarnation[0] = incarnation
	cfg.Grace = grace
	s, err := tunnel.Dial(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { s.Close(wire.CodeOK, "end of test") })
	}
	synctest.Wait()
	return s, err
}

func (f *fixture) names() []string {
	names := []string{}
	for _, i := range f.Sessions() {
		names = append(names, i.Node)
	}
	return names
}

func TestDialEdgeReachesTheEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		one, two := f.dial(t, "edge-1", 1, 1), f.dial(t, "edge-2", 2, 1)
		if diff := cmp.Diff([]string{"edge-1", "edge-2"}, f.names()); diff != "" {
			t.Errorf("sessions (-want +got):\n%s", diff)
		}
		for node, edge := range map[string]*tunnel.Session{"edge-1": one, "edge-2": two} {
			c, err := f.DialEdge(t.Context(), node, wire.KindExec)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, node)
			c.Close()
			st, err := edge.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(st); string(got) != node || err != nil {
				t.Errorf("%s read %q, %v", node, got, err)
			}
			st.Close()
		}
	})
}

func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		wantOffline := func(since time.Time) {
			t.Helper()
			_, err := f.DialEdge(t.Context(), "edge-1", wire.KindExec)
			var offline *registry.OfflineError
			if !errors.As(err, &offline) || offline.Node != "edge-1" || !offline.Since.Equal(since) {
				t.Errorf("got %v, want offline since %v", err, since)
			}
		}
		wantOffline(time.Time{})
		s := f.dial(t, "edge-1", 1, 1)
		changed := f.Changed()
		s.Close(wire.CodeGoingAway, "the agent stops")
		<-changed
		left := time.Now()
		if len(f.names()) != 0 {
			t.Errorf("sessions: %v, want none", f.names())
		}
		tunneltest.Pass(time.Hour)
		wantOffline(left)
	})
}

func TestNewestSessionWins(t *testing.T) {
	type session struct {
		incarnation byte
		seq         uint64
	}
	tests := []struct {
		name          string
		first, second session
		want          string // which one lives
	}{
		{"later dial of one start", session{1, 1}, session{1, 2}, "second"},
		{"earlier dial that arrives late", session{1, 2}, session{1, 1}, "first"},
		{"agent started again", session{1, 9}, session{2, 1}, "second"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, nil)
				first := f.dial(t, "edge-1", tt.first.incarnation, tt.first.seq)
				changed := f.Changed()
				begin := time.Now()
				second, err := f.tryDial(t, "edge-1", tt.second.incarnation, tt.second.seq)
				lives := first
				if tt.want == "second" {
					if err != nil {
						t.Fatal(err)
					}
					lives = second
					select {
					case <-changed:
					default:
						t.Error("Changed does not show the new session")
					}
					err = ended(first)
				} else if err == nil { // refused after Welcome
					err = ended(second)
				}
				var serr *tunnel.SessionError
				if !errors.As(err, &serr) || serr.Code != wire.CodeReplaced || !serr.Remote {
					t.Errorf("ended with %v, want code %d", err, wire.CodeReplaced)
				}
				// Two round trips until the new one's Welcome, and the word to the old one
				// travels beside it.
				if got := time.Since(begin); got != 2*rtt {
					t.Errorf("decided after %v, want %v", got, 2*rtt)
				}
				synctest.Wait()
				if lives.Err() != nil {
					t.Errorf("the newer session ended: %v", lives.Err())
				}
				c, err := f.DialEdge(t.Context(), "edge-1", wire.KindExec)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := lives.Accept(t.Context()); err != nil {
					t.Error(err)
				}
				c.Close()
				if diff := cmp.Diff([]string{"edge-1"}, f.names()); diff != "" {
					t.Errorf("sessions (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// ended gives a session's error, nil when it lives on. A live one keeps virtual
// time going for ever, so the wait needs a bound.
func ended(s *tunnel.Session) error {
	select {
	case <-s.Done():
	case <-time.After(time.Minute):
	}
	return s.Err()
}

func TestHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, func(r *registry.Registry) {
			r.Handle(wire.KindReport, func(_ context.Context, node string, c net.Conn) error {
				b, err := io.ReadAll(c)
				if err != nil {
					return err
				}
				switch string(b) {
				case "fail":
					return errors.New("some fault")
				case "code":
					return &registry.CodeError{Code: wire.CodeNotFound, Err: errors.New("some key")}
				}
				_, err = io.WriteString(c, node+": "+string(b))
				return err
			})
		})
		s := f.dial(t, "edge-1", 1, 1)
		tests := []struct {
			kind wire.Kind
			send string
			want string
			code wire.Code
		}{
			{wire.KindReport, "hello", "edge-1: hello", wire.CodeOK},
			{wire.KindReport, "fail", "", wire.CodeInternal},
			{wire.KindReport, "code", "", wire.CodeNotFound},
			{4711, "hello", "", wire.CodeUnsupported},
		}
		for _, tt := range tests {
			st, err := s.Open(t.Context(), tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(st, tt.send)
			st.CloseWrite()
			got, err := io.ReadAll(st)
			if string(got) != tt.want {
				t.Errorf("%v %q: got %q, want %q", tt.kind, tt.send, got, tt.want)
			}
			var serr *tunnel.StreamError
			switch {
			case tt.code == wire.CodeOK && err != nil:
				t.Errorf("%v %q: %v", tt.kind, tt.send, err)
			case tt.code != wire.CodeOK && (!errors.As(err, &serr) || serr.Code != tt.code):
				t.Errorf("%v %q: %v, want code %d", tt.kind, tt.send, err, tt.code)
			}
			st.Close()
		}
	})
}

func TestHandlersAreBoundedAndEndWithTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int32
		f := start(t, func(r *registry.Registry) {
			r.Handle(wire.KindReport, func(ctx context.Context, _ string, _ net.Conn) error {
				running.Add(1)
				<-ctx.Done()
				running.Add(-1)
				return ctx.Err()
			})
		})
		s := f.dial(t, "edge-1", 1, 1)
		for i := range 40 {
			st, err := s.Open(t.Context(), wire.KindReport)
			if err != nil {
				t.Fatal(err)
			}
			tunneltest.Pass(time.Second)
			st.SetReadDeadline(time.Now())
			_, err = st.Read(make([]byte, 1))
			var serr *tunnel.StreamError
			if refused := errors.As(err, &serr) && serr.Code == wire.CodeTooMany; refused != (i >= 32) {
				t.Errorf("stream %d: %v", i, err)
			}
		}
		if got := running.Load(); got != 32 {
			t.Errorf("%d handlers run, want 32", got)
		}
		s.Close(wire.CodeOK, "")
		tunneltest.Pass(time.Second)
		synctest.Wait()
		if got := running.Load(); got != 0 {
			t.Errorf("%d handlers outlive their session", got)
		}
	})
}

func TestCloseRevokes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		s := f.dial(t, "edge-1", 1, 1)
		if f.Close("edge-2", wire.CodeRevoked, "") {
			t.Error("closed an edge that is not there")
		}
		if !f.Close("edge-1", wire.CodeRevoked, "by the operator") {
			t.Error("found no session to close")
		}
		if len(f.names()) != 0 {
			t.Errorf("sessions after Close: %v", f.names())
		}
		<-s.Done()
		var serr *tunnel.SessionError
		if !errors.As(s.Err(), &serr) || serr.Code != wire.CodeRevoked || serr.Text != "by the operator" {
			t.Errorf("edge sees %v", s.Err())
		}
	})
}

func TestShutdownTellsEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		r, err := registry.New(registry.Config{Listener: n.Listener()})
		if err != nil {
			t.Fatal(err)
		}
		r.Handle(wire.KindReport, func(_ context.Context, _ string, c net.Conn) error {
			_, err := c.Read(make([]byte, 1)) // nothing comes
			return err
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		s, err := n.Dial(t.Context(), "edge-1", 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), wire.KindReport); err != nil {
			t.Fatal(err)
		}
		tunneltest.Pass(time.Second)
		cancel()
		<-ended
		<-s.Done()
		var serr *tunnel.SessionError
		if !errors.As(s.Err(), &serr) || serr.Code != wire.CodeGoingAway || !serr.Remote {
			t.Errorf("edge sees %v, want code %d", s.Err(), wire.CodeGoingAway)
		}
	})
}

// While it drains a registry dials nobody, and what it dialed before goes on.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		r, err := registry.New(registry.Config{Listener: n.Listener()})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- r.Run(context.WithoutCancel(t.Context())) }()
		edge, err := n.Dial(t.Context(), "edge-1", 1)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c, err := r.DialEdge(t.Context(), "edge-1", wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		far, err := edge.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		drained := make(chan error, 1)
		go func() { drained <- r.Drain(context.WithoutCancel(t.Context()), time.Minute) }()
		synctest.Wait()
		for _, node := range []string{"edge-1", "edge-2"} {
			_, err := r.DialEdge(t.Context(), node, wire.KindExec)
			if e, ok := errors.AsType[*wire.Error](err); !ok || !errors.Is(err, registry.ErrDraining) || e.Code.HTTPStatus() != 503 {
				t.Errorf("%s: got %v, want ErrDraining", node, err)
			}
		}
		if got := time.Since(begin); got != 0 {
			t.Errorf("refused after %v", got)
		}
		tunneltest.Pass(20 * time.Second)
		io.WriteString(far, "the end")
		far.Close()
		if got, err := io.ReadAll(c); string(got) != "the end" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		c.Close()
		if err := <-drained; err != nil || time.Since(begin) != 20*time.Second+rtt/2 {
			t.Errorf("drained after %v with %v", time.Since(begin), err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// A revocation between the listener's check and the table would find no session
// to close.
func TestRefusedInTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		r, err := registry.New(registry.Config{
			Listener: n.Listener(),
			Refuse: func(id certs.Identity, cert *x509.Certificate) (wire.Code, string) {
				if got, err := certs.CertificateIdentity(cert); err != nil || got != id {
					t.Errorf("certificate of %v, %v; want %v", got, err, id)
				}
				return wire.CodeRevoked, "meanwhile"
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		s, err := n.Dial(t.Context(), "edge-1", 1)
		if err == nil {
			<-s.Done()
			err = s.Err()
		}
		if e, ok := errors.AsType[*tunnel.SessionError](err); !ok || e.Code != wire.CodeRevoked {
			t.Errorf("session ended with %v, want revoked", err)
		}
		if _, _, ok := r.Session("edge-1"); ok {
			t.Error("the session is still in the table")
		}
		cancel()
		<-ended
	})
}
