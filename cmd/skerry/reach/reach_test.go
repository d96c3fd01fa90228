package reach

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
)

// TestUDP asks a real listener of the tunnel.
func TestUDP(t *testing.T) {
	pc, err := link.ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	n := tunneltest.New(t, tunneltest.Options{Listen: func(c *tunnel.ListenConfig) {
		c.PacketConn.Close()
		c.PacketConn = pc
	}})
	_, port, err := net.SplitHostPort(n.Listener().Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	path, err := UDP(t.Context(), net.JoinHostPort("127.0.0.1", port))
	if err != nil || path.Payload != 1452 || path.RTT <= 0 {
		t.Errorf("got %+v, %v", path, err)
	}
}

// server answers packets of at most limit bytes as a QUIC server does, after dropping
// the first drop of them.
func server(t *testing.T, limit, drop int) string {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			if drop--; drop >= 0 || n > limit {
				continue
			}
			p := buf[:n]
			out := []byte{0x80, 0, 0, 0, 0}
			out = append(out, p[sourceLenAt:headerEnd]...)
			out = append(out, p[destLenAt:sourceLenAt]...)
			_, _ = l.WriteTo([]byte("noise"), from)
			_, _ = l.WriteTo(append(out, 0, 0, 0, 1), from)
		}
	}()
	return l.LocalAddr().String()
}

func TestPath(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ limit, drop, payload int }{
		"all":    {2000, 0, 1452},
		"tunnel": {1400, 0, 1372},
		"loss":   {1200, 2, 1200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := UDP(t.Context(), server(t, tt.limit, tt.drop))
			if err != nil || path.Payload != tt.payload || path.RTT <= 0 {
				t.Errorf("got %+v, %v; want payload %d", path, err, tt.payload)
			}
		})
	}
}

// TestSlow has a link that takes longer than the wait between packets.
func TestSlow(t *testing.T) {
	t.Parallel()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			buf := make([]byte, 2000)
			n, from, err := l.ReadFrom(buf)
			if err != nil {
				return
			}
			if n > smallest {
				continue
			}
			time.AfterFunc(wait+wait/2, func() {
				out := append([]byte{0x80, 0, 0, 0, 0}, buf[sourceLenAt:headerEnd]...)
				_, _ = l.WriteTo(append(append(out, buf[destLenAt:sourceLenAt]...), 0, 0, 0, 1), from)
			})
		}
	}()
	if path, err := UDP(t.Context(), l.LocalAddr().String()); err != nil || path.Payload != smallest || path.RTT < wait {
		t.Errorf("got %+v, %v", path, err)
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.LocalAddr().String()
	l.Close()
	if _, err := UDP(t.Context(), address); err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), address) {
		t.Errorf("closed port: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := UDP(ctx, server(t, 0, 0)); err == nil {
		t.Error("a silent port answers")
	}
	if _, err := TLS(t.Context(), address); err == nil {
		t.Error("a closed port shakes hands")
	}
}

func TestPacketIsQUIC(t *testing.T) {
	p := packet(smallest)
	if len(p) != smallest || p[0]&0xc0 != 0xc0 || hex.EncodeToString(p[1:5]) != "1a2a3a4a" || p[5] != 8 || p[14] != 8 {
		t.Errorf("% x", p[:headerEnd])
	}
	b := make([]byte, 40)
	_, _ = rand.Read(b)
	for n := range b {
		if answers(b[:n], p) {
			t.Errorf("% x passes for an answer", b[:n])
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	got, err := TLS(t.Context(), s.Listener.Addr().String())
	if err != nil || len(got.Chain) != 1 || got.Date.IsZero() || got.Now.Sub(got.Date).Abs() > time.Minute {
		t.Errorf("got %+v, %v", got, err)
	}
}
