package tunneltest

import (
	"net"
	"net/netip"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// Route has a Replica, or the first cloud, serve the address that edges dial, as a
// load balancer does that moves all flows at once: their packets go there, and what it
// sends comes from there. Nothing that others send arrives any more. An address where
// nobody is will do for a time without any.
func (n *Net) Route(address string) {
	n.tb.Helper()
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		n.tb.Fatal(err)
	}
	n.router.mu.Lock()
	defer n.router.mu.Unlock()
	n.router.behind = net.UDPAddrFromAddrPort(addr)
}

// balance does what Route says; false means that the packet is lost. The caller holds
// r.mu.
func (r *router) balance(p *simnet.Packet) bool {
	if r.behind == nil {
		return true
	}
	if p.To.String() == r.cloud.String() {
		p.To = r.behind
		return true
	}
	if p.From.String() != r.behind.String() {
		return false
	}
	p.From = r.cloud
	return true
}
