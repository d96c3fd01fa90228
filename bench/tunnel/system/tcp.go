package system

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Cubic is a net.Dialer's Control: it asks for Linux's own default of congestion control, whatever this
// machine was told to do.
func Cubic(_, _ string, c syscall.RawConn) error {
	var setErr error
	err := c.Control(func(fd uintptr) {
		setErr = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
	})
	if err != nil {
		return err
	}
	return setErr
}

func tcpDialer() *net.Dialer { return &net.Dialer{Control: Cubic} }

// listenTCP listens with Cubic, which accepted connections inherit.
func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: Cubic}
	lc.SetMultipathTCP(false) // its sockets keep the option to themselves
	return lc.Listen(ctx, "tcp", address)
}
