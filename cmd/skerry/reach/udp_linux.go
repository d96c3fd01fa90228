package reach

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// dontFragment has the kernel send a packet whole or not at all, whatever it
// believes about the path. Where it can't, fragments tell less and harm nothing.
func dontFragment(conn net.Conn) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	})
}

func tooLarge(err error) bool { return errors.Is(err, unix.EMSGSIZE) }
