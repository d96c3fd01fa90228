package edgeagent

import (
	"net"
	"net/netip"
)

// hostIPs gives the machine's address of each IP family that it has, IPv4
// first: the one that packets to far away are sent from, else the first one of
// any interface.
func hostIPs() []string {
	var list []string
	// Destinations are of the ranges for documentation (RFC 5737, RFC 3849).
	for _, far := range []string{"192.0.2.1", "2001:db8::1"} {
		dst := netip.MustParseAddr(far)
		ip, ok := outgoing(dst)
		if !ok {
			ip, ok = firstAddress(dst.Is4())
		}
		if ok {
			list = append(list, ip.String())
		}
	}
	return list
}

// outgoing asks the kernel which address it would send to dst from. Connecting
// a UDP socket sends nothing.
func outgoing(dst netip.Addr) (netip.Addr, bool) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 9)))
	if err != nil {
		return netip.Addr{}, false
	}
	defer c.Close() //nolint:errcheck // nothing was sent
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip := a.AddrPort().Addr().Unmap()
	return ip, ip.IsGlobalUnicast()
}

func firstAddress(v4 bool) (netip.Addr, bool) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() && p.Addr().Is4() == v4 {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}
