package tunnel_test

import (
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// twoUplinks is an edge with a device beside the one that its routing table takes.
func twoUplinks(t *testing.T, n *tunneltest.Net) (cloud, edge *tunnel.Session) {
	t.Helper()
	cfg := n.Config("edge-1", 1)
	cfg.Detours = func([]net.Addr) []tunnel.Way { return []tunnel.Way{n.Uplink(1).Way("lte")} }
	edge, err := tunnel.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { edge.Close(wire.CodeOK, "end of test") })
	if cloud, err = n.Listener().Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cloud, edge
}

// pulse says something again and again and gives the longest wait for an answer since it
// was last asked.
func pulse(t *testing.T, cloud, edge *tunnel.Session, pause time.Duration) (longest func() time.Duration) {
	t.Helper()
	say := shell(t, cloud, edge)
	ask, stop := make(chan chan time.Duration), make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		var most time.Duration
		for {
			begin := time.Now()
			if fault := say(); fault != "" {
				select {
				case <-stop:
				default:
					t.Error(fault)
				}
				return
			}
			most = max(most, time.Since(begin))
			select {
			case answer := <-ask:
				answer <- most
				most = 0
			case <-time.After(pause):
			case <-stop:
				return
			}
		}
	}()
	return func() time.Duration {
		answer := make(chan time.Duration)
		ask <- answer
		return <-answer
	}
}

// until waits for the device that the session goes by.
func until(t *testing.T, edge *tunnel.Session, device string, patience time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	for edge.Stats().Device != device {
		if time.Since(begin) > patience {
			t.Fatalf("not by %q after %v", device, patience)
		}
		tunneltest.Pass(10 * time.Millisecond)
	}
	return time.Since(begin)
}

// An uplink dies without its device going down. The session takes the other one as
// soon as it has doubts and a handshake has passed, and comes back when the first one
// has been good for a while; nobody notices that.
func TestUplinkDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := twoUplinks(t, n)
		longest := pulse(t, cloud, edge, 20*time.Millisecond)
		tunneltest.Pass(10 * time.Second)
		n.Uplink(0).Outage(true)
		tunneltest.Pass(5 * time.Second)
		// Doubts (those that watch a busy peer ask each second), the table's advantage,
		// handshake, greeting, the bytes.
		if got, most := longest(), time.Second+doubtAfter(rtt)+250*time.Millisecond+3*rtt; got > most {
			t.Errorf("the stream stood still for %v, want at most %v", got, most)
		}
		if !n.Uplink(1).Has(cloud.Stats().RemoteAddr) || edge.Stats().Device != "lte" {
			t.Errorf("the edge is at %v by %q", cloud.Stats().RemoteAddr, edge.Stats().Device)
		}
		tunneltest.Pass(20 * time.Second)
		longest()
		n.Uplink(0).Outage(false)
		t.Logf("back after %v", until(t, edge, "", 2*time.Minute))
		tunneltest.Pass(time.Second)
		if got := longest(); got > 2*rtt+20*time.Millisecond {
			t.Errorf("the way back took a stream %v", got)
		}
		tunneltest.Pass(time.Minute)
		if got := cloud.Stats(); got.Links != 3 || got.Streams != 1 || !n.Uplink(0).Has(got.RemoteAddr) {
			t.Errorf("%d carriers, %d streams, the edge is at %v", got.Links, got.Streams, got.RemoteAddr)
		}
	})
}

// An uplink loses what comes back and nothing else: the cloud takes the carrier that
// can't be used, and refuses the others of the round. The next round begins with one of
// them.
func TestUplinkIsDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := twoUplinks(t, n)
		longest := pulse(t, cloud, edge, 20*time.Millisecond)
		tunneltest.Pass(10 * time.Second)
		longest()
		n.Uplink(0).Deaf(true)
		tunneltest.Pass(15 * time.Second)
		// As when it is dead, and the patience with the attempt that the cloud took.
		most := time.Second + doubtAfter(rtt) + 250*time.Millisecond + 4*rtt + time.Second + 2*rtt
		if got := longest(); got > most || edge.Stats().Device != "lte" {
			t.Errorf("the stream stood still for %v, want at most %v; the edge goes by %q", got, most, edge.Stats().Device)
		} else {
			t.Logf("the stream stood still for %v", got)
		}
		tunneltest.Pass(time.Minute)
		if got := edge.Stats().Links; got != 2 {
			t.Errorf("%d carriers, want 2", got)
		}
		n.Uplink(0).Deaf(false)
		until(t, edge, "", 5*time.Minute)
	})
}

// After an outage of all uplinks the session may come back by any of them, but it does
// not stay with a detour.
func TestOutageOfAllUplinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 600 * time.Millisecond
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := twoUplinks(t, n)
		longest := pulse(t, cloud, edge, 20*time.Millisecond)
		for range 5 {
			tunneltest.Pass(11 * time.Minute)
			n.Uplink(0).Move(false) // as a NAT that was started again
			n.Outage(true)
			tunneltest.Pass(time.Duration(rand.N(int64(20 * time.Second))))
			n.Outage(false)
			begin := time.Now()
			longest() // answers when the stream moves again
			if got, most := time.Since(begin), 2500*time.Millisecond+2*rtt+3*rtt; got > most {
				t.Errorf("%v after the outage, want at most %v", got, most)
			}
			until(t, edge, "", time.Minute)
		}
	})
}

// A way that comes and goes is taken less and less often.
func TestUplinkFlaps(t *testing.T) {
	for _, tt := range []struct {
		good, bad time.Duration
		most      uint64 // carriers in an hour
	}{
		{2 * time.Second, 2 * time.Second, 32},
		{20 * time.Second, 20 * time.Second, 12},
		{time.Minute, 10 * time.Second, 24},
		{5 * time.Minute, 10 * time.Second, 26},
	} {
		t.Run(tt.good.String()+" of "+(tt.good+tt.bad).String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				cloud, edge := twoUplinks(t, n)
				longest := pulse(t, cloud, edge, 500*time.Millisecond)
				for begin := time.Now(); time.Since(begin) < time.Hour; {
					n.Uplink(0).Outage(true)
					edge.Check() // as when its device goes down, too
					tunneltest.Pass(tt.bad)
					n.Uplink(0).Outage(false)
					edge.Check()
					tunneltest.Pass(tt.good)
				}
				if got := edge.Stats().Links; got > tt.most {
					t.Errorf("%d carriers in an hour, want at most %d", got, tt.most)
				}
				t.Logf("%d carriers, longest wait %v", edge.Stats().Links, longest())
			})
		})
	}
}

// An address changes below a living carrier: one round trip after the edge has been
// told, the cloud sends to the new one. When the former one still works, nothing
// waits at all.
func TestAddressChanges(t *testing.T) {
	for _, tt := range []struct {
		name string
		both bool
		most time.Duration
	}{
		// The question that was lost, the edge's packet, the cloud's challenge, the
		// answer; quic-go probes for the loss after about two round trips more.
		{"break before make", false, 6 * rtt},
		{"make before break", true, rtt + time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				cloud, edge := n.Pair("edge-1")
				n.Uplink(0).Outage(false)
				longest := pulse(t, cloud, edge, 20*time.Millisecond)
				tunneltest.Pass(10 * time.Second)
				longest()
				for i := range uint64(5) {
					begin, before := time.Now(), cloud.Stats().RemoteAddr
					n.Uplink(0).Move(tt.both)
					edge.Check()
					for cloud.Stats().RemoteAddr == before {
						tunneltest.Pass(time.Millisecond)
					}
					// To the cloud, the challenge, its answer.
					if got, most := time.Since(begin), rtt*3/2+2*time.Millisecond; got > most {
						t.Errorf("the cloud went along after %v, want %v", got, most)
					}
					tunneltest.Pass(2 * time.Second)
					got := longest()
					t.Logf("longest wait %v", got)
					if got > tt.most {
						t.Errorf("a stream waited %v, want at most %v", got, tt.most)
					}
					if got := cloud.Stats(); got.Migrations != i+1 || got.Links != 1 {
						t.Errorf("%d migrations, %d carriers, want %d and 1", got.Migrations, got.Links, i+1)
					}
				}
			})
		})
	}
}

// A silent edge's change is seen as well: being told is enough.
func TestIdleAddressChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		n.Uplink(0).Outage(false)
		idle(t, nil, nil)
		n.Uplink(0).Move(false)
		edge.Check()
		tunneltest.Pass(rtt * 3 / 2)
		st, err := cloud.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		io.WriteString(st, "hi")
		far := accept(t, edge)
		io.ReadFull(far, make([]byte, 2))
		if got := time.Since(begin); got > rtt/2 {
			t.Errorf("the cloud's bytes took %v, want half of %v", got, rtt)
		}
		if got := cloud.Stats().Migrations; got != 1 {
			t.Errorf("%d migrations, want 1", got)
		}
	})
}

// The address changes while the session begins. The cloud has taken an attempt whose
// answer goes to the former address, and follows no client before the handshake is
// confirmed (RFC 9000, section 9): those that begin with the news must not be refused
// for it.
func TestAddressChangesInFullFlight(t *testing.T) {
	const rtt = 600 * time.Millisecond
	for _, tt := range []struct {
		name         string
		ticket, both bool
	}{
		{"new", false, false},
		{"with a ticket", true, false},
		{"new, and the former address works", false, true},
	} {
		for after := time.Duration(0); after <= 4*rtt; after += rtt / 6 {
			t.Run(tt.name+" "+after.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
					serveEchoes(t, n)
					n.Uplink(0).Outage(false)
					cfg := n.Config("edge-1", 1)
					if tt.ticket {
						s, err := tunnel.Dial(t.Context(), cfg)
						if err != nil {
							t.Fatal(err)
						}
						tunneltest.Pass(3 * time.Second)
						s.Close(wire.CodeOK, "")
						cfg.Hello.Seq++
					}
					// When the news finds the handshake done, two round trips are still to come.
					if got, most := longestEcho(t, n, cfg, after, tt.both), 7*rtt/2+20*time.Millisecond; got > most {
						t.Errorf("a stream waited %v, want at most %v", got, most)
					}
				})
			})
		}
	}
}

// longestEcho begins a session whose address changes after a while, and gives the longest
// wait for an answer.
func longestEcho(t *testing.T, n *tunneltest.Net, cfg tunnel.DialConfig, after time.Duration, both bool) (longest time.Duration) {
	t.Helper()
	s, err := tunnel.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(wire.CodeOK, "")
	st, err := s.Open(t.Context(), wire.KindExec)
	if err != nil {
		t.Fatal(err)
	}
	go s.Dial(t.Context())
	go func() {
		tunneltest.Pass(after)
		n.Uplink(0).Move(both)
		s.Check()
	}()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); tunneltest.Pass(20 * time.Millisecond) {
		begin := time.Now()
		io.WriteString(st, "hi")
		if _, err := io.ReadFull(st, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(begin))
	}
	return longest
}
