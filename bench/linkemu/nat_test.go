package main

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// udpPacket builds an IPv4 UDP packet with a right UDP checksum.
func udpPacket(src, dst uint16, payload []byte) []byte {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protoUDP
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	copy(b[12:], []byte{10, 201, 1, 2, 10, 201, 1, 1})
	binary.BigEndian.PutUint16(b[20:], src)
	binary.BigEndian.PutUint16(b[22:], dst)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	b = append(b, payload...)
	binary.BigEndian.PutUint16(b[26:], udpSum(b))
	return b
}

// udpSum computes the checksum from nothing, for comparison.
func udpSum(packet []byte) uint16 {
	b := bytes.Clone(packet)
	b[26], b[27] = 0, 0
	pseudo := append(bytes.Clone(b[12:20]), 0, protoUDP, b[24], b[25])
	pseudo = append(pseudo, b[20:]...)
	if len(pseudo)%2 == 1 {
		pseudo = append(pseudo, 0)
	}
	var sum uint32
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	if r := ^uint16(sum); r != 0 {
		return r
	}
	return 0xffff
}

func ports(b []byte) (src, dst uint16) {
	return binary.BigEndian.Uint16(b[20:]), binary.BigEndian.Uint16(b[22:])
}

func TestNAT(t *testing.T) {
	var n nat
	n.rebind(1000)
	out := udpPacket(40000, 7443, []byte("hello"))
	n.outbound(out)
	if src, dst := ports(out); src != 41000 || dst != 7443 {
		t.Fatalf("outbound ports %d -> %d", src, dst)
	}
	if got, want := binary.BigEndian.Uint16(out[26:]), udpSum(out); got != want {
		t.Errorf("checksum %#x, want %#x", got, want)
	}
	in := udpPacket(7443, 41000, []byte("answer"))
	if !n.inbound(in) {
		t.Fatal("the answer was dropped")
	}
	if src, dst := ports(in); src != 7443 || dst != 40000 {
		t.Errorf("inbound ports %d -> %d", src, dst)
	}
	if got, want := binary.BigEndian.Uint16(in[26:]), udpSum(in); got != want {
		t.Errorf("checksum %#x, want %#x", got, want)
	}

	n.rebind(2000)
	if n.inbound(udpPacket(7443, 41000, nil)) {
		t.Error("the old port still answers after a rebinding")
	}
	out = udpPacket(40000, 7443, nil)
	n.outbound(out)
	if src, _ := ports(out); src != 42000 {
		t.Errorf("source port %d after a rebinding, want 42000", src)
	}
	n.rebind(0)
	out = udpPacket(40000, 7443, nil)
	n.outbound(out)
	if src, _ := ports(out); src != 40000 || !n.inbound(udpPacket(7443, 42000, nil)) {
		t.Error("nat 0 still translates")
	}
}

func TestNATChecksums(t *testing.T) {
	for off := 1; off < 1<<16; off += 251 {
		var n nat
		n.rebind(uint16(off))
		for _, src := range []uint16{1, 255, 256, 32768, 65535} {
			b := udpPacket(src, 7443, []byte{byte(off), 0xff, 3})
			n.outbound(b)
			if got, want := binary.BigEndian.Uint16(b[26:]), udpSum(b); got != want {
				t.Fatalf("offset %d port %d: checksum %#x, want %#x", off, src, got, want)
			}
			out, _ := ports(b)
			back := udpPacket(7443, out, nil)
			if !n.inbound(back) {
				t.Fatalf("offset %d port %d: no way back", off, src)
			}
			if _, dst := ports(back); dst != src {
				t.Fatalf("offset %d: port %d came back as %d", off, src, dst)
			}
		}
	}
}

func TestNATLeavesOthersAlone(t *testing.T) {
	tcp := udpPacket(40000, 80, nil)
	tcp[9] = 6
	fragment := udpPacket(40000, 80, nil)
	fragment[7] = 1 // fragment offset
	short := udpPacket(40000, 80, nil)[:26]
	v6 := make([]byte, 48)
	v6[0], v6[6] = 0x60, protoUDP
	noSum := udpPacket(40000, 80, nil)
	noSum[26], noSum[27] = 0, 0

	var n nat
	n.rebind(7)
	for name, b := range map[string][]byte{"tcp": tcp, "fragment": fragment, "short": short, "ipv6": v6} {
		was := bytes.Clone(b)
		n.outbound(b)
		if !bytes.Equal(b, was) || !n.inbound(b) {
			t.Errorf("%s was touched or dropped", name)
		}
	}
	n.outbound(noSum)
	if noSum[26] != 0 || noSum[27] != 0 {
		t.Error("a packet without a checksum got one")
	}
	if !isUDP(v6) || isUDP(tcp) || !isUDP(noSum) || isUDP(nil) {
		t.Error("isUDP is wrong")
	}
}

func FuzzNAT(f *testing.F) {
	f.Add(udpPacket(1, 2, []byte("x")))
	f.Add([]byte{0x4f, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var n nat
		n.rebind(9)
		was := len(b)
		n.outbound(b)
		n.inbound(b)
		isUDP(b)
		if isIP(b); len(b) != was {
			t.Error("length changed")
		}
	})
}
