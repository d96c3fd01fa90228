package link

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// packetMark is the first byte of a packet: without the two highest bits QUIC leaves
	// it alone (RFC 9443).
	packetMark = 1
	// packetHeader is the mark, the receiver's id and the packet's number.
	packetHeader = 1 + packetID + 8
	packetID     = 8
	packetTag    = 16
	// packetEpoch is how many packets one key seals. RFC 9001, appendix B.1, allows 2^28
	// of this size.
	packetEpoch = 24
	packetKey   = 16
	packetIV    = 12

	// SmallPacket is a size of packets, as UDP carries them, that passes everywhere.
	SmallPacket = packetSize
	// LargePacket is one that passes on most paths.
	LargePacket = 1452
	// PacketOverhead is what of it is not payload.
	PacketOverhead = packetHeader + packetTag
)

// packetLabel names the keys in TLS (RFC 8446, section 7.5).
const packetLabel = "EXPORTER-skerry-packets"

// Packets are sealed datagrams beside the streams of one QUIC connection, on the same
// socket and to the same address. They may be lost or come late, those that are later
// than 4096 others are lost, and no congestion control holds them back: that is the
// caller's.
//
//	1 (1 byte) | receiver's id (8) | number (8) | AES-128-GCM of the payload (+16)
//
// Ids and keys are the TLS exporter's, one set for each direction. The nonce is an IV
// XOR the number; the header is authenticated. A key serves 2^24 numbers. A number must
// not be used twice.
type Packets struct {
	t       *Transport
	remote  func() net.Addr
	source  []byte // control data, see sourceOf
	out, in sealer
	seen    replay // of the socket's reader alone
	receive func(number uint64, payload []byte)
}

// sealer has the keys of one direction.
type sealer struct {
	id     [packetID]byte
	secret []byte
	iv     [packetIV]byte

	mu    sync.Mutex // guards the following fields
	epoch uint64
	aead  cipher.AEAD // of the epoch; nil at first
}

// OpenPackets opens the packets of a connection whose handshake is done; it fails where
// that is not QUIC. receive is called with what has come, one at a time, until Close,
// perhaps once more after it; it must not keep the payload, nor wait.
func OpenPackets(ctx context.Context, conn Conn, receive func(number uint64, payload []byte)) (*Packets, error) {
	c, ok := conn.(*quicConn)
	if !ok || c.t == nil {
		return nil, fmt.Errorf("packets of a %s connection: %w", conn.Kind(), errors.ErrUnsupported)
	}
	const each = packetID + sha256.Size + packetIV
	state := c.q.ConnectionState().TLS
	b, err := state.ExportKeyingMaterial(packetLabel, nil, 2*each)
	if err != nil {
		return nil, fmt.Errorf("keys of packets: %w", err)
	}
	p := &Packets{t: c.t, remote: c.q.RemoteAddr, source: sourceOf(c.q.LocalAddr()), receive: receive}
	up, down := &p.out, &p.in // the client's, the server's
	if c.server {
		up, down = down, up
	}
	up.set(b[:each])
	down.set(b[each:])
	c.t.inbox.add(ctx, p)
	return p, nil
}

func (s *sealer) set(b []byte) {
	copy(s.id[:], b)
	s.secret = b[packetID : packetID+sha256.Size]
	copy(s.iv[:], b[packetID+sha256.Size:])
}

// key gives what seals a number.
func (s *sealer) key(number uint64) (cipher.AEAD, error) { //nolint:ireturn // the standard library's
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch := number >> packetEpoch
	if s.aead != nil && s.epoch == epoch {
		return s.aead, nil
	}
	key, err := hkdf.Expand(sha256.New, s.secret, fmt.Sprintf("skerry packets %d", epoch), packetKey)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if s.aead == nil || epoch > s.epoch {
		s.epoch, s.aead = epoch, aead
	}
	return aead, nil
}

func (s *sealer) nonce(number uint64) []byte {
	n := s.iv
	binary.BigEndian.PutUint64(n[packetIV-8:], binary.BigEndian.Uint64(n[packetIV-8:])^number)
	return n[:]
}

// seal appends a packet to b.
func (s *sealer) seal(b []byte, number uint64, payload []byte) ([]byte, error) {
	aead, err := s.key(number)
	if err != nil {
		return nil, err
	}
	start := len(b)
	b = append(b, packetMark)
	b = append(b, s.id[:]...)
	b = binary.BigEndian.AppendUint64(b, number)
	return aead.Seal(b, s.nonce(number), payload, b[start:]), nil
}

// Send seals a packet and sends it. What the network does not take is a lost packet.
// buf is room for it.
func (p *Packets) Send(buf []byte, number uint64, payload []byte) error {
	b, err := p.out.seal(buf[:0], number, payload)
	if err != nil {
		return err
	}
	to := p.remote()
	if s, ok := p.t.q.Conn.(messageConn); ok {
		if to, ok := to.(*net.UDPAddr); ok {
			_, _, err = s.WriteMsgUDP(b, p.source, to)
			return err
		}
	}
	_, err = p.t.q.WriteTo(b, to)
	return err
}

// messageConn is a socket that takes control data.
type messageConn interface {
	WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error)
}

// sourceOf gives the control data (ip(7), ipv6(7)) by which packets leave from the
// address that the peer speaks to, where the socket has several; nil where the kernel
// is to choose, which is what an edge's does.
func sourceOf(local net.Addr) []byte {
	udp, ok := local.(*net.UDPAddr)
	if !ok || udp.IP.IsUnspecified() {
		return nil
	}
	switch addr := udp.AddrPort().Addr().Unmap(); {
	case addr.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
	case addr.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: addr.As16()})
	}
	return nil
}

// opened opens a packet in its place, once.
func (p *Packets) opened(b []byte) (number uint64, payload []byte, ok bool) {
	number = binary.BigEndian.Uint64(b[1+packetID:])
	aead, err := p.in.key(number)
	if err != nil {
		return 0, nil, false
	}
	payload, err = aead.Open(b[packetHeader:packetHeader], p.in.nonce(number), b[packetHeader:], b[:packetHeader])
	return number, payload, err == nil && p.seen.first(number)
}

// Close ends them.
func (p *Packets) Close() { p.t.inbox.remove(p) }

// inbox takes in the packets of all connections of a socket.
type inbox struct {
	t  *Transport
	wg sync.WaitGroup

	mu      sync.Mutex // guards the following fields
	reading bool
	by      map[[packetID]byte]*Packets
}

func (i *inbox) add(ctx context.Context, p *Packets) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.by == nil {
		i.by = make(map[[packetID]byte]*Packets)
	}
	i.by[p.in.id] = p
	if i.reading {
		return
	}
	i.reading = true
	if s, ok := i.t.q.Conn.(*Socket); ok {
		s.inbox.Store(i)
	} else {
		i.wg.Go(func() { i.read(context.WithoutCancel(ctx)) })
	}
}

func (i *inbox) remove(p *Packets) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.by[p.in.id] == p {
		delete(i.by, p.in.id)
	}
}

// take takes in what has come, and reports whether it is a packet's. Only one goroutine
// calls it.
func (i *inbox) take(b []byte) bool {
	if len(b) == 0 || b[0] != packetMark {
		return false
	}
	if len(b) < PacketOverhead {
		return true
	}
	i.mu.Lock()
	p := i.by[[packetID]byte(b[1:1+packetID])]
	i.mu.Unlock()
	if p == nil {
		return true
	}
	if number, payload, ok := p.opened(b); ok {
		p.receive(number, payload)
	}
	return true
}

// read is for sockets that are no Socket; it ends with the socket.
func (i *inbox) read(ctx context.Context) {
	buf := make([]byte, 1500)
	for {
		n, _, err := i.t.q.ReadNonQUICPacket(ctx, buf)
		if err != nil {
			return
		}
		i.take(buf[:n])
	}
}
