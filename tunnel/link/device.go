package link

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxDevices bounds what a machine's routes can make us try.
const maxDevices = 4

// Devices gives the network devices that are up and have a default route, of
// whatever metric and in whatever table, the best first: those that could reach
// the whole world.
func Devices() ([]string, error) {
	dump, err := syscall.NetlinkRIB(unix.RTM_GETROUTE, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	routes, err := defaultRoutes(dump)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(routes, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	var names []string
	for _, r := range routes {
		dev, err := net.InterfaceByIndex(r.device)
		if err != nil || slices.Contains(names, dev.Name) {
			continue // gone meanwhile, or seen
		}
		const usable = net.FlagUp | net.FlagRunning
		if dev.Flags&usable == usable && dev.Flags&net.FlagLoopback == 0 && len(names) < maxDevices {
			names = append(names, dev.Name)
		}
	}
	return names, nil
}

// route is a default route.
type route struct {
	device int
	metric uint32
}

// defaultRoutes reads the kernel's answer to RTM_GETROUTE.
func defaultRoutes(dump []byte) ([]route, error) {
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	var routes []route
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
		prefix, kind, flags := m.Data[1], m.Data[7], binary.NativeEndian.Uint32(m.Data[8:])
		if prefix != 0 || kind != unix.RTN_UNICAST || flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN|unix.RTM_F_CLONED) != 0 {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, fmt.Errorf("read routes: %w", err)
		}
		var devices []int
		var metric uint32
		for _, a := range attrs {
			switch {
			case a.Attr.Type == unix.RTA_OIF && len(a.Value) >= 4:
				devices = append(devices, int(binary.NativeEndian.Uint32(a.Value)))
			case a.Attr.Type == unix.RTA_PRIORITY && len(a.Value) >= 4:
				metric = binary.NativeEndian.Uint32(a.Value)
			case a.Attr.Type == unix.RTA_MULTIPATH:
				devices = append(devices, nextHops(a.Value)...)
			}
		}
		for _, d := range devices {
			routes = append(routes, route{d, metric})
		}
	}
	return routes, nil
}

// nextHops reads the devices of a route with several: struct rtnexthop is its
// length, flags, weight and device.
func nextHops(b []byte) []int {
	var devices []int
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		if b[2]&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0 {
			devices = append(devices, int(binary.NativeEndian.Uint32(b[4:])))
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return devices
}

// DeviceTo names the device by which the routing table sends to addr, a UDP
// address; it is empty when nothing leads there.
func DeviceTo(addr net.Addr) string {
	to, ok := addr.(*net.UDPAddr)
	if !ok {
		return ""
	}
	c, err := net.DialUDP("udp", nil, to) // looks the route up and sends nothing
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }() // nothing was sent
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return ""
	}
	devices, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for i := range devices {
		addrs, err := devices[i].Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(local.IP) {
				return devices[i].Name
			}
		}
	}
	return ""
}

// ListenUDPOn opens a socket on any port whose packets take one device, whatever
// the routing table prefers. Old kernels want CAP_NET_RAW for that.
func ListenUDPOn(device string) (*Socket, error) {
	s, err := ListenUDP(0)
	if err != nil {
		return nil, err
	}
	raw, err := s.SyscallConn()
	if err == nil {
		err = bind(raw, device)
	}
	if err != nil {
		_ = s.Close() // it was never used
		return nil, err
	}
	return s, nil
}

// DeviceDialer makes TCP connections by one device. It asks no proxy: the one
// that the environment names is in another network.
func DeviceDialer(device string) Dialer {
	d := tcpDialer()
	d.ControlContext = func(_ context.Context, _, _ string, raw syscall.RawConn) error { return bind(raw, device) }
	return d.DialContext
}

func bind(raw syscall.RawConn, device string) error {
	var err error
	if failed := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); failed != nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("bind to device %s: %w", device, err)
	}
	return nil
}
