package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// within is how long a drain may take here.
	within = 25 * time.Second
	// leaveTime is how long edges get to leave by themselves.
	leaveTime = 3 * time.Second
)

// drain begins to, and gives how long it took.
func drain(t *testing.T, l *tunnel.Listener) <-chan time.Duration {
	t.Helper()
	took := make(chan time.Duration, 1)
	begin := time.Now()
	go func() {
		if err := l.Drain(context.WithoutCancel(t.Context()), within); err != nil {
			t.Errorf("drain: %v", err)
		}
		took <- time.Since(begin)
	}()
	synctest.Wait()
	return took
}

func wantTook(t *testing.T, took <-chan time.Duration, want time.Duration) {
	t.Helper()
	if got := <-took; got != want {
		t.Errorf("the drain took %v, want %v", got, want)
	}
}

// An edge that does not leave keeps its session for a moment, and nothing new
// begins meanwhile.
func TestDrainOfIdleSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		tunneltest.Pass(time.Second)
		begin := time.Now()
		took := drain(t, n.Listener())
		if _, err := cloud.Open(t.Context(), wire.KindExec); !errors.Is(err, tunnel.ErrGoingAway) {
			t.Errorf("open: %v, want ErrGoingAway", err)
		}
		<-edge.GoingAway()
		if got := time.Since(begin); got != rtt/2 {
			t.Errorf("the edge heard after %v, want %v", got, rtt/2)
		}
		_, err := n.Dial(t.Context(), "edge-1", 2)
		wantSessionError(t, err, wire.CodeGoingAway, true)
		up, err := edge.Open(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		write(t, up, "still here")
		up.CloseWrite()
		if got := readAll(t, accept(t, cloud)); got != "still here" {
			t.Errorf("read %q", got)
		}
		wantTook(t, took, leaveTime)
		<-edge.Done()
		wantSessionError(t, edge.Err(), wire.CodeGoingAway, true)
		if _, err := n.Listener().Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v, want net.ErrClosed", err)
		}
	})
}

func TestDrainWithNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		wantTook(t, drain(t, n.Listener()), 0)
		if err := n.Listener().Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
	})
}

// The edge's own streams end when it leaves, and both sides can tell why.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		up, err := edge.Open(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		write(t, up, "x")
		far := accept(t, cloud)
		took := drain(t, n.Listener())
		<-edge.GoingAway()
		go edge.Leave(t.Context())
		_, err = io.ReadAll(up)
		wantStreamError(t, err, wire.CodeGoingAway, false)
		_, err = up.Write([]byte("y"))
		wantStreamError(t, err, wire.CodeGoingAway, false)
		_, err = io.ReadAll(far)
		wantStreamError(t, err, wire.CodeGoingAway, true)
		far.Close()
		// Word to the edge, the ends of its stream there and back, its goodbye.
		wantTook(t, took, 2*rtt)
		<-edge.Done()
		wantSessionError(t, edge.Err(), wire.CodeOK, false)
		if _, err := edge.Open(t.Context(), wire.KindReport); !errors.Is(err, net.ErrClosed) {
			t.Errorf("open: %v", err)
		}
	})
}

// A terminal lives to its end, over an outage, too, and the drain ends with it.
func TestDrainWaitsForCommand(t *testing.T) {
	for _, outage := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
			cloud, edge := n.Pair("edge-1")
			st, err := cloud.Open(t.Context(), wire.KindExec)
			if err != nil {
				t.Fatal(err)
			}
			far := accept(t, edge)
			begin := time.Now()
			took := drain(t, n.Listener())
			<-edge.GoingAway()
			go edge.Leave(t.Context())
			if outage {
				n.Outage(true)
			}
			tunneltest.Pass(5 * time.Second)
			write(t, far, "some output, ")
			n.Outage(false)
			tunneltest.Pass(5 * time.Second)
			write(t, far, "and the end")
			far.Close()
			if got := readAll(t, st); got != "some output, and the end" {
				t.Errorf("read %q", got)
			}
			st.Close()
			wantTook(t, took, time.Since(begin))
			<-edge.Done() // by the edge itself or by the proxy: both have seen the end
			if e, ok := errors.AsType[*tunnel.SessionError](edge.Err()); !ok || e.Code != wire.CodeOK && e.Code != wire.CodeGoingAway {
				t.Errorf("the edge's session: %v", edge.Err())
			}
		})
	}
}

func TestDrainEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		say := shell(t, cloud, edge)
		took := drain(t, n.Listener())
		<-edge.GoingAway()
		go edge.Leave(t.Context())
		for range 24 {
			tunneltest.Pass(time.Second - rtt)
			if fault := say(); fault != "" {
				t.Fatal(fault)
			}
		}
		wantTook(t, took, within)
		<-edge.Done()
		wantSessionError(t, edge.Err(), wire.CodeGoingAway, true)
	})
}

// An edge that was away when the drain began hears of it when it is back.
func TestGoAwayIsSaidOnTheNextCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		say := shell(t, cloud, edge)
		n.Outage(true)
		edge.Check()
		detached(edge)
		took := drain(t, n.Listener())
		tunneltest.Pass(10 * time.Second)
		select {
		case <-edge.GoingAway():
			t.Fatal("the edge heard through an outage")
		default:
		}
		n.Outage(false)
		<-edge.GoingAway()
		if fault := say(); fault != "" {
			t.Error(fault)
		}
		wantTook(t, took, within)
	})
}

// A proxy that is killed while it drains has no last word.
func TestDrainingProxyVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		begin := time.Now()
		_ = shell(t, cloud, edge)
		took := drain(t, n.Listener())
		<-edge.GoingAway()
		n.Outage(true)
		<-edge.Done()
		wantSessionError(t, edge.Err(), wire.CodeGoingAway, false)
		if got := time.Since(begin); got < within || got > within+20*time.Second {
			t.Errorf("given up after %v", got)
		}
		<-took
	})
}
