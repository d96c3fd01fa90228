package link

import (
	"net"
	"sync"
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

// A cloud with several addresses sends packets from the one that the edge speaks to,
// as QUIC does; from any other they would not pass a NAT.
func TestPacketsComeFromTheAddressSpokenTo(t *testing.T) {
	ca := newAuthority(t)
	pc, err := ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	there, err := NewTransport(TransportConfig{PacketConn: pc})
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	l, err := there.Listen(ca.server(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	local, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	from := make(chan string, 1)
	here, err := NewTransport(TransportConfig{PacketConn: spy{local, from}})
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	port, ok := pc.LocalAddr().(*net.UDPAddr)
	if !ok {
		t.Fatalf("address is a %T", pc.LocalAddr())
	}
	spokenTo := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: port.Port}
	conf := ca.client("edge-1")
	conf.ServerName = "127.0.0.1"
	edge, _, err := here.Dial(t.Context(), spokenTo, conf, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close(wire.CodeOK, "test ends")
	cloud, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
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
	}{{"payload", "frames", got}, {"source", spokenTo.String(), from}} {
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
