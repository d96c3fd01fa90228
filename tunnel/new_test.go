package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// serveEchoes answers all streams of all sessions.
func serveEchoes(t *testing.T, n *tunneltest.Net) {
	t.Helper()
	go func() {
		for {
			s, err := n.Listener().Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				for {
					st, err := s.Accept(t.Context())
					if err != nil {
						return
					}
					go func() {
						_, _ = io.Copy(st, st)
						st.Close()
					}()
				}
			}()
		}
	}()
}

// The first answer takes two round trips, one more than it would take if what was
// replayed could be acted upon.
func TestFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		serveEchoes(t, n)
		cfg := n.Config("edge-1", 1)
		for i, name := range []string{"new", "with a ticket"} {
			cfg.Hello.Seq = uint64(i + 1)
			start := time.Now()
			s, err := tunnel.New(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			st, err := s.Open(t.Context(), wire.KindExec)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(st, "hi")
			st.CloseWrite()
			dialed := make(chan error, 1)
			go func() { dialed <- s.Dial(t.Context()) }()
			if got, err := io.ReadAll(st); string(got) != "hi" || err != nil {
				t.Fatalf("%s: %q, %v", name, got, err)
			}
			if got := time.Since(start); got < 2*rtt || got > 2*rtt+10*time.Millisecond {
				t.Errorf("%s: first answer after %v, want two round trips", name, got)
			}
			if err := <-dialed; err != nil {
				t.Fatal(err)
			}
			tunneltest.Pass(time.Second) // the ticket is on its way
			s.Close(wire.CodeOK, "")
		}
	})
}

func TestBeforeDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		n.Outage(true)
		s, err := tunnel.New(t.Context(), n.Config("edge-1", 1))
		if err != nil {
			t.Fatal(err)
		}
		var first *tunnel.Stream
		for i := range 17 {
			st, err := s.Open(t.Context(), wire.KindExec)
			switch {
			case i == 0:
				first = st
			case i < 16 && err != nil:
				t.Fatalf("stream %d: %v", i, err)
			case i == 16 && !errors.Is(err, tunnel.ErrTooManyStreams):
				t.Errorf("17 streams before Welcome: %v, want ErrTooManyStreams", err)
			}
		}
		if ok, _ := s.Attached(); ok || s.Err() != nil {
			t.Errorf("attached %t, err %v before Dial", ok, s.Err())
		}
		if err := s.Dial(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial: %v, want a deadline", err)
		}
		var ended *tunnel.SessionError
		if _, err := first.Read(make([]byte, 1)); !errors.As(err, &ended) || ended.Code != wire.CodeOffline {
			t.Errorf("stream of a session that came to nothing: %v, want code offline", err)
		}
		<-s.Done()
	})
}

func TestCloseEndsDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		n.Outage(true)
		s, err := tunnel.New(t.Context(), n.Config("edge-1", 1))
		if err != nil {
			t.Fatal(err)
		}
		dialed := make(chan error, 1)
		go func() { dialed <- s.Dial(t.Context()) }()
		tunneltest.Pass(time.Second)
		start := time.Now()
		s.Close(wire.CodeCanceled, "enough")
		if err := <-dialed; err == nil || time.Since(start) > time.Second {
			t.Errorf("Dial of a closed session: %v after %v", err, time.Since(start))
		}
	})
}

// Whoever keeps to the bound is never refused: that a stream has ended, and the next
// one, go by different lanes, and on a bad link the second is often there first.
func TestOpenAtTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Listen: func(c *tunnel.ListenConfig) { c.MaxStreams = 2 }})
		serveEchoes(t, n)
		s, err := tunnel.Dial(t.Context(), n.Config("edge-1", 1))
		if err != nil {
			t.Fatal(err)
		}
		n.Loss(0.2)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 100 {
					st, err := s.Open(t.Context(), wire.KindExec)
					for ; errors.Is(err, tunnel.ErrTooManyStreams); st, err = s.Open(t.Context(), wire.KindExec) {
						tunneltest.Pass(time.Millisecond)
					}
					if err != nil {
						t.Error(err)
						return
					}
					io.WriteString(st, "hi")
					st.CloseWrite()
					if got, err := io.ReadAll(st); string(got) != "hi" || err != nil {
						t.Errorf("%q, %v", got, err)
					}
					st.Close()
				}
			})
		}
		wg.Wait()
		s.Close(wire.CodeOK, "")
	})
}

// A Resume names all streams that can be there, and is one frame.
func TestResumeOfAllStreams(t *testing.T) {
	if _, err := tunnel.New(t.Context(), tunnel.DialConfig{Address: "cloud:7443", TLS: &tls.Config{}, MaxStreams: 1001}); err == nil {
		t.Error("more streams than a Resume can name")
	}
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Listen: func(c *tunnel.ListenConfig) {
			c.MaxStreams, c.MaxMemory = 1000, 1<<30
		}})
		cfg := n.Config("edge-1", 1)
		cfg.MaxStreams, cfg.MaxMemory = 1000, 1<<30
		edge, err := tunnel.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		cloud, err := n.Listener().Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		type end struct{ near, far *tunnel.Stream }
		var all []end
		for _, side := range [][2]*tunnel.Session{{edge, cloud}, {cloud, edge}} {
			for range 1000 {
				near, err := side[0].Open(t.Context(), wire.KindExec)
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(near, "one")
				far, err := side[1].Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, end{near, far})
			}
		}
		n.Outage(true)
		tunneltest.Pass(10 * time.Second)
		n.Outage(false)
		for _, e := range all {
			io.WriteString(e.near, "two")
			e.near.CloseWrite()
			if got, err := io.ReadAll(e.far); string(got) != "onetwo" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if got := edge.Stats().Resumes; got == 0 {
			t.Error("the session was not resumed")
		}
		edge.Close(wire.CodeOK, "")
	})
}
