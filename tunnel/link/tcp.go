package link

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// notSentLowat is how much may wait in the kernel that was never sent. What
	// waits here instead can still be overtaken by something more urgent.
	notSentLowat = 16 << 10
	// rtoMax is the longest time between two tries to send again. Linux's 120 s
	// is what users would wait after an outage.
	rtoMax = 2 * time.Second
	// userTimeout ends a connection that gets nothing through. With rtoMax and
	// without this, Linux would after its 15 tries, half a minute.
	userTimeout = maxIdle
)

// ListenTCP opens a socket for ListenTLS: without MPTCP, which Go turns on for
// listeners and where rtoMax can't be set, and without probes for idle connections.
func ListenTCP(ctx context.Context, addr string) (net.Listener, error) {
	l := net.ListenConfig{KeepAlive: -1}
	l.SetMultipathTCP(false)
	return l.Listen(ctx, "tcp", addr)
}

// tcpDialer is the counterpart of ListenTCP.
func tcpDialer() *net.Dialer {
	d := &net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	return d
}

// tcpSocket finds the socket below a connection; nil means that there is none.
func tcpSocket(c net.Conn) syscall.RawConn {
	for {
		switch u := c.(type) {
		case syscall.Conn:
			raw, err := u.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		case interface{ NetConn() net.Conn }:
			c = u.NetConn()
		default:
			return nil
		}
	}
}

// tune sets the socket's options. Kernels that lack one do without: the
// connection works, only slower or longer.
func tune(raw syscall.RawConn) {
	if raw == nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		s := int(fd)
		_ = unix.SetsockoptString(s, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr")
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat)
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(rtoMax.Milliseconds()))
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		// Its probes would cost beside our pings and prove less.
		_ = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	})
}

// addTCPInfo adds what the kernel knows.
func addTCPInfo(s *Stats, raw syscall.RawConn) {
	if raw == nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return // not a TCP socket
		}
		s.RTT = time.Duration(info.Rtt) * time.Microsecond
		s.PacketsSent, s.PacketsReceived = uint64(info.Segs_out), uint64(info.Segs_in)
		s.PacketsLost = uint64(info.Total_retrans)
	})
}
