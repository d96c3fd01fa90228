package tunnel_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

func TestRefusedByCode(t *testing.T) {
	tests := []struct {
		name   string
		listen func(*tunnel.ListenConfig)
		dial   func(*tunnel.DialConfig)
		code   wire.Code
	}{
		{
			name: "revoked", code: wire.CodeRevoked,
			listen: func(c *tunnel.ListenConfig) {
				c.Refuse = func(id certs.Identity, _ *x509.Certificate) (wire.Code, string) {
					if id.Node == "edge-1" {
						return wire.CodeRevoked, "since yesterday"
					}
					return wire.CodeOK, ""
				}
			},
		},
		{
			name: "no version in common", code: wire.CodeVersion,
			dial: func(c *tunnel.DialConfig) { c.Hello.Versions = []uint64{99, 98} },
		},
		{
			name: "hello beyond its bound", code: wire.CodeProtocol,
			dial: func(c *tunnel.DialConfig) { c.Hello.Labels = []string{string(make([]byte, 70<<10))} },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Listen: tt.listen})
				cfg := n.Config("edge-1", 1)
				if tt.dial != nil {
					tt.dial(&cfg)
				}
				start := time.Now()
				_, err := tunnel.Dial(t.Context(), cfg)
				wantSessionError(t, err, tt.code, true)
				if got := time.Since(start); got > 4*rtt {
					t.Errorf("refused after %v, want at most %v", got, 4*rtt)
				}
			})
		})
	}
}

func TestVersionIsTheHighestInCommon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cfg := n.Config("edge-1", 1)
		cfg.Hello.Versions = []uint64{7, wire.Version}
		s, err := tunnel.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Welcome().Version; got != wire.Version {
			t.Errorf("version %d, want %d", got, wire.Version)
		}
		s.Close(wire.CodeOK, "")
	})
}

func TestUntrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		stranger := tunneltest.New(t, tunneltest.Options{RTT: rtt}) // its CA is another one

		cfg := n.Config("edge-1", 1)
		cfg.TLS = stranger.Config("edge-1", 1).TLS
		_, err := tunnel.Dial(t.Context(), cfg)
		if !errors.Is(err, tunnel.ErrUntrusted) {
			t.Errorf("edge that distrusts the cloud: %v, want ErrUntrusted", err)
		}

		cfg = n.Config("edge-1", 1)
		cfg.TLS.GetClientCertificate = stranger.Config("edge-1", 1).TLS.GetClientCertificate
		_, err = tunnel.Dial(t.Context(), cfg)
		if !errors.Is(err, tunnel.ErrUntrusted) {
			t.Errorf("edge that the cloud distrusts: %v, want ErrUntrusted", err)
		}
	})
}

func TestDialGivesUpWhenNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		n.Outage(true)
		start := time.Now()
		_, err := tunnel.Dial(t.Context(), n.Config("edge-1", 1))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
		if got := time.Since(start); got != 15*time.Second {
			t.Errorf("gave up after %v, want 15s", got)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := tunnel.Dial(ctx, n.Config("edge-1", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("gave up after %v, want 1s", got)
		}
	})
}

func TestDialGetsThroughSoonAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		for outage := time.Second; outage < 13*time.Second; outage += 1371 * time.Millisecond {
			n.Outage(true)
			var back time.Time
			time.AfterFunc(outage, func() { back = time.Now(); n.Outage(false) })
			s, err := tunnel.Dial(t.Context(), n.Config("edge-1", 1))
			if err != nil {
				t.Fatalf("outage of %v: %v", outage, err)
			}
			if got := time.Since(back); got > 1200*time.Millisecond {
				t.Errorf("outage of %v: session %v after its end, want at most 1.2s", outage, got)
			}
			s.Close(wire.CodeOK, "")
		}
	})
}

// hostile makes a connection whose peer then does what it likes.
func hostile(t *testing.T, n *tunneltest.Net) link.Conn {
	t.Helper()
	return hostileWithin(t, n, link.EdgeLimits(576))
}

func hostileWithin(t *testing.T, n *tunneltest.Net, limits link.Limits) link.Conn {
	t.Helper()
	pc, err := n.PacketConn()
	if err != nil {
		t.Fatal(err)
	}
	tr, err := link.NewTransport(link.TransportConfig{PacketConn: pc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	c, _, err := tr.Dial(t.Context(), n.Listener().Addr(), n.Config("bad", 1).TLS, limits, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSilentPeerIsDroppedAndDelaysNobody(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, c link.Conn)
	}{
		{"no lane", func(*testing.T, link.Conn) {}},
		{"an unknown frame and nothing more", func(t *testing.T, c link.Conn) {
			t.Helper()
			send(t, c, []byte{0x3f, 0})
		}},
		{"half a hello", func(t *testing.T, c link.Conn) {
			t.Helper()
			b := wire.Append(nil, &wire.Hello{Hostname: "x"})
			send(t, c, b[:len(b)-3])
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				start := time.Now()
				bad := hostile(t, n)
				tt.do(t, bad)
				ready := time.Since(start)
				n.Pair("edge-1")
				if got := time.Since(start) - ready; got != 2*rtt {
					t.Errorf("a good edge took %v beside it, want %v", got, 2*rtt)
				}
				<-bad.Done()
				// The cloud's clock starts with the client's first packet.
				if got, want := time.Since(start), rtt/2+10*time.Second+rtt/2; got != want {
					t.Errorf("dropped after %v, want %v", got, want)
				}
				var cerr *link.ConnError
				if !errors.As(bad.Err(), &cerr) || cerr.Code != wire.CodeProtocol || !cerr.Remote {
					t.Errorf("dropped with %v, want code %d", bad.Err(), wire.CodeProtocol)
				}
			})
		})
	}
}

func TestPeerThatBreaksTheProtocolIsDropped(t *testing.T) {
	tests := []struct {
		name string
		send []byte
	}{
		{"frame is not hello", wire.Append(nil, &wire.Synced{})},
		{"hello is cut short", []byte{1, 1, 0x40}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				c := hostile(t, n)
				send(t, c, tt.send)
				start := time.Now()
				<-c.Done()
				if got := time.Since(start); got > 2*rtt {
					t.Errorf("dropped after %v", got)
				}
				var cerr *link.ConnError
				if !errors.As(c.Err(), &cerr) || cerr.Code != wire.CodeProtocol || !cerr.Remote {
					t.Errorf("dropped with %v, want code %d", c.Err(), wire.CodeProtocol)
				}
			})
		})
	}
}

func TestPendingBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Listen: func(c *tunnel.ListenConfig) { c.MaxPending = 8 }})
		for range 4 {
			hostile(t, n)
		}
		_, err := tunnel.Dial(t.Context(), n.Config("edge-1", 1))
		wantSessionError(t, err, wire.CodeTooMany, true)
		if got := n.Listener().Stats(); got.Pending != 4 || got.MaxPending != 8 || got.RefusedPending == 0 || got.AskedPending == 0 {
			t.Errorf("%+v", got)
		}
		// The other half is for others.
		cfg := n.Config("edge-2", 1)
		cfg.PacketConn = n.Uplink(1).Way("other").PacketConn
		other, err := tunnel.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		other.Close(wire.CodeOK, "")
		tunneltest.Pass(11 * time.Second) // their Hello is overdue
		n.Pair("edge-1")
		// A session that is accepted is not pending.
		for range 8 {
			n.Pair("edge-1")
		}
	})
}

// TestHostileStreams are edges whose frames make no sense once the session is there.
func TestHostileStreams(t *testing.T) {
	data := func(id, offset uint64, n int, fin bool) []byte {
		return wire.Append(nil, &wire.StreamData{ID: id, Offset: offset, Fin: fin, Bytes: make([]byte, n)})
	}
	open := func(id uint64) []byte { return wire.Append(nil, &wire.StreamOpen{ID: id, Kind: wire.KindReport}) }
	tests := []struct {
		name string
		send [][]byte
	}{
		{"a stream of the cloud's", [][]byte{open(2)}},
		{"no stream at all", [][]byte{open(0)}},
		{"thousands of streams left out", [][]byte{open(1 << 20)}},
		{"beyond the window", [][]byte{open(1), data(1, 32<<10, 1, false)}},
		{"far beyond the window", [][]byte{open(1), data(1, 1<<62-2, 1, false)}},
		{"beyond the end", [][]byte{open(1), data(1, 2, 3, true), data(1, 5, 1, false)}},
		{"another end", [][]byte{open(1), data(1, 5, 3, true), data(1, 2, 1, true)}},
		{"acknowledges what was never sent", [][]byte{open(1), wire.Append(nil, &wire.StreamAck{ID: 1, Received: 1})}},
		{"a frame that is cut short", [][]byte{{16, 1, 0x40}}},
		{"a frame that is too long", [][]byte{{17, 0x80, 0x02, 0, 0}}},
		{"a thousand streams at once", func() (all [][]byte) {
			for i := range uint64(1000) {
				all = append(all, open(2*i+1))
			}
			return all
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				c := hostile(t, n)
				hello := wire.Append(nil, &wire.Hello{Versions: []uint64{wire.Version}})
				control := send(t, c, hello)
				cloud, err := n.Listener().Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range tt.send {
					if _, err := control.Write(b); err != nil {
						break
					}
				}
				<-cloud.Done()
				wantSessionError(t, cloud.Err(), wire.CodeProtocol, false)
				n.Pair("edge-1")
			})
		})
	}
}

// An edge that does not take the answer to its Hello keeps nobody from ending its session.
func TestSessionOfAnEdgeThatTakesNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		hello := &wire.Hello{Versions: []uint64{wire.Version}}
		control := send(t, hostile(t, n), wire.Append(nil, hello))
		cloud, err := n.Listener().Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for cloud.Err() == nil {
				_, _ = cloud.Accept(t.Context())
			}
		}()
		for i := range uint64(250) { // each makes the answer longer
			if _, err := control.Write(wire.Append(nil, &wire.StreamOpen{ID: 2*i + 1, Kind: wire.KindReport})); err != nil {
				t.Fatal(err)
			}
		}
		tunneltest.Pass(time.Second)
		limits := link.EdgeLimits(576)
		limits.StreamWindow = 1
		hello.Session, hello.Carrier = cloud.Welcome().Session, 1<<8
		send(t, hostileWithin(t, n, limits), append(wire.Append(nil, hello), wire.Append(nil, &wire.Resume{})...))
		tunneltest.Pass(time.Second)
		go cloud.Close(wire.CodeRevoked, "by the operator")
		tunneltest.Pass(time.Second)
		select {
		case <-cloud.Done():
		default:
			t.Error("the session has not ended after a second")
		}
	})
}

func TestListenerCloseTellsEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		_, edge := n.Pair("edge-1")
		go n.Listener().Close()
		<-edge.Done()
		wantSessionError(t, edge.Err(), wire.CodeGoingAway, true)
		if _, err := n.Listener().Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v, want net.ErrClosed", err)
		}
	})
}

// An edge need not wait for silence when the proxy that held its session was
// killed and has started again.
func TestRestartedCloudIsNoticedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		_, edge := n.Pair("edge-1")
		tunneltest.Pass(time.Minute)
		n.Restart()
		start := time.Now()
		edge.Check()
		<-edge.Done()
		// One to hear that the carrier is gone, one for a handshake, one for the answer
		// that the session is gone, too.
		if got := time.Since(start); got != 3*rtt {
			t.Errorf("noticed after %v, want %v", got, 3*rtt)
		}
		wantSessionError(t, edge.Err(), wire.CodeUnknownSession, true)
		n.Pair("edge-1")
	})
}

func TestBytesSurviveBurstsOfLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Loss: 0.05, Burst: 3, Seed: 3})
		cloud, edge := n.Pair("edge-1")
		st, err := cloud.Open(t.Context(), wire.KindKubelet)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 1<<20)
		for i := range want {
			want[i] = byte(i >> 8 * 7)
		}
		go func() {
			st.Write(want)
			st.CloseWrite()
		}()
		got, err := io.ReadAll(accept(t, edge))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Error("bytes differ")
		}
	})
}

func send(t *testing.T, c link.Conn, b []byte) link.Lane {
	t.Helper()
	lane, err := c.OpenLane(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lane.Write(b); err != nil {
		t.Fatal(err)
	}
	return lane
}
