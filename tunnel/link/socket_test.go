package link

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/quic-go/quic-go"
)

// quic-go takes the fast path only for sockets with these methods.
var _ quic.OOBCapablePacketConn = (*Socket)(nil)

func TestPassingErrors(t *testing.T) {
	wrapped := func(no syscall.Errno) error {
		return &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("sendmsg", no)}
	}
	tests := []struct {
		err  error
		want bool
	}{
		{wrapped(syscall.ENETUNREACH), true},
		{wrapped(syscall.EHOSTUNREACH), true},
		{wrapped(syscall.ENETDOWN), true},
		{wrapped(syscall.EINVAL), true},
		{wrapped(syscall.EPERM), true},
		{wrapped(syscall.ENOBUFS), true},
		{wrapped(syscall.EADDRNOTAVAIL), true},
		{fmt.Errorf("deeper: %w", wrapped(syscall.ENETUNREACH)), true},
		{wrapped(syscall.EMSGSIZE), false}, // the path's MTU, for quic-go
		{wrapped(syscall.EIO), false},      // no GSO on this device, for quic-go
		{wrapped(syscall.EBADF), false},
		{net.ErrClosed, false},
		{errors.New("else"), false},
	}
	for _, tt := range tests {
		if got := passing(tt.err); got != tt.want {
			t.Errorf("passing(%v) = %t, want %t", tt.err, got, tt.want)
		}
	}
}

// A real socket to an address that has no route: the send must seem to work.
func TestSocketSurvivesUnreachableNetwork(t *testing.T) {
	s, err := ListenUDP(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// 255.255.255.255 without SO_BROADCAST is EACCES wherever there is a kernel.
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: 9}
	if _, err := s.UDPConn.WriteTo([]byte("x"), to); err == nil {
		t.Skip("this kernel sends to broadcast addresses")
	}
	if n, err := s.WriteTo([]byte("four"), to); n != 4 || err != nil {
		t.Errorf("WriteTo: %d, %v, want 4 and no error", n, err)
	}
	if n, _, err := s.WriteMsgUDP([]byte("four"), nil, to); n != 4 || err != nil {
		t.Errorf("WriteMsgUDP: %d, %v, want 4 and no error", n, err)
	}
	if got := s.Swallowed(); got != 2 {
		t.Errorf("swallowed %d, want 2", got)
	}
	s.Close()
	if _, err := s.WriteTo([]byte("x"), to); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v, want net.ErrClosed", err)
	}
}
