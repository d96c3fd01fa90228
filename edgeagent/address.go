package edgeagent

import (
	"net"
	"net/netip"
	"slices"
)

// hostIPs gives the machine's addresses that others could reach, those of the
// interface that the default route would take first.
func hostIPs() []string {
	var list []string
	if ip, ok := outgoing(); ok {
		list = append(list, ip.String())
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return list
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		if s := p.Addr().String(); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// outgoing asks the kernel which address it would send from. Connecting a UDP
// socket sends nothing; the destination is of the range for documentation
// (RFC 5737).
func outgoing() (netip.Addr, bool) {
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9})
	if err != nil {
		return netip.Addr{}, false
	}
	defer c.Close() //nolint:errcheck // nothing was sent
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return a.AddrPort().Addr().Unmap(), true
}
