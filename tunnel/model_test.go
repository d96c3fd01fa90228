package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

var (
	modelSeeds = flag.Int("seeds", 100, "schedules that TestModel plays")
	modelSeed  = flag.Uint64("seed", 0, "the one schedule that TestModel plays")
)

// TestModel plays random schedules: streams of both sides carry random bytes,
// while the network loses packets, goes away, and changes the edge's address.
// What comes out must be what went in, in order and once, to its end. A schedule
// that fails is played again with -seed.
func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		synctest.Test(t, func(t *testing.T) { play(t, *modelSeed) })
		return
	}
	for i := range *modelSeeds {
		seed := uint64(i + 1)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, seed) })
		}) && i > 20 {
			return
		}
	}
}

// play is one schedule.
func play(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	rtt := time.Duration(5+r.IntN(300)) * time.Millisecond
	tcp := r.IntN(2) == 0
	opt := tunneltest.Options{TCP: tcp, RTT: rtt, Loss: float64(r.IntN(3)) / 50, Burst: float64(r.IntN(3)), Seed: seed}
	// As much as any stream has, or a little more, or more than all need.
	memory := []int64{384 << 10, 768 << 10, 8 << 20}
	here, there := memory[r.IntN(3)], memory[r.IntN(3)]
	opt.Listen = func(c *tunnel.ListenConfig) { c.MaxMemory = here }
	opt.Dial = func(c *tunnel.DialConfig) { c.MaxMemory, c.Packets = there, seed%2 == 0 }
	n := tunneltest.New(t, opt)
	cloud, edge := n.Pair("edge-1")
	ctx, cancel := context.WithCancel(t.Context())
	var wg, served sync.WaitGroup
	for _, s := range []*tunnel.Session{cloud, edge} {
		served.Go(func() {
			for {
				st, err := s.Accept(ctx)
				if err != nil {
					return
				}
				served.Go(func() { serve(t, st) })
			}
		})
	}
	for i := range 2 + r.IntN(4) {
		from := cloud
		if i%2 == 1 {
			from = edge
		}
		echo(t, &wg, r.Uint64(), from)
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	faults := 1 + r.IntN(4)
	for range faults {
		select {
		case <-done:
		case <-time.After(time.Duration(r.IntN(1500)) * time.Millisecond):
			fault(r, n, edge, tcp)
		}
	}
	n.Loss(0)
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		t.Fatalf("seed %d: streams hang; edge %v, cloud %v; %+v\ncloud%s\nedge%s", seed, edge.Err(), cloud.Err(), edge.Stats(), cloud.Left(), edge.Left())
	}
	tunneltest.Pass(30 * time.Second)
	cancel()
	served.Wait()
	if c, e := cloud.Stats(), edge.Stats(); c.Streams != 0 || e.Streams != 0 || c.Buffered != 0 || e.Buffered != 0 {
		t.Errorf("seed %d: cloud still has %d streams and %d bytes, the edge %d and %d\ncloud%s\nedge%s",
			seed, c.Streams, c.Buffered, e.Streams, e.Buffered, cloud.Left(), edge.Left())
	}
	if t.Failed() {
		t.Logf("seed %d: go test -run TestModel ./tunnel -seed %d", seed, seed)
	}
}

// fault breaks something and mends it.
func fault(r *rand.Rand, n *tunneltest.Net, edge *tunnel.Session, tcp bool) {
	kinds := 4
	if tcp {
		kinds++
	}
	switch r.IntN(kinds) {
	case 0: // long enough to be noticed, mostly
		n.Outage(true)
		tunneltest.Pass(time.Duration(r.IntN(20000)) * time.Millisecond)
		n.Outage(false)
	case 1: // too short for that, mostly
		n.Outage(true)
		tunneltest.Pass(time.Duration(r.IntN(2000)) * time.Millisecond)
		n.Outage(false)
	case 2:
		n.Loss(0.3)
		tunneltest.Pass(time.Duration(r.IntN(5000)) * time.Millisecond)
		n.Loss(0.02)
	case 3: // twice, the second in the middle of the resume
		n.Outage(true)
		tunneltest.Pass(time.Duration(2000+r.IntN(5000)) * time.Millisecond)
		n.Outage(false)
		tunneltest.Pass(time.Duration(r.IntN(1000)) * time.Millisecond)
		n.Outage(true)
		tunneltest.Pass(time.Duration(r.IntN(5000)) * time.Millisecond)
		n.Outage(false)
	case 4:
		n.BlockUDP(true)
		tunneltest.Pass(time.Duration(r.IntN(20000)) * time.Millisecond)
		n.BlockUDP(false)
	}
	if r.IntN(2) == 0 {
		edge.Check()
	}
}

// echo opens one stream, sends random bytes both ways and half-closes, or resets
// it in the middle.
func echo(t *testing.T, wg *sync.WaitGroup, seed uint64, from *tunnel.Session) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 3))
	ask, answer := random(r), random(r)
	how := []string{"reset", "leave", "slow", "", "", ""}[r.IntN(6)]
	pauses := r.IntN(2) == 0
	kind := []wire.Kind{wire.KindExec, wire.KindKubelet}[r.IntN(2)]
	st, err := from.Open(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		defer st.Close()
		head := fmt.Appendf(nil, "%016x%08d%08d%s\n", seed, len(ask), len(answer), how)
		switch how {
		case "reset":
			st.Write(append(head, ask...))
			tunneltest.Pass(time.Duration(r.IntN(3000)) * time.Millisecond)
			st.Reset(wire.CodeBadRequest)
			return
		case "leave": // without a look at the answer; the question must arrive
			if err := pour(st, append(head, ask...), pauses); err != nil {
				t.Errorf("write: %v", err)
			}
			return
		}
		var both sync.WaitGroup
		both.Go(func() {
			if err := pour(st, append(head, ask...), pauses); err != nil {
				t.Errorf("write: %v", err)
			}
			if err := st.CloseWrite(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		got, err := readAllOf(st, how == "slow")
		if err != nil || !bytes.Equal(got, answer) {
			t.Errorf("%d bytes of answer and %v, want %d", len(got), err, len(answer))
		}
		both.Wait()
	})
}

// serve takes a stream of echo's, whichever it is.
func serve(t *testing.T, st *tunnel.Stream) {
	t.Helper()
	defer st.Close()
	var seed uint64
	var asked, answered int
	head := make([]byte, 16+8+8)
	_, err := io.ReadFull(st, head)
	if err == nil {
		_, err = fmt.Sscanf(string(head), "%16x%8d%8d", &seed, &asked, &answered)
	}
	var word []byte
	for b := make([]byte, 1); err == nil && b[0] != '\n'; {
		if _, err = io.ReadFull(st, b); err == nil {
			word = append(word, b[0])
		}
	}
	how := strings.TrimSpace(string(word))
	if err != nil {
		if e, ok := errors.AsType[*tunnel.StreamError](err); !ok || e.Code != wire.CodeBadRequest {
			t.Errorf("head: %v", err)
		}
		return
	}
	r := rand.New(rand.NewPCG(seed, 3))
	ask, answer := random(r), random(r)
	var both sync.WaitGroup
	both.Go(func() {
		err := pour(st, answer, seed%2 == 0)
		e, ok := errors.AsType[*tunnel.StreamError](err)
		left := how == "leave" && ok && e.Code == wire.CodeCanceled && e.Remote
		if err != nil && !left && how != "reset" {
			t.Errorf("write answer: %v", err)
		}
		st.CloseWrite()
	})
	got, err := readAllOf(st, how == "slow")
	both.Wait()
	if e, ok := errors.AsType[*tunnel.StreamError](err); how == "reset" && ok && e.Code == wire.CodeBadRequest && e.Remote {
		if !bytes.HasPrefix(ask, got) {
			t.Errorf("bytes before the reset differ")
		}
		return
	}
	if err != nil || !bytes.Equal(got, ask) {
		t.Errorf("%d bytes of question and %v, want %d; %s", len(got), err, len(ask), how)
	}
}

// readAllOf is io.ReadAll for those who have time.
func readAllOf(r io.Reader, slowly bool) ([]byte, error) {
	if !slowly {
		return io.ReadAll(r)
	}
	var all []byte
	for b := make([]byte, 5000); ; {
		n, err := r.Read(b)
		all = append(all, b[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, err
		}
		tunneltest.Pass(20 * time.Millisecond)
	}
}

// pour writes b in pieces.
func pour(w io.Writer, b []byte, pauses bool) error {
	for len(b) > 0 {
		n := min(len(b), 1+len(b)/5)
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		if pauses {
			tunneltest.Pass(100 * time.Millisecond)
		}
	}
	return nil
}

// random is up to half a megabyte, mostly much less.
func random(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(1<<r.IntN(20)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
