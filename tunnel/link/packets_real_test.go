package link

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// spy is a socket that notes from where packets come.
type spy struct {
	net.PacketConn
	from chan string
}

// ReadFrom implements net.PacketConn.
func (s spy) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := s.PacketConn.ReadFrom(b)
	if err == nil && n > 0 && b[0] == packetMark {
		select {
		case s.from <- addr.String():
		default:
		}
	}
	return n, addr, err
}

// realPair connects an edge to a cloud over the kernel's sockets. The edge dials address,
// from the socket that it is given.
func realPair(t *testing.T, address string, socket func(cloud *net.UDPAddr) net.PacketConn) (edge, cloud Conn) {
	t.Helper()
	ca := newAuthority(t)
	pc, err := ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	there, err := NewTransport(TransportConfig{PacketConn: pc})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	l, err := there.Listen(ca.server(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	udp, ok := pc.LocalAddr().(*net.UDPAddr)
	if !ok {
		t.Fatalf("address is a %T", pc.LocalAddr())
	}
	to := &net.UDPAddr{IP: net.ParseIP(address), Port: udp.Port}
	here, err := NewTransport(TransportConfig{PacketConn: socket(to)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	conf := ca.client("edge-1")
	conf.ServerName = "127.0.0.1"
	if edge, _, err = here.Dial(t.Context(), to, conf, Limits{}, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { edge.Close(wire.CodeOK, "test ends") })
	if cloud, err = l.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	return edge, cloud
}

// What comes while the reader is busy waits in the socket, and is not dropped.
func TestPacketsWaitForTheirReader(t *testing.T) {
	const n = 200
	var came atomic.Int64
	busy, all := make(chan struct{}), make(chan struct{})
	edge, cloud := realPair(t, "127.0.0.1", func(*net.UDPAddr) net.PacketConn {
		s, err := ListenUDP(0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	in, err := OpenPackets(t.Context(), edge, func(uint64, []byte) {
		switch came.Add(1) {
		case 1:
			<-busy
		case n:
			close(all)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := OpenPackets(t.Context(), cloud, func(uint64, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for number := range uint64(n) {
		if err := out.Send(nil, number, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	close(busy)
	select {
	case <-all:
	case <-time.After(5 * time.Second):
		t.Errorf("%d packets of %d", came.Load(), n)
	}
}

// A cloud with several addresses sends packets from the one that the edge speaks to,
// as QUIC does; from any other they would not pass a NAT.
func TestPacketsComeFromTheAddressSpokenTo(t *testing.T) {
	from := make(chan string, 1)
	var spokenTo string
	edge, cloud := realPair(t, "127.0.0.2", func(to *net.UDPAddr) net.PacketConn {
		spokenTo = to.String()
		local, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return spy{local, from}
	})
	got := make(chan string, 1)
	var once sync.Once
	at, err := OpenPackets(t.Context(), edge, func(_ uint64, b []byte) { once.Do(func() { got <- string(b) }) })
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	out, err := OpenPackets(t.Context(), cloud, func(uint64, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Send(nil, 0, []byte("frames")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, want string
		from       chan string
	}{{"payload", "frames", got}, {"source", spokenTo, from}} {
		select {
		case s := <-tt.from:
			if s != tt.want {
				t.Errorf("%s is %q, want %q", tt.what, s, tt.want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no packet came")
		}
	}
}
