package tunnel_test

import (
	"bufio"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// shell is a stream with somebody who types at one end and a machine that says it
// back at the other.
func shell(t *testing.T, cloud, edge *tunnel.Session) (say func() string) {
	t.Helper()
	st, err := cloud.Open(t.Context(), wire.KindExec)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(st)
	far := accept(t, edge)
	go func() {
		io.Copy(far, far)
		far.CloseWrite()
	}()
	n := 0
	return func() string {
		n++
		line := fmt.Sprintf("line %d\n", n)
		if _, err := io.WriteString(st, line); err != nil {
			return err.Error()
		}
		got, err := lines.ReadString('\n')
		switch {
		case err != nil:
			return err.Error()
		case got != line:
			return fmt.Sprintf("%q instead of %q", got, line)
		}
		return ""
	}
}

// A terminal lives through outages of any length below the grace time, and goes
// on soon after: at the next attempt, which comes each 2 s (1.5 to 2.5), and
// three round trips: handshake, greeting, the bytes.
func TestOutage(t *testing.T) {
	for _, outage := range []time.Duration{time.Second, 10 * time.Second, 60 * time.Second, 300 * time.Second, 590 * time.Second} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				cloud, edge := n.Pair("edge-1")
				say := shell(t, cloud, edge)
				if fault := say(); fault != "" {
					t.Fatal(fault)
				}
				n.Outage(true)
				var mended time.Time
				go func() {
					tunneltest.Pass(outage)
					mended = time.Now()
					n.Outage(false)
				}()
				if fault := say(); fault != "" {
					t.Fatal(fault)
				}
				if got, most := time.Since(mended), 2500*time.Millisecond+3*rtt; got > most {
					t.Errorf("%v after the network was back, want at most %v", got, most)
				}
				if got := edge.Stats(); got.Resumes == 0 && outage > 5*time.Second || edge.Err() != nil {
					t.Errorf("%d resumes, %v", got.Resumes, edge.Err())
				}
			})
		})
	}
}

func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Listen: func(c *tunnel.ListenConfig) { c.Grace = time.Minute }})
		cloud, edge := n.Pair("edge-1")
		st, err := cloud.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		far := accept(t, edge)
		idle(t, nil, nil)
		n.Outage(true)
		edge.Check()
		detached(edge)
		start := time.Now()
		_, err = far.Read(make([]byte, 1))
		wantSessionError(t, err, wire.CodeOffline, false)
		if got := time.Since(start); got < time.Minute || got > time.Minute+2*time.Second {
			t.Errorf("the edge waited %v for a carrier, want the cloud's 1m", got)
		}
		_, err = st.Read(make([]byte, 1))
		wantSessionError(t, err, wire.CodeOffline, false)
		if _, err := edge.Open(t.Context(), wire.KindReport); err == nil {
			t.Error("a session that has ended opens streams")
		}
	})
}

// The carrier is replaced while it is only slow: what arrives late by the old one
// does no harm, and the session stays with one of them.
func TestSlowCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		say := shell(t, cloud, edge)
		for i := range 20 {
			n.Outage(true)
			tunneltest.Pass(time.Duration(i) * 200 * time.Millisecond)
			n.Outage(false)
			if fault := say(); fault != "" {
				t.Fatal(fault)
			}
		}
		if edge.Err() != nil || cloud.Err() != nil {
			t.Error(edge.Err(), cloud.Err())
		}
	})
}

// Nobody else's session can be taken over, whatever is said in Hello.
func TestForeignSessionIsNotResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		c := hostile(t, n) // its certificate is another edge's
		send(t, c, wire.Append(wire.Append(nil, &wire.Hello{
			Versions: []uint64{wire.Version}, Session: edge.Welcome().Session, Carrier: 9,
		}), &wire.Resume{}))
		<-c.Done()
		tunneltest.Pass(time.Second)
		if fault := shell(t, cloud, edge)(); fault != "" {
			t.Error(fault)
		}
		if got := cloud.Stats().Links; got != 1 {
			t.Errorf("the session has had %d carriers", got)
		}
	})
}

// Where UDP is blocked the session goes by TCP, and back to QUIC when it can,
// without a stream noticing.
func TestUDPBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, TCP: true})
		n.BlockUDP(true)
		start := time.Now()
		cloud, edge := n.Pair("edge-1")
		// TCP's handicap, and one round trip each for TCP, TLS and Welcome.
		if got, want := time.Since(start), 300*time.Millisecond+3*rtt; got != want {
			t.Errorf("a session after %v, want %v", got, want)
		}
		say := shell(t, cloud, edge)
		for _, link := range []string{"tls", "quic", "tls", "quic"} {
			n.BlockUDP(link == "tls")
			start := time.Now()
			for edge.Stats().Link != link {
				if fault := say(); fault != "" {
					t.Fatal(fault)
				}
				tunneltest.Pass(100 * time.Millisecond)
				if time.Since(start) > 5*time.Minute {
					t.Fatalf("still %s after 5m", edge.Stats().Link)
				}
			}
			t.Logf("%s after %v", link, time.Since(start))
			tunneltest.Pass(time.Minute)
		}
		if fault := say(); fault != "" {
			t.Error(fault)
		}
		if got := cloud.Stats().Links; got < 4 || got > 6 {
			t.Errorf("%d carriers", got)
		}
	})
}

// A session with TCP beside it starts and stays with QUIC.
func TestQUICWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: 600 * time.Millisecond, TCP: true})
		for range 5 {
			_, edge := n.Pair("edge-1")
			tunneltest.Pass(10 * time.Second)
			if got := edge.Stats(); got.Link != "quic" || got.Links != 1 {
				t.Errorf("%s, %d carriers", got.Link, got.Links)
			}
		}
	})
}

// A resume takes one round trip from the dial to the cloud's bytes, since Hello
// leaves with the first packet.
func TestResumeTakesOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 600 * time.Millisecond
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		st, err := cloud.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		far := accept(t, edge)
		tunneltest.Pass(5 * time.Second)
		n.Outage(true)
		edge.Check()
		detached(edge)
		if _, err := io.WriteString(st, "down"); err != nil {
			t.Fatal(err)
		}
		tunneltest.Pass(30 * time.Second)
		n.Outage(false)
		tunneltest.Pass(3 * time.Second) // attempts that were under way are over
		if got := edge.Stats(); !got.Attached || got.Resumes != 1 {
			t.Fatalf("%+v", got)
		}
		if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		n.Outage(true)
		edge.Check()
		detached(edge)
		n.Outage(false)
		if _, err := io.WriteString(st, "more"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		edge.Check() // begins an attempt now
		if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != rtt {
			t.Errorf("the cloud's bytes came %v after the dial, want %v", got, rtt)
		}
	})
}

// Whichever packet of a resume is lost, both ends of the terminal go on.
func TestAnyPacketOfAResumeIsLost(t *testing.T) {
	for nth := range 60 {
		synctest.Test(t, func(t *testing.T) {
			n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
			cloud, edge := n.Pair("edge-1")
			down, up := shell(t, cloud, edge), shell(t, edge, cloud)
			for _, say := range []func() string{down, up} {
				if fault := say(); fault != "" {
					t.Fatal(fault)
				}
			}
			n.Outage(true)
			edge.Check()
			detached(edge)
			n.LoseOne(nth + 1)
			n.Outage(false)
			start := time.Now()
			for _, say := range []func() string{down, up} {
				if fault := say(); fault != "" {
					t.Fatalf("packet %d: %s", nth+1, fault)
				}
			}
			if got := time.Since(start); got > 5*time.Second {
				t.Errorf("packet %d: it took %v", nth+1, got)
			}
			if got := edge.Stats(); got.Resumes == 0 || edge.Err() != nil {
				t.Errorf("packet %d: %d resumes, %v", nth+1, got.Resumes, edge.Err())
			}
		})
	}
}
