package uplinks_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// slack is for a busy machine, on top of what the protocol takes.
const slack = 700 * time.Millisecond

// pair makes a session over the emulated links, with the kernel's news of them.
func pair(t *testing.T) (cloud, edge *tunnel.Session) {
	t.Helper()
	restore(t)
	n := tunneltest.New(t, tunneltest.Options{Listen: func(c *tunnel.ListenConfig) {
		c.PacketConn.Close()
		inCloud(t, func() (err error) {
			if c.PacketConn, err = link.ListenUDP(7443); err != nil {
				return err
			}
			c.Listener, err = link.ListenTCP(t.Context(), ":7443")
			return err
		})
	}})
	cfg := n.Config("edge-1", 1)
	cfg.Address, cfg.PacketConn, cfg.DialTCP = cloudAddr+":7443", nil, nil
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	edge, err := tunnel.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { edge.Close(wire.CodeOK, "end of test") })
	if cloud, err = n.Listener().Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error)
	go func() { watched <- uplink.WatchNetwork(ctx, edge.Check) }()
	t.Cleanup(func() {
		cancel()
		<-watched
	})
	return cloud, edge
}

// traffic is a terminal with somebody who types all the time, and a transfer each
// way. Every byte is checked.
type traffic struct {
	t       *testing.T
	longest atomic.Int64 // wait for an answer
	bytes   [2]atomic.Int64
	stop    chan struct{}
	ended   chan error
}

func start(t *testing.T, cloud, edge *tunnel.Session) *traffic {
	t.Helper()
	f := &traffic{t: t, stop: make(chan struct{}), ended: make(chan error, 8)}
	terminal, far := open(t, cloud, edge, wire.KindExec)
	go func() {
		io.Copy(far, far)
		far.CloseWrite()
	}()
	go func() { f.ended <- f.talk(terminal) }()
	up, upEnd := open(t, edge, cloud, wire.KindReport)
	down, downEnd := open(t, cloud, edge, wire.KindKubelet)
	for i, ends := range [][2]*tunnel.Stream{{up, upEnd}, {down, downEnd}} {
		go func() { f.ended <- f.send(ends[0]) }()
		go func() { f.ended <- f.check(ends[1], &f.bytes[i]) }()
	}
	return f
}

func open(t *testing.T, from, to *tunnel.Session, kind wire.Kind) (near, far *tunnel.Stream) {
	t.Helper()
	near, err := from.Open(t.Context(), kind)
	if err == nil {
		far, err = to.Accept(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func (f *traffic) talk(st *tunnel.Stream) error {
	defer st.CloseWrite()
	answers := bufio.NewReader(st)
	for i := 0; ; i++ {
		select {
		case <-f.stop:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		begin := time.Now()
		want := fmt.Sprintf("line %d\n", i)
		io.WriteString(st, want)
		if got, err := answers.ReadString('\n'); got != want {
			return errors.Join(fmt.Errorf("terminal: %q instead of %q", got, want), err)
		}
		f.longest.Store(max(f.longest.Load(), int64(time.Since(begin))))
	}
}

// block is the bytes at a place of a transfer.
func block(i uint64) []byte {
	b := make([]byte, 0, 4096)
	for range cap(b) / 8 {
		b = binary.BigEndian.AppendUint64(b, i*0x9e3779b97f4a7c15)
		i++
	}
	return b
}

// send says about 4 Mbit/s, so that the terminal's waits are the carriers' own.
func (f *traffic) send(st *tunnel.Stream) error {
	defer st.CloseWrite()
	for i := uint64(0); ; i++ {
		select {
		case <-f.stop:
			return nil
		case <-time.After(8 * time.Millisecond):
		}
		if _, err := st.Write(block(i)); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
}

func (f *traffic) check(st *tunnel.Stream, n *atomic.Int64) error {
	got := make([]byte, 4096)
	for i := uint64(0); ; i++ {
		switch _, err := io.ReadFull(st, got); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case !bytes.Equal(got, block(i)):
			return fmt.Errorf("wrong bytes in block %d", i)
		}
		n.Add(4096)
	}
}

// worst is the longest wait for an answer since the last call.
func (f *traffic) worst() time.Duration { return time.Duration(f.longest.Swap(0)) }

// end checks that all has arrived.
func (f *traffic) end() {
	f.t.Helper()
	close(f.stop)
	for range 5 {
		select {
		case err := <-f.ended:
			if err != nil {
				f.t.Error(err)
			}
		case <-time.After(30 * time.Second):
			f.t.Fatal("the streams do not end")
		}
	}
	f.t.Logf("%d bytes up, %d down", f.bytes[0].Load(), f.bytes[1].Load())
}

// eventually waits for what must become true.
func eventually(t *testing.T, what string, patience time.Duration, ok func() bool) {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > patience {
			t.Fatalf("not %s after %v", what, patience)
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Logf("%s after %v", what, time.Since(begin).Round(10*time.Millisecond))
}

func wait(d time.Duration) { <-time.After(d) }

// The preferred uplink is dead further up: its device, address and route stay.
func TestDeadUpstream(t *testing.T) {
	cloud, edge := pair(t)
	f := start(t, cloud, edge)
	wait(2 * time.Second)
	if got := f.worst(); got > slack {
		t.Errorf("waits of %v before anything happens", got)
	}
	setLink(t, 0, "set outage=1")
	eventually(t, "by sku1", 10*time.Second, func() bool { return edge.Stats().Device == "sku1" })
	wait(time.Second)
	// Doubts, the table's advantage, handshake, greeting, the bytes.
	const rtt = 80 * time.Millisecond
	if got, most := f.worst(), 1500*time.Millisecond+250*time.Millisecond+4*rtt+slack; got > most {
		t.Errorf("the terminal stood still for %v, want at most %v", got, most)
	} else {
		t.Logf("the terminal stood still for %v", got)
	}
	if got := cloud.Stats(); !inUplink(got.RemoteAddr, 1) {
		t.Errorf("the edge is at %v", got.RemoteAddr)
	}
	wait(3 * time.Second)
	f.worst()
	setLink(t, 0, "set outage=0")
	eventually(t, "back", time.Minute, func() bool { return edge.Stats().Device == "" })
	wait(time.Second)
	if got := f.worst(); got > 3*rtt+slack {
		t.Errorf("the way back took %v", got)
	} else {
		t.Logf("the way back took %v", got)
	}
	f.end()
	if got := cloud.Stats(); got.Links != 3 || !inUplink(got.RemoteAddr, 0) {
		t.Errorf("%d carriers, the edge is at %v", got.Links, got.RemoteAddr)
	}
}

// The same where UDP is blocked: the session goes by TCP, then by TCP on the other
// uplink, and back.
func TestDeadUpstreamOverTCP(t *testing.T) {
	cloud, edge := pair(t)
	f := start(t, cloud, edge)
	for i := range 2 {
		setLink(t, i, "set udpblock=1")
	}
	eventually(t, "over TCP", 10*time.Second, func() bool { return edge.Stats().Link == link.KindTLS })
	wait(time.Second)
	setLink(t, 0, "set outage=1")
	eventually(t, "over TCP by sku1", 15*time.Second, func() bool {
		s := edge.Stats()
		return s.Link == link.KindTLS && s.Device == "sku1"
	})
	setLink(t, 1, "set udpblock=0")
	eventually(t, "over QUIC by sku1", time.Minute, func() bool { return edge.Stats().Link == link.KindQUIC })
	setLink(t, 0, "set outage=0")
	eventually(t, "over TCP by sku0", time.Minute, func() bool {
		s := edge.Stats()
		return s.Link == link.KindTLS && s.Device == ""
	})
	setLink(t, 0, "set udpblock=0")
	eventually(t, "over QUIC by sku0", 2*time.Minute, func() bool {
		s := edge.Stats()
		return s.Link == link.KindQUIC && s.Device == ""
	})
	f.end()
}

// Addresses and routes come and go below one carrier, which follows each time.
func TestAddressesChange(t *testing.T) {
	cloud, edge := pair(t)
	f := start(t, cloud, edge)
	wait(time.Second)
	for i, tt := range []struct {
		name   string
		lines  []string
		uplink int
		most   time.Duration
	}{
		{"another address, the former one stays", []string{
			"ip addr add 10.213.0.3/32 dev sku0",
			"ip route replace default via 10.213.0.1 dev sku0 metric 100 src 10.213.0.3",
		}, 0, 3 * 40 * time.Millisecond},
		{"the address goes, and its route with it", []string{"ip addr del 10.213.0.3/32 dev sku0"}, 1, 4 * 80 * time.Millisecond},
		{"the route comes back, with the first address", []string{
			"ip route replace default via 10.213.0.1 dev sku0 metric 100",
		}, 0, 3 * 80 * time.Millisecond},
		{"the cable is pulled", []string{"ip link set sku0 down"}, 1, 4 * 80 * time.Millisecond},
		{"the cable is plugged in", []string{
			"ip link set sku0 up",
			"ip route replace default via 10.213.0.1 dev sku0 metric 100",
		}, 0, 3 * 80 * time.Millisecond},
		{"the metrics change", []string{"ip route add default via 10.213.1.1 dev sku1 metric 50"}, 1, 3 * 80 * time.Millisecond},
	} {
		f.worst()
		before := cloud.Stats().RemoteAddr
		must(t, tt.lines...)
		eventually(t, tt.name, 5*time.Second, func() bool {
			now := cloud.Stats().RemoteAddr
			return now != before && inUplink(now, tt.uplink)
		})
		wait(2 * time.Second)
		if got := f.worst(); got > tt.most+slack {
			t.Errorf("%s: the terminal waited %v, want at most %v", tt.name, got, tt.most+slack)
		} else {
			t.Logf("%s: the terminal waited %v", tt.name, got)
		}
		if got := cloud.Stats(); got.Links != 1 || got.Migrations != uint64(i+1) {
			t.Errorf("%s: %d carriers, %d migrations", tt.name, got.Links, got.Migrations)
		}
	}
	f.worst()
	must(t, // two seconds without any address
		"ip addr flush dev sku0", "ip addr flush dev sku1")
	wait(2 * time.Second)
	restore(t)
	eventually(t, "an answer", 10*time.Second, func() bool { return f.longest.Load() > 0 })
	t.Logf("2 s without any address: the terminal waited %v", f.worst())
	f.end()
	if err := edge.Err(); err != nil {
		t.Error(err)
	}
}
