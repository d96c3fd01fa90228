package uplink_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const rtt = 60 * time.Millisecond

// start runs an uplink over n to the end of the test.
func start(t *testing.T, n *tunneltest.Net) *uplink.Uplink {
	t.Helper()
	return run(t, uplink.Config{
		Session: func(ctx context.Context, b uplink.Begin) (uplink.Session, error) {
			cfg := n.Config("edge-1", b.Seq)
			cfg.Hello.Incarnation = b.Incarnation
			s, err := tunnel.New(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
	})
}

func run(t *testing.T, cfg uplink.Config) *uplink.Uplink {
	t.Helper()
	u, err := uplink.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want canceled", err)
		}
	})
	return u
}

func acceptSession(t *testing.T, n *tunneltest.Net) *tunnel.Session {
	t.Helper()
	s, err := n.Listener().Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestListenerLivesAcrossSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		u := start(t, n)
		l := u.Listener(wire.KindExec)
		var seq uint64
		for range 3 {
			cloud := acceptSession(t, n)
			if h := cloud.Hello(); h.Seq <= seq || h.Incarnation == ([16]byte{}) {
				t.Errorf("hello with seq %d after %d, incarnation %x", h.Seq, seq, h.Incarnation)
			}
			seq = cloud.Hello().Seq
			a, err := cloud.Open(t.Context(), wire.KindExec)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(a, "hi")
			a.CloseWrite()
			b, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(b); string(got) != "hi" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
			b.Close()
			a.Close()
			cloud.Close(wire.CodeInternal, "again")
		}
	})
}

func TestUnknownKindAndClosedListenerAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		u := start(t, n)
		cloud := acceptSession(t, n)
		wantRefused := func(kind, code uint64) {
			t.Helper()
			st, err := cloud.Open(t.Context(), wire.Kind(kind))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			_, err = st.Read(make([]byte, 1))
			var serr *tunnel.StreamError
			if !errors.As(err, &serr) || uint64(serr.Code) != code || !serr.Remote {
				t.Errorf("kind %d: %v, want code %d", kind, err, code)
			}
		}
		wantRefused(4711, uint64(wire.CodeUnsupported))
		l := u.Listener(wire.KindExec)
		if u.Listener(wire.KindExec) != l {
			t.Error("a second listener for one kind")
		}
		l.Close()
		wantRefused(uint64(wire.KindExec), uint64(wire.CodeUnsupported))
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v, want net.ErrClosed", err)
		}
	})
}

func TestListenerQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		u := start(t, n)
		_ = u.Listener(wire.KindExec) // nobody accepts
		cloud := acceptSession(t, n)
		streams := make([]*tunnel.Stream, 100)
		for i := range streams {
			var err error
			if streams[i], err = cloud.Open(t.Context(), wire.KindExec); err != nil {
				t.Fatal(err)
			}
		}
		tunneltest.Pass(time.Second)
		refused := 0
		for _, st := range streams {
			st.SetReadDeadline(time.Now())
			_, err := st.Read(make([]byte, 1))
			var serr *tunnel.StreamError
			if errors.As(err, &serr) && serr.Code == wire.CodeTooMany {
				refused++
			}
		}
		if refused != 100-64 {
			t.Errorf("%d refused, want %d", refused, 100-64)
		}
	})
}

func TestOutage(t *testing.T) {
	for _, tt := range []struct {
		outage time.Duration
		lives  bool // shorter than the session's grace
	}{{10 * time.Second, true}, {300 * time.Second, true}, {11 * time.Minute, false}} {
		t.Run(tt.outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				u := start(t, n)
				old := acceptSession(t, n)
				c, err := u.Dial(t.Context(), wire.KindReport)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				far, err := old.Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				tunneltest.Pass(30*time.Second + 7*time.Millisecond)
				n.Outage(true)
				io.WriteString(c, "on")
				tunneltest.Pass(tt.outage)
				n.Outage(false)
				back := time.Now()
				_, err = io.ReadFull(far, make([]byte, 2))
				if lives := err == nil; lives != tt.lives {
					t.Fatalf("the stream gave %v", err)
				}
				again, err := u.Dial(t.Context(), wire.KindReport)
				if err != nil {
					t.Fatal(err)
				}
				again.Close()
				if got := time.Since(back); got > 2500*time.Millisecond {
					t.Errorf("%v after the outage, the budget is 2.5s", got)
				}
				if tt.lives {
					return
				}
				if s := acceptSession(t, n); s.Hello().Incarnation != old.Hello().Incarnation || s.Hello().Seq <= old.Hello().Seq {
					t.Errorf("new session says seq %d, old %d, same incarnation %t", s.Hello().Seq, old.Hello().Seq,
						s.Hello().Incarnation == old.Hello().Incarnation)
				}
			})
		})
	}
}

func TestDialWaitsForASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := run(t, uplink.Config{Session: func(context.Context, uplink.Begin) (uplink.Session, error) {
			return nil, tunnel.ErrUntrusted
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		if _, err := u.Dial(ctx, wire.KindReport); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v, want a deadline", err)
		}
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("gave up after %v", got)
		}
	})
}

// fakeSession ends when told, and is enough to see when the uplink dials.
type fakeSession struct {
	done    chan struct{}
	once    sync.Once
	err     error
	checked int
}

func (s *fakeSession) Dial(context.Context) error                              { return nil }
func (s *fakeSession) Open(context.Context, wire.Kind) (*tunnel.Stream, error) { return nil, s.err }
func (s *fakeSession) Accept(ctx context.Context) (*tunnel.Stream, error) {
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	return nil, net.ErrClosed
}
func (s *fakeSession) Check()                     { s.checked++ }
func (s *fakeSession) GoingAway() <-chan struct{} { return nil }
func (s *fakeSession) Leave(context.Context)      {}
func (s *fakeSession) Done() <-chan struct{}      { return s.done }
func (s *fakeSession) Err() error                 { return s.err }
func (s *fakeSession) Close(wire.Code, string) error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func TestWaitsBetweenDials(t *testing.T) {
	tests := []struct {
		name string
		err  error
		// want are the waits before jitter of a quarter to either side
		want []time.Duration
	}{
		{"no answer", context.DeadlineExceeded, []time.Duration{200e6, 400e6, 800e6, 1600e6, 2e9, 2e9}},
		{"revoked", &tunnel.SessionError{Code: wire.CodeRevoked, Remote: true}, []time.Duration{2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
		{"version", &tunnel.SessionError{Code: wire.CodeVersion, Remote: true}, []time.Duration{2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
		{"certificate", tunnel.ErrUntrusted, []time.Duration{2e9, 4e9, 8e9, 16e9, 30e9, 30e9}},
		{"going away", &tunnel.SessionError{Code: wire.CodeGoingAway, Remote: true}, []time.Duration{200e6, 400e6, 800e6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				run(t, uplink.Config{Session: func(context.Context, uplink.Begin) (uplink.Session, error) {
					at = append(at, time.Now())
					return nil, tt.err
				}})
				tunneltest.Pass(5 * time.Minute)
				synctest.Wait()
				for i, want := range tt.want {
					if got := at[i+1].Sub(at[i]); got < want*3/4 || got > want*5/4 {
						t.Errorf("wait %d is %v, want %v and a quarter to either side", i+1, got, want)
					}
				}
			})
		})
	}
}

func TestNetworkChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		change := make(chan func(), 1)
		session := &fakeSession{done: make(chan struct{}), err: errors.New("dead")}
		var at []time.Time
		run(t, uplink.Config{
			Session: func(context.Context, uplink.Begin) (uplink.Session, error) {
				at = append(at, time.Now())
				if len(at) > 1 {
					return nil, context.DeadlineExceeded
				}
				return session, nil
			},
			Watch: func(ctx context.Context, changed func()) error {
				change <- changed
				<-ctx.Done()
				return ctx.Err()
			},
		})
		changed := <-change
		synctest.Wait()
		changed()
		if session.checked != 1 {
			t.Errorf("session was checked %d times, want once", session.checked)
		}
		session.Close(0, "")
		tunneltest.Pass(5 * time.Second) // by now it waits 2 s between dials
		synctest.Wait()
		dials := len(at)
		changed()
		synctest.Wait()
		if len(at) != dials+1 {
			t.Errorf("%d dials at once after a change, want 1", len(at)-dials)
		}
	})
}

// After hours without the cloud the edge asks rarely: a packet may cost money.
func TestWaitsGrowWithTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		start := time.Now()
		run(t, uplink.Config{Session: func(_ context.Context, b uplink.Begin) (uplink.Session, error) {
			dials.Add(1)
			if !b.Since.Equal(start) {
				t.Errorf("a dial was told that the cloud is away since %v, want %v", b.Since, start)
			}
			return nil, context.DeadlineExceeded
		}})
		tunneltest.Pass(10 * time.Hour)
		synctest.Wait()
		before := dials.Load()
		tunneltest.Pass(time.Hour)
		synctest.Wait()
		if got := dials.Load() - before; got < 95 || got > 160 {
			t.Errorf("%d dials in the eleventh hour, want one each 30 s", got)
		}
	})
}

func TestStreamsGoWithTheFirstPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		begin := time.Now()
		u := start(t, n)
		st, err := u.Dial(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		if u.Connected() {
			t.Error("connected before the cloud has said anything")
		}
		io.WriteString(st, "first")
		far, err := acceptSession(t, n).Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got < rtt*3/2 || got >= rtt*2 {
			t.Errorf("the cloud has read it after %v, want one and a half round trips", got)
		}
	})
}

// What was opened on a session that came to nothing is opened again on the next.
func TestStreamOfAFailedDialComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		n.Outage(true)
		u := start(t, n)
		ctx, cancel := context.WithCancel(t.Context())
		var streams atomic.Int64
		k := uplink.Keeper{
			Dialer: u, Kind: wire.KindReport, Failed: func() error { return nil },
			Serve: func(_ context.Context, conn net.Conn) (bool, error) {
				defer conn.Close()
				streams.Add(1)
				io.WriteString(conn, "hello")
				_, err := conn.Read(make([]byte, 1))
				return false, err
			},
		}
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }()
		tunneltest.Pass(10 * time.Minute)
		synctest.Wait()
		if got := streams.Load(); got < 10 || got > 60 {
			t.Errorf("%d streams in ten minutes without the cloud, want one for each dial", got)
		}
		n.Outage(false)
		back := time.Now()
		far, err := acceptSession(t, n).Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(back); got > 10*time.Second {
			t.Errorf("the stream came %v after the link", got)
		}
		cancel()
		far.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRefusalIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var mu sync.Mutex
		run(t, uplink.Config{
			Log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil)),
			Session: func(context.Context, uplink.Begin) (uplink.Session, error) {
				return nil, &tunnel.SessionError{Code: wire.CodeRevoked, Text: "since yesterday", Remote: true}
			},
		})
		tunneltest.Pass(time.Second)
		mu.Lock()
		defer mu.Unlock()
		for _, want := range []string{"the cloud refuses this edge", "identity was revoked", "since yesterday", "retry_in"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log lacks %q: %s", want, out.String())
			}
		}
	})
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
