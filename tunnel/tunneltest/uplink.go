package tunneltest

import (
	"net"

	"github.com/quic-go/quic-go/testutils/simnet"

	"github.com/skerry-io/skerry/tunnel"
)

// Edges' sockets have ports from firstPort on; a NAT that has been moved k times
// shows them as k times portSpan more.
const firstPort, portSpan = 10000, 1000

// Uplink is one of the networks that an edge is in. The routing table takes number 0,
// which is where the sockets of Config are; the others can be detours.
type Uplink struct {
	n  *Net
	ip net.IP
}

// shift is what an uplink does to packets.
type shift struct {
	down bool
	deaf bool // nothing comes back
	now  int  // how often it was moved
	both bool // what is sent to its former place still arrives
}

// Uplink gives an uplink by its number.
func (n *Net) Uplink(i int) *Uplink { return &Uplink{n, net.IPv4(10, 0, byte(i), 2).To4()} }

// Way is the uplink as a detour.
func (u *Uplink) Way(name string) tunnel.Way {
	return tunnel.Way{Name: name, PacketConn: u.packetConn}
}

// Has reports whether addr is one of the uplink's sockets.
func (u *Uplink) Has(addr net.Addr) bool {
	a, ok := addr.(*net.UDPAddr)
	return ok && a.IP.Equal(u.ip)
}

// Outage takes the uplink's UDP away or gives it back.
func (u *Uplink) Outage(on bool) {
	u.n.router.mu.Lock()
	defer u.n.router.mu.Unlock()
	u.n.router.shift(u.ip).down = on
}

// Deaf loses what is sent to the uplink's sockets, or lets it pass again.
func (u *Uplink) Deaf(on bool) {
	u.n.router.mu.Lock()
	defer u.n.router.mu.Unlock()
	u.n.router.shift(u.ip).deaf = on
}

// Move changes the addresses that the cloud sees for the uplink's sockets. With both
// set, what is on its way to the former ones still arrives.
func (u *Uplink) Move(both bool) {
	u.n.router.mu.Lock()
	defer u.n.router.mu.Unlock()
	s := u.n.router.shift(u.ip)
	s.now++
	s.both = both
}

func (u *Uplink) packetConn() (net.PacketConn, error) {
	u.n.mu.Lock()
	port := firstPort + u.n.edges
	u.n.edges++
	u.n.mu.Unlock()
	return u.n.endpoint(&net.UDPAddr{IP: u.ip, Port: port}), nil
}

// shift gives what an uplink does; the caller holds r.mu.
func (r *router) shift(ip net.IP) *shift {
	s := r.shifts[ip.String()]
	if s == nil {
		s = &shift{}
		r.shifts[ip.String()] = s
	}
	return s
}

// translate does to a packet what its edge's uplink does; false means that it is
// lost. The caller holds r.mu.
func (r *router) translate(p *simnet.Packet) bool {
	from, ok1 := p.From.(*net.UDPAddr)
	to, ok2 := p.To.(*net.UDPAddr)
	if !ok1 || !ok2 {
		return true
	}
	if s := r.shifts[from.IP.String()]; s != nil {
		p.From = &net.UDPAddr{IP: from.IP, Port: from.Port + s.now*portSpan}
		return !s.down
	}
	if s := r.shifts[to.IP.String()]; s != nil {
		moved := (to.Port - firstPort) / portSpan
		p.To = &net.UDPAddr{IP: to.IP, Port: to.Port - moved*portSpan}
		return !s.down && !s.deaf && (moved == s.now || s.both)
	}
	return true
}
