package tunnel_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// carry sends bytes by a stream that one side opens, and fails unless they come out.
func carry(t *testing.T, from, to *tunnel.Session, kind wire.Kind, n int) (took time.Duration) {
	t.Helper()
	st, err := from.Open(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(want)
	begin := time.Now()
	go func() {
		_, _ = st.Write(want)
		_ = st.CloseWrite()
	}()
	got, err := io.ReadAll(accept(t, to))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes, %v", len(got), n, err)
	}
	return time.Since(begin)
}

// On a link that loses packets bulk is no slower for it than the loss itself makes it:
// one QUIC connection takes minutes for this.
func TestBulkInSpiteOfLoss(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  tunneltest.Options
		most time.Duration
	}{
		{"1 %, 60 ms", tunneltest.Options{RTT: 60 * time.Millisecond, Loss: 0.01}, 3 * time.Second},
		{"5 %, 300 ms", tunneltest.Options{RTT: 300 * time.Millisecond, Loss: 0.05}, 25 * time.Second},
		{"10 % in bursts, 400 ms", tunneltest.Options{RTT: 400 * time.Millisecond, Loss: 0.1, Burst: 5}, 60 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.opt.Dial = func(cfg *tunnel.DialConfig) { cfg.Packets = true }
				n := tunneltest.New(t, tt.opt)
				cloud, edge := n.Pair("edge-1")
				tunneltest.Pass(2 * time.Second) // packets must prove themselves
				for _, way := range []struct {
					name     string
					from, to *tunnel.Session
				}{{"up", edge, cloud}, {"down", cloud, edge}} {
					took := carry(t, way.from, way.to, wire.KindKubelet, 4<<20)
					t.Logf("%s: %v", way.name, took)
					if took > tt.most {
						t.Errorf("%s: 4 MiB took %v, want at most %v", way.name, took, tt.most)
					}
				}
			})
		})
	}
}

// A stream holds more where packets carry it, since what was lost comes later, and as
// much as ever where they do not.
func TestWindowsAreWiderWithPacketsAlone(t *testing.T) {
	for _, tt := range []struct {
		packets     bool
		least, most int64
	}{{false, 512 << 10, 1<<20 + 64<<10}, {true, 2 << 20, 4<<20 + 64<<10}} {
		synctest.Test(t, func(t *testing.T) {
			n := tunneltest.New(t, tunneltest.Options{
				RTT: 300 * time.Millisecond, Dial: func(cfg *tunnel.DialConfig) { cfg.Packets = tt.packets },
			})
			cloud, edge := n.Pair("edge-1")
			tunneltest.Pass(2 * time.Second)
			done := make(chan struct{})
			go func() {
				defer close(done)
				carry(t, edge, cloud, wire.KindKubelet, 16<<20)
			}()
			var held int64
			for !closed(done) {
				held = max(held, cloud.Stats().Buffered)
				tunneltest.Pass(50 * time.Millisecond)
			}
			if held < tt.least || held > tt.most {
				t.Errorf("packets %t: a stream may hold %d bytes, want %d to %d", tt.packets, held, tt.least, tt.most)
			}
		})
	}
}

// TestHostilePackets are edges whose packets break the protocol, or only seem to.
func TestHostilePackets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames []byte
		ends   bool
	}{
		{"acknowledges what was never sent", wire.Append(nil, &wire.PacketAck{Ranges: []wire.PacketRange{{First: 5, Last: 1 << 40}}}), true},
		{"half a frame", []byte{3, 200, 1}, true},
		{"more than the stream has room for", wire.Append(nil, &wire.StreamData{ID: 1, Offset: 1 << 40, Bytes: []byte("x")}), true},
		{"of a stream that is not there", wire.Append(nil, &wire.StreamData{ID: 9, Bytes: []byte("x")}), false},
		{"a probe that says much", wire.Append(nil, &wire.PacketProbe{Padding: make([]byte, 1300)}), false},
		{"nothing", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
				c := hostile(t, n)
				send(t, c, wire.Append(nil, &wire.Hello{Versions: []uint64{wire.Version}, Features: []string{"packets-1"}}))
				cloud, err := n.Listener().Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				send(t, c, wire.Append(nil, &wire.StreamOpen{ID: 1, Kind: wire.KindReport, Limit: 1 << 20}))
				p, err := link.OpenPackets(t.Context(), c, func(uint64, []byte) {})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				tunneltest.Pass(time.Second)
				for number := range uint64(3) {
					if err := p.Send(nil, number, tt.frames); err != nil {
						t.Fatal(err)
					}
				}
				tunneltest.Pass(time.Second)
				if tt.ends {
					wantSessionError(t, cloud.Err(), wire.CodeProtocol, false)
				} else if err := cloud.Err(); err != nil {
					t.Errorf("the session has ended: %v", err)
				}
				n.Pair("edge-1")
			})
		})
	}
}

// An operator's bound holds in each direction, by packets and by lanes.
func TestMaxRate(t *testing.T) {
	const up, down, n = 200e3, 100e3, 2 << 20
	for _, packets := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			net := tunneltest.New(t, tunneltest.Options{
				RTT:    50 * time.Millisecond,
				Dial:   func(cfg *tunnel.DialConfig) { cfg.Packets, cfg.MaxRate = packets, up },
				Listen: func(cfg *tunnel.ListenConfig) { cfg.MaxRate = down },
			})
			cloud, edge := net.Pair("edge-1")
			tunneltest.Pass(2 * time.Second)
			for _, way := range []struct {
				name     string
				from, to *tunnel.Session
				rate     float64
			}{{"up", edge, cloud, up}, {"down", cloud, edge, down}} {
				took := carry(t, way.from, way.to, wire.KindKubelet, n)
				if rate := n / took.Seconds(); rate > 1.05*way.rate || rate < 0.8*way.rate {
					t.Errorf("packets %t, %s: %.0f bytes per second, want a little less than %.0f", packets, way.name, rate, way.rate)
				}
			}
		})
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
