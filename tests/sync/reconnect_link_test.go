package sync

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/cloudproxy/desired"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// packets counts what the cloud's socket sees.
type packets struct {
	net.PacketConn

	mu                           sync.Mutex // guards the following fields
	up, down, upCount, downCount int
}

func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	n, a, err := p.PacketConn.ReadFrom(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up += n + headers
	p.upCount++
	return n, a, err
}

func (p *packets) WriteTo(b []byte, a net.Addr) (int, error) {
	p.mu.Lock()
	p.down += len(b) + headers
	p.downCount++
	p.mu.Unlock()
	return p.PacketConn.WriteTo(b, a)
}

func (p *packets) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.down, p.upCount, p.downCount = 0, 0, 0, 0
}

// headers are those of IPv4 and UDP.
const headers = 28

// TestReconnectOnTheLink counts packets, by the real tunnel, of a session that is
// made anew: without objects and with 1,000 that did not change.
func TestReconnectOnTheLink(t *testing.T) {
	total := make(map[string]int)
	took := make(map[string]time.Duration)
	for _, name := range []string{"none", "thousand"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				a := newAPI(t)
				if name == "thousand" {
					thousand(ctx, a)
				}
				p, wg := publisher(ctx, t, a)
				socket := &packets{}
				n := tunneltest.New(t, tunneltest.Options{RTT: 60 * time.Millisecond, Listen: func(c *tunnel.ListenConfig) {
					socket.PacketConn = c.PacketConn
					c.PacketConn = socket
				}})
				serveDesired(ctx, wg, n.Listener(), p)
				cfg := n.Config(node, 1)
				cfg.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(4)
				e := newEdge(t)
				for range 3 {
					socket.reset()
					took[name], total[name] = connectOnce(t, e, cfg, socket)
				}
				cancel()
				wg.Wait()
			})
		})
	}
	t.Logf("reconnect of none: %d bytes, %v; of 1,000: %d bytes, %v", total["none"], took["none"], total["thousand"], took["thousand"])
	// 1.0 KB, or 1.7 when the digest is there in time to go with Hello, and once more.
	if more := total["thousand"] - total["none"]; more > 2000 {
		t.Errorf("1,000 unchanged objects cost %d bytes more, want at most 2000", more)
	}
	if more := took["thousand"] - took["none"]; more > 60*time.Millisecond {
		t.Errorf("1,000 unchanged objects cost %v more, want at most a round trip", more)
	}
}

// connectOnce has the edge make a session, and gives when it was synced, and the bytes
// until a while after.
func connectOnce(t *testing.T, e *edge, cfg tunnel.DialConfig, socket *packets) (time.Duration, int) {
	t.Helper()
	up, err := uplink.New(uplink.Config{Session: func(ctx context.Context, b uplink.Begin) (uplink.Session, error) {
		cfg.Hello.Seq, cfg.Hello.Incarnation = b.Seq, b.Incarnation
		s, err := tunnel.New(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return s, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = up.Run(ctx) }()
	e.start(ctx, up)
	for !e.client.Stats().Synced {
		wait(time.Millisecond)
	}
	synced := time.Since(began)
	wait(5 * time.Second)
	socket.mu.Lock()
	bytes := socket.up + socket.down
	t.Logf("synced after %v; %d packets and %d bytes up, %d packets and %d bytes down", synced, socket.upCount, socket.up, socket.downCount, socket.down)
	socket.mu.Unlock()
	cancel()
	<-done
	e.halt()
	wait(time.Minute)
	return synced, bytes
}

// serveDesired serves the desired streams of all sessions until ctx ends.
func serveDesired(ctx context.Context, wg *sync.WaitGroup, l *tunnel.Listener, p *desired.Publisher) {
	wg.Go(func() {
		for {
			s, err := l.Accept(ctx)
			if err != nil {
				return
			}
			wg.Go(func() {
				for {
					st, err := s.Accept(ctx)
					if err != nil {
						return
					}
					if st.Kind() == wire.KindDesired {
						wg.Go(func() { _ = p.Serve(ctx, node, st) })
					}
				}
			})
		}
	})
}
