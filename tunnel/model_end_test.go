package tunnel_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// TestModelEnd plays schedules that end in the middle: one side closes its session
// while streams begin, wait, and end, whatever the network does. Nobody may be left
// waiting, and nothing be left taken.
func TestModelEnd(t *testing.T) {
	for i := range max(*modelSeeds/6, 1) {
		seed := uint64(i + 1)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playToEnd(t, seed) })
		}) {
			return
		}
	}
}

func playToEnd(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 4))
	tcp := r.IntN(2) == 0
	n := tunneltest.New(t, tunneltest.Options{
		Dial: func(cfg *tunnel.DialConfig) { cfg.Packets = seed%2 == 0 },
		TCP:  tcp, RTT: time.Duration(5+r.IntN(300)) * time.Millisecond, Loss: float64(r.IntN(3)) / 50, Seed: seed,
		Listen: func(c *tunnel.ListenConfig) { c.Grace = 20 * time.Second },
	})
	cloud, edge := n.Pair("edge-1")
	var wg sync.WaitGroup
	for _, s := range []*tunnel.Session{cloud, edge} {
		wg.Go(func() { // the peer's streams
			for {
				st, err := s.Accept(t.Context())
				if err != nil {
					return
				}
				wg.Go(func() {
					io.Copy(st, st)
					st.Close()
				})
			}
		})
		for range 3 {
			mine := rand.New(rand.NewPCG(r.Uint64(), 5))
			wg.Go(func() {
				for useAndLeave(t, mine, s) {
				}
			})
		}
	}
	for range 1 + r.IntN(3) {
		tunneltest.Pass(time.Duration(r.IntN(3000)) * time.Millisecond)
		fault(r, n, edge, tcp)
	}
	if r.IntN(2) == 0 {
		n.Outage(true)
	}
	tunneltest.Pass(time.Duration(r.IntN(3000)) * time.Millisecond)
	first, other := cloud, edge
	if r.IntN(2) == 0 {
		first, other = edge, cloud
	}
	first.Close(wire.CodeRevoked, "in the middle")
	n.Outage(false)
	select {
	case <-other.Done():
	case <-time.After(2 * time.Minute):
		t.Errorf("seed %d: one side has ended, the other has not: %+v", seed, other.Stats())
		other.Close(wire.CodeOK, "end of test")
	}
	wg.Wait()
	if c, e := cloud.Stats(), edge.Stats(); c.Streams != 0 || e.Streams != 0 || c.Buffered != 0 || e.Buffered != 0 {
		t.Errorf("seed %d: cloud still has %d streams and %d bytes, the edge %d and %d", seed, c.Streams, c.Buffered, e.Streams, e.Buffered)
	}
}

// useAndLeave opens a stream and does something with it. It reports whether the
// session lives.
func useAndLeave(t *testing.T, r *rand.Rand, s *tunnel.Session) bool {
	t.Helper()
	kind := []wire.Kind{wire.KindExec, wire.KindKubelet}[r.IntN(2)]
	st, err := s.Open(t.Context(), kind)
	if err != nil {
		return s.Err() == nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer st.Close()
	if r.IntN(2) == 0 {
		st.SetDeadline(time.Now().Add(time.Duration(r.IntN(20000)) * time.Millisecond))
	}
	switch b := random(r); r.IntN(4) {
	case 0:
		st.Write(b)
		io.Copy(io.Discard, io.LimitReader(st, int64(len(b))))
	case 1:
		wg.Go(func() { st.Write(b) })
		tunneltest.Pass(time.Duration(r.IntN(500)) * time.Millisecond)
	case 2:
		wg.Go(func() { io.Copy(io.Discard, st) })
		st.Write(b)
		st.CloseWrite()
		tunneltest.Pass(time.Duration(r.IntN(500)) * time.Millisecond)
	case 3:
		wg.Go(func() { st.Write(b) })
		tunneltest.Pass(time.Duration(r.IntN(500)) * time.Millisecond)
		st.Reset(wire.CodeBadRequest)
	}
	return true
}
