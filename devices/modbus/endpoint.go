package modbus

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/frame"
	"github.com/skerry-io/skerry/devices/modbus/serial"
)

// Endpoint is a line or an address. Devices with the same share a bus.
type Endpoint struct {
	Address string // HOST:PORT; "" for a serial line
	Path    string // of a serial line
	RTU     bool
	Line    frame.Line
	Parity  serial.Parity
}

// key is what only one bus may use.
func (e Endpoint) key() string {
	if e.Path != "" {
		return e.Path
	}
	if e.RTU {
		return "rtu+tcp://" + e.Address
	}
	return "tcp://" + e.Address
}

// String is the endpoint with its settings.
func (e Endpoint) String() string {
	if e.Path == "" {
		return e.key()
	}
	return fmt.Sprintf("%s at %d baud, parity %s, %d stop bits", e.Path, e.Line.Baud, [...]string{"None", "Even", "Odd"}[e.Parity], e.Line.StopBits)
}

// unacknowledged is how long sent bytes may go without an acknowledgement before the
// kernel ends a connection: a cut is noticed although nothing comes back.
const unacknowledged = 5 * time.Second

// Dial connects to an endpoint.
func Dial(ctx context.Context, e Endpoint) (bus.Conn, error) {
	if e.Path != "" {
		return serial.Open(serial.Config{Path: e.Path, Line: e.Line, Parity: e.Parity})
	}
	d := net.Dialer{KeepAlive: 15 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", e.Address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			// Without it a cut is noticed by timeouts alone, so a kernel that refuses is no fault.
			_ = raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
			})
		}
	}
	return conn, nil
}
