package tunnel_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// doubtAfter and deadAfter are the contract: an edge looks for another carrier
// after max(1.5 s, 4 RTT + 0.5 s), and gives the old one up after twice that and
// two round trips.
func doubtAfter(rtt time.Duration) time.Duration {
	return max(1500*time.Millisecond, 4*rtt+500*time.Millisecond)
}

func deadAfter(rtt time.Duration) time.Duration { return 2*doubtAfter(rtt) + 2*rtt }

// detached waits until a session has no carrier.
func detached(s *tunnel.Session) {
	for {
		changed := s.Changed()
		if ok, _ := s.Attached(); !ok {
			return
		}
		<-changed
	}
}

func TestEdgeNoticesDeadPath(t *testing.T) {
	tests := []struct {
		name string
		rtt  time.Duration
		// before gets the session into the state in which the path breaks.
		before func(t *testing.T, cloud, edge *tunnel.Session)
		// after is what the edge does once it is broken; nil means nothing.
		after    func(t *testing.T, edge *tunnel.Session)
		min, max time.Duration
	}{
		{
			name: "a write on an idle line, 60 ms", rtt: 60 * time.Millisecond,
			before: idle, after: openAndWrite,
			min: deadAfter(60 * time.Millisecond), max: deadAfter(60 * time.Millisecond),
		},
		{
			name: "a write on an idle line, 600 ms", rtt: 600 * time.Millisecond,
			before: idle, after: openAndWrite,
			// The smoothed RTT has up to 25 ms of delayed acknowledgements in it.
			min: deadAfter(600 * time.Millisecond), max: deadAfter(625 * time.Millisecond),
		},
		{
			name: "an upload", rtt: 60 * time.Millisecond,
			before: upload,
			min:    deadAfter(60 * time.Millisecond), max: deadAfter(60*time.Millisecond) + 500*time.Millisecond,
		},
		{
			name: "the cloud waits for an answer", rtt: 60 * time.Millisecond,
			before: func(t *testing.T, cloud, edge *tunnel.Session) {
				t.Helper()
				if _, err := cloud.Open(t.Context(), wire.KindExec); err != nil {
					t.Fatal(err)
				}
				accept(t, edge)
				tunneltest.Pass(5 * time.Second)
			},
			min: deadAfter(60 * time.Millisecond), max: deadAfter(60*time.Millisecond) + 1200*time.Millisecond,
		},
		{
			name: "nothing goes on", rtt: 60 * time.Millisecond, before: idle,
			min: deadAfter(60 * time.Millisecond), max: 21*time.Second + 5*time.Second + deadAfter(60*time.Millisecond),
		},
		{
			name: "told to check", rtt: 60 * time.Millisecond, before: idle,
			after: func(_ *testing.T, edge *tunnel.Session) { edge.Check() },
			min:   deadAfter(60 * time.Millisecond), max: deadAfter(60 * time.Millisecond),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: tt.rtt})
				cloud, edge := n.Pair("edge-1")
				tt.before(t, cloud, edge)
				n.Outage(true)
				start := time.Now()
				if tt.after != nil {
					tt.after(t, edge)
				}
				detached(edge)
				if got := time.Since(start); got < tt.min || got > tt.max {
					t.Errorf("noticed after %v, want %v to %v", got, tt.min, tt.max)
				}
				if err := edge.Err(); err != nil {
					t.Errorf("the session ended with its carrier: %v", err)
				}
			})
		})
	}
}

// idle waits until nothing is under way, and for a time that is no multiple of
// any interval.
func idle(*testing.T, *tunnel.Session, *tunnel.Session) {
	tunneltest.Pass(63*time.Second + 17*time.Millisecond)
}

func openAndWrite(t *testing.T, edge *tunnel.Session) {
	t.Helper()
	st, err := edge.Open(t.Context(), wire.KindReport)
	if err != nil {
		t.Fatal(err)
	}
	write(t, st, "report")
}

// upload starts an endless upload and returns in the middle of it.
func upload(t *testing.T, cloud, edge *tunnel.Session) {
	t.Helper()
	st, err := edge.Open(t.Context(), wire.KindReport)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := st.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}()
	sink := accept(t, cloud)
	go io.Copy(io.Discard, sink)
	tunneltest.Pass(2*time.Second + 3*time.Millisecond)
}

func TestCloudNoticesVanishedEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, _ := n.Pair("edge-1")
		st, err := cloud.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		idle(t, nil, nil)
		n.Outage(true)
		start := time.Now()
		detached(cloud)
		if got := time.Since(start); got < 25*time.Second || got > 50*time.Second {
			t.Errorf("noticed after %v, want 25s to 50s", got)
		}
		lost := time.Now()
		_, err = st.Read(make([]byte, 1))
		wantSessionError(t, err, wire.CodeOffline, false)
		if got := time.Since(lost); got != 10*time.Minute {
			t.Errorf("the session ended %v after its carrier, want 10m", got)
		}
	})
}

func TestIdleSessionLivesAndIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		tunneltest.Pass(time.Minute)
		before := edge.Stats()
		tunneltest.Pass(24 * time.Hour)
		after := edge.Stats()
		if err := edge.Err(); err != nil {
			t.Fatalf("edge's session ended: %v", err)
		}
		if err := cloud.Err(); err != nil {
			t.Fatalf("cloud's session ended: %v", err)
		}
		packets := after.PacketsSent + after.PacketsReceived - before.PacketsSent - before.PacketsReceived
		bytes := after.BytesSent + after.BytesReceived - before.BytesSent - before.BytesReceived
		const udp = 28 // IPv4 and UDP headers
		total := bytes + packets*udp
		t.Logf("a day of nothing: %d packets, %d bytes with headers", packets, total)
		if total > 1e6 {
			t.Errorf("a day of nothing costs %d bytes, the budget is 1 MB", total)
		}
	})
}

// A path that loses packets is not a dead one. An hour of reports every two
// seconds must not end the session.
func TestLossIsNotDeath(t *testing.T) {
	for _, tt := range []struct {
		name string
		rtt  time.Duration
		loss float64
	}{
		{"1 %, 60 ms", 60 * time.Millisecond, 0.01},
		{"5 %, 300 ms", 300 * time.Millisecond, 0.05},
		{"10 %, 400 ms", 400 * time.Millisecond, 0.10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: tt.rtt, Seed: 7})
				cloud, edge := n.Pair("edge-1")
				st, err := edge.Open(t.Context(), wire.KindReport)
				if err != nil {
					t.Fatal(err)
				}
				write(t, st, "first")
				sink := accept(t, cloud)
				go io.Copy(io.Discard, sink)
				n.Loss(tt.loss)
				start := time.Now()
				for time.Since(start) < time.Hour && edge.Err() == nil {
					if _, err := st.Write(make([]byte, 100)); err != nil {
						break
					}
					tunneltest.Pass(2 * time.Second)
				}
				if err := edge.Err(); err != nil {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
			})
		})
	}
}
