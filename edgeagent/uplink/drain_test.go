package uplink_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// startAt is start with an address that may change, as behind a load balancer.
func startAt(t *testing.T, n *tunneltest.Net, address *atomic.Pointer[string]) *uplink.Uplink {
	t.Helper()
	return run(t, uplink.Config{
		Session: func(ctx context.Context, b uplink.Begin) (uplink.Session, error) {
			cfg := n.Config("edge-1", b.Seq)
			cfg.Hello.Incarnation = b.Incarnation
			if a := address.Load(); a != nil {
				cfg.Address = *a
			}
			s, err := tunnel.New(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
	})
}

// drain begins to, and gives how long it took.
func drain(t *testing.T, l *tunnel.Listener) <-chan time.Duration {
	t.Helper()
	took := make(chan time.Duration, 1)
	begin := time.Now()
	go func() {
		if err := l.Drain(context.WithoutCancel(t.Context()), 25*time.Second); err != nil {
			t.Errorf("drain: %v", err)
		}
		took <- time.Since(begin)
	}()
	return took
}

// An edge moves to another replica without a moment in which it has no session,
// and what somebody looks at lives on over the old one.
func TestMoveToAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		other, address := n.Replica()
		var where atomic.Pointer[string]
		u := startAt(t, n, &where)
		terminals := u.Listener(wire.KindExec)
		old := acceptSession(t, n)
		exec, err := old.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		far, err := terminals.Accept()
		if err != nil {
			t.Fatal(err)
		}
		report, err := u.Dial(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(report, "x")

		where.Store(&address)
		begin := time.Now()
		took := drain(t, n.Listener())
		s, err := other.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Word of it, the spread, a handshake and a greeting.
		if got := time.Since(begin); got > rtt/2+2*time.Second+2*rtt {
			t.Errorf("moved after %v", got)
		}
		if s.Hello().Incarnation != old.Hello().Incarnation || s.Hello().Seq <= old.Hello().Seq {
			t.Errorf("seq %d after %d", s.Hello().Seq, old.Hello().Seq)
		}
		var moved *tunnel.StreamError
		if _, err := io.ReadAll(report); !errors.As(err, &moved) || moved.Code != wire.CodeGoingAway {
			t.Errorf("the old stream gave %v", err)
		}
		if report, err = u.Dial(t.Context(), wire.KindReport); err != nil {
			t.Fatal(err)
		}
		io.WriteString(report, "y")
		if st, err := s.Accept(t.Context()); err != nil || st.Kind() != wire.KindReport {
			t.Fatalf("the new session got %v", err)
		}

		changed := u.Changed()
		for time.Since(begin) < 10*time.Second {
			tunneltest.Pass(time.Second)
			io.WriteString(far, "on")
			if _, err := io.ReadFull(exec, make([]byte, 2)); err != nil {
				t.Fatal(err)
			}
		}
		far.Close()
		exec.Close()
		if got := <-took; got < 10*time.Second || got > 12*time.Second {
			t.Errorf("the drain took %v", got)
		}
		tunneltest.Pass(time.Minute)
		select {
		case <-changed:
			t.Error("the end of the old session changed something")
		default:
		}
		if !u.Connected() || s.Err() != nil {
			t.Errorf("connected %t, the new session: %v", u.Connected(), s.Err())
		}
	})
}

// With one replica the edge stays to the end, is refused meanwhile, and comes back
// soon after the proxy does.
func TestDrainOfTheOnlyReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		u := start(t, n)
		terminals := u.Listener(wire.KindExec)
		old := acceptSession(t, n)
		if _, err := old.Open(t.Context(), wire.KindExec); err != nil {
			t.Fatal(err)
		}
		if _, err := terminals.Accept(); err != nil {
			t.Fatal(err)
		}
		changed := u.Changed()
		took := drain(t, n.Listener())
		tunneltest.Pass(20 * time.Second)
		if st, err := u.Dial(t.Context(), wire.KindReport); err != nil {
			t.Errorf("while the session lives: %v", err)
		} else {
			st.Close()
		}
		select {
		case <-changed:
			t.Error("something changed before the end")
		default:
		}
		if got := <-took; got != 25*time.Second {
			t.Errorf("the drain took %v, want 25s", got)
		}
		tunneltest.Pass(rtt)
		if u.Connected() {
			t.Error("connected to a proxy that is not there")
		}
		n.Restart()
		back := time.Now()
		acceptSession(t, n)
		if got := time.Since(back); got > 2500*time.Millisecond+2*rtt {
			t.Errorf("back after %v", got)
		}
	})
}
