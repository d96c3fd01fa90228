package cloudproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/skerry-io/skerry/tunnel"
)

// listeners are the sockets of a Server, all opened before anything starts: a
// port that is taken ends the start and leaves nothing behind.
type listeners struct {
	edges   net.PacketConn // QUIC
	tcp     net.Listener   // on the port number of edges
	split   *splitter      // of tcp: edges where UDP is blocked, and those who want to join
	kubelet net.Listener
	admin   net.Listener
}

func listen(ctx context.Context, c *Config) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // on such sockets the tunnel can't bound TCP's waits
	if l.tcp, err = lc.Listen(ctx, "tcp", c.Listen); err != nil {
		return nil, listenError("listen", "TCP", c.Listen, err)
	}
	l.split = split(l.tcp, tunnel.ALPN)
	// A port of 0 was chosen by the kernel for TCP; UDP takes the same.
	host, _, _ := net.SplitHostPort(c.Listen)
	_, port, _ := net.SplitHostPort(l.tcp.Addr().String())
	if l.edges, err = lc.ListenPacket(ctx, "udp", net.JoinHostPort(host, port)); err != nil {
		return nil, listenError("listen", "UDP", c.Listen, err)
	}
	if l.kubelet, err = lc.Listen(ctx, "tcp", c.KubeletListen); err != nil {
		return nil, listenError("kubelet-listen", "TCP", c.KubeletListen, err)
	}
	if l.admin, err = lc.Listen(ctx, "tcp", c.AdminListen); err != nil {
		return nil, listenError("admin-listen", "TCP", c.AdminListen, err)
	}
	return l, nil
}

// close closes what is open; what was handed on and closed before does not mind.
func (l *listeners) close() {
	if l.edges != nil {
		_ = l.edges.Close()
	}
	for _, ln := range []net.Listener{l.tcp, l.kubelet, l.admin} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

func listenError(flag, proto, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--%s: %s port of %s is taken by another process: stop that one or choose another port", flag, proto, addr)
	}
	return fmt.Errorf("--%s: %w", flag, err)
}
