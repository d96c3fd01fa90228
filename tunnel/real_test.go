package tunnel_test

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"testing"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// The same over the kernel's sockets on loopback: dual-stack wildcard, GSO, the
// names' resolution.
func TestRealSockets(t *testing.T) {
	pc, err := link.ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	n := tunneltest.New(t, tunneltest.Options{Listen: func(c *tunnel.ListenConfig) {
		c.PacketConn.Close()
		c.PacketConn = pc
	}})
	cfg := n.Config("edge-1", 1)
	cfg.PacketConn = nil
	udp, ok := n.Listener().Addr().(*net.UDPAddr)
	if !ok {
		t.Fatalf("address is a %T", n.Listener().Addr())
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		cfg.Address = net.JoinHostPort(host, strconv.Itoa(udp.Port))
		edge, err := tunnel.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatalf("%s: %v", host, err)
		}
		cloud, err := n.Listener().Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st, err := cloud.Open(t.Context(), wire.KindKubelet)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("skerry"), 1<<20)
		go func() {
			st.Write(want)
			st.CloseWrite()
		}()
		got, err := io.ReadAll(accept(t, edge))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %d bytes of %d, %v", host, len(got), len(want), err)
		}
		edge.Close(wire.CodeOK, "done")
		<-cloud.Done()
		wantSessionError(t, cloud.Err(), wire.CodeOK, true)
	}
}
