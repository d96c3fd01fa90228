package serial

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/devices/modbus/frame"
)

// Parity of each character.
type Parity int

// The parities.
const (
	None Parity = iota
	Even
	Odd
)

// Config says which line, and how fast.
type Config struct {
	Path string
	// Line has speed and stop bits; its Parity is set from the other.
	Line   frame.Line
	Parity Parity
}

// Open opens the line in raw mode with 8 data bits, for this process alone, and
// throws away what had come before. The file has deadlines.
func Open(cfg Config) (*os.File, error) {
	// Nonblocking, so that a missing carrier does not hold up the open and the runtime
	// can wait for bytes; not the process's controlling terminal.
	fd, err := unix.Open(cfg.Path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: cfg.Path, Err: err}
	}
	if err := setUp(fd, cfg); err != nil {
		_ = unix.Close(fd) // the first error says why
		return nil, fmt.Errorf("open serial line %s: %w", cfg.Path, err)
	}
	return os.NewFile(uintptr(fd), cfg.Path), nil
}

func setUp(fd int, cfg Config) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return fmt.Errorf("it is no serial line: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		return fmt.Errorf("take it for this process alone: %w", err)
	}
	t.Iflag, t.Oflag, t.Lflag = unix.IGNBRK|unix.IGNPAR, 0, 0
	// BOTHER takes any speed from Ispeed and Ospeed.
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.BOTHER | unix.BOTHER<<unix.IBSHIFT
	if cfg.Line.StopBits == 2 {
		t.Cflag |= unix.CSTOPB
	}
	switch cfg.Parity {
	case Even:
		t.Cflag |= unix.PARENB
		t.Iflag |= unix.INPCK
	case Odd:
		t.Cflag |= unix.PARENB | unix.PARODD
		t.Iflag |= unix.INPCK
	case None:
	}
	t.Ispeed, t.Ospeed = uint32(cfg.Line.Baud), uint32(cfg.Line.Baud)
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS2, t); err != nil {
		return fmt.Errorf("set %d baud: %w", cfg.Line.Baud, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}
