package main

import (
	"encoding/binary"
)

// nat translates the UDP source ports of the edge's IPv4 packets, as the box
// of a mobile carrier does: the port outside is the port inside plus an offset.
// A new offset is a rebinding: what was sent to the old ports is dropped. Only
// ports change, since addresses would need routes at the other end.
type nat struct {
	offset uint16 // 0 means no translation
	inside [1 << 16]uint16
}

// rebind forgets all mappings and starts with a new offset.
func (n *nat) rebind(offset uint16) { *n = nat{offset: offset} }

// outbound translates a packet of the edge, in place.
func (n *nat) outbound(b []byte) {
	h, ok := udpHeader(b)
	if n.offset == 0 || !ok {
		return
	}
	port := binary.BigEndian.Uint16(b[h:])
	out := port + n.offset
	if out == 0 { // not a port; the mapping is by table, so any other one does
		out = n.offset
	}
	n.inside[out] = port
	replacePort(b[h:], 0, out)
}

// inbound translates a packet for the edge, in place. It returns false for a
// packet without a mapping, which must be dropped.
func (n *nat) inbound(b []byte) bool {
	h, ok := udpHeader(b)
	if n.offset == 0 || !ok {
		return true
	}
	port := n.inside[binary.BigEndian.Uint16(b[h+2:])]
	if port == 0 {
		return false
	}
	replacePort(b[h:], 2, port)
	return true
}

const protoUDP = 17

// isUDP tells whether an IP packet is UDP, of either version; an IPv6 packet
// with extension headers counts as other.
func isUDP(b []byte) bool {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return b[9] == protoUDP
	case len(b) >= 40 && b[0]>>4 == 6:
		return b[6] == protoUDP
	}
	return false
}

// isIP tells whether b is long enough to be an IP packet.
func isIP(b []byte) bool {
	return len(b) >= 20 && b[0]>>4 == 4 || len(b) >= 40 && b[0]>>4 == 6
}

// udpHeader finds the UDP header of an IPv4 packet; fragments behind the first
// have none.
func udpHeader(b []byte) (int, bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != protoUDP || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return 0, false
	}
	h := int(b[0]&15) * 4
	return h, h >= 20 && len(b) >= h+8
}

// replacePort writes a port of a UDP header and mends the checksum.
func replacePort(udp []byte, at int, port uint16) {
	old := binary.BigEndian.Uint16(udp[at:])
	binary.BigEndian.PutUint16(udp[at:], port)
	sum := binary.BigEndian.Uint16(udp[6:])
	binary.BigEndian.PutUint16(udp[6:], mendChecksum(sum, old, port))
}

// mendChecksum updates a UDP checksum for one changed word (RFC 1624). A zero
// means "no checksum" and stays; a result of zero is sent as all ones.
func mendChecksum(sum, was, is uint16) uint16 {
	if sum == 0 {
		return 0
	}
	x := uint32(^sum) + uint32(^was) + uint32(is)
	for x > 0xffff {
		x = x&0xffff + x>>16
	}
	if r := ^uint16(x); r != 0 {
		return r
	}
	return 0xffff
}
