package link

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/ipv4"
)

// Socket is a UDP socket whose sends never fail for a reason that passes. To
// quic-go every send error but EMSGSIZE is the end of the connection, so a
// machine that is for one second without an address or a route would lose all
// its sessions. A packet that can't be sent is a lost packet, and QUIC repairs
// lost packets.
//
// It takes what Packets have sent out of what is read: quic-go would put it into a
// queue of 32 and drop the rest, a quarter of 2000 packets per second on a busy machine.
//
// It embeds *net.UDPConn and overrides the methods that send and read, so that
// quic-go still finds everything it needs for GSO, ECN and batched reads.
type Socket struct {
	*net.UDPConn
	swallowed atomic.Uint64
	batch     *ipv4.PacketConn // of the one reader; nil before the first read
	inbox     atomic.Pointer[inbox]
}

// ListenUDP opens a socket on a port of all addresses; port 0 means any. The
// wildcard is what makes a changed address pass unnoticed: the kernel picks the
// source address of each packet by the routes of that moment.
func ListenUDP(port int) (*Socket, error) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return nil, err
	}
	return &Socket{UDPConn: c}, nil
}

// WriteMsgUDP is the send that quic-go uses on Linux.
func (s *Socket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = s.UDPConn.WriteMsgUDP(b, oob, addr)
	if s.passes(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// WriteTo is the send that quic-go uses where there is no control data.
func (s *Socket) WriteTo(b []byte, addr net.Addr) (int, error) {
	n, err := s.UDPConn.WriteTo(b, addr)
	if s.passes(err) {
		return len(b), nil
	}
	return n, err
}

// ReadBatch is the read that quic-go uses on Linux, from one goroutine.
func (s *Socket) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	if s.batch == nil {
		s.batch = ipv4.NewPacketConn(s.UDPConn) // serves IPv6 as well
	}
	n, err := s.batch.ReadBatch(messages, flags)
	if in := s.inbox.Load(); in != nil {
		for i := range n {
			if m := &messages[i]; in.take(m.Buffers[0][:m.N]) {
				m.N = 0 // quic-go skips what is empty
			}
		}
	}
	return n, err
}

// Swallowed counts the send errors that were taken for lost packets.
func (s *Socket) Swallowed() uint64 { return s.swallowed.Load() }

func (s *Socket) passes(err error) bool {
	if err == nil || !passing(err) {
		return false
	}
	s.swallowed.Add(1)
	return true
}

// passing tells errors of the network's present state from errors that need
// quic-go's own handling: EMSGSIZE (a probe of the path's MTU), EIO (no GSO on
// this device) and net.ErrClosed.
func passing(err error) bool {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	switch no {
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, // no route, link down
		syscall.EADDRNOTAVAIL, syscall.EINVAL, // the source address in the control data is gone
		syscall.EPERM, syscall.EACCES, // a firewall that says so instead of dropping
		syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN, // the device's queue is full
		syscall.ECONNREFUSED, syscall.ENODEV, syscall.ENONET: // an ICMP answer; the device was unplugged
		return true
	default:
		return false
	}
}
