package link

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// message is one of the kernel's answers about a route.
func message(prefix, kind byte, flags uint32, attrs ...[]byte) []byte {
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1], body[7] = unix.AF_INET, prefix, kind
	binary.NativeEndian.PutUint32(body[8:], flags)
	body = append(body, slices.Concat(attrs...)...)
	head := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint32(head, uint32(len(head)+len(body)))
	binary.NativeEndian.PutUint16(head[4:], unix.RTM_NEWROUTE)
	return append(head, body...)
}

func attr(kind uint16, value ...uint32) []byte {
	b := make([]byte, 4+4*len(value))
	binary.NativeEndian.PutUint16(b, uint16(len(b)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	for i, v := range value {
		binary.NativeEndian.PutUint32(b[4+4*i:], v)
	}
	return b
}

func hop(flags byte, device uint32) []uint32 {
	b := []byte{0, 0, flags, 0}
	binary.NativeEndian.PutUint16(b, unix.SizeofRtNexthop)
	return []uint32{binary.NativeEndian.Uint32(b), device}
}

func TestDefaultRoutes(t *testing.T) {
	dump := slices.Concat(
		message(0, unix.RTN_UNICAST, 0, attr(unix.RTA_OIF, 2), attr(unix.RTA_PRIORITY, 100)),
		message(24, unix.RTN_UNICAST, 0, attr(unix.RTA_OIF, 3)),                   // no default route
		message(0, unix.RTN_UNREACHABLE, 0, attr(unix.RTA_OIF, 1)),                // leads nowhere
		message(0, unix.RTN_UNICAST, unix.RTNH_F_LINKDOWN, attr(unix.RTA_OIF, 4)), // without a cable
		message(0, unix.RTN_UNICAST, 0, attr(unix.RTA_PRIORITY, 7),
			attr(unix.RTA_MULTIPATH, slices.Concat(hop(0, 5), hop(unix.RTNH_F_DEAD, 6), hop(0, 7))...)),
	)
	want := []route{{2, 100}, {5, 7}, {7, 7}}
	got, err := defaultRoutes(dump)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(route{})); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	// Whatever a kernel to come says, it must not be a panic.
	for i := range dump {
		defaultRoutes(dump[:i])
	}
}

func TestNextHopsOfAnyLength(t *testing.T) {
	for size := range 20 {
		b := make([]byte, 16)
		binary.NativeEndian.PutUint16(b, uint16(size))
		if got := len(nextHops(b)); size >= unix.SizeofRtNexthop && size <= len(b) && got == 0 {
			t.Errorf("size %d: none", size)
		} else if size < unix.SizeofRtNexthop && got > 0 {
			t.Errorf("size %d: %d", size, got)
		}
	}
}

// Whatever this machine has: asking it works.
func TestDevices(t *testing.T) {
	devices, err := Devices()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(devices)
	if got := DeviceTo(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}); got != "lo" {
		t.Errorf("the way to 127.0.0.1 is %q", got)
	}
	for _, name := range []string{"lo", "none such"} {
		s, err := ListenUDPOn(name)
		if bound := err == nil; bound != (name == "lo") {
			t.Errorf("bind to %q: %v", name, err)
		}
		if s != nil {
			s.Close()
		}
	}
}
