package serial

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/devices/modbus/frame"
)

func TestBytesPassUnchanged(t *testing.T) {
	far, near, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer far.Close()
	defer near.Close()
	f, err := Open(Config{Path: near.Name(), Line: frame.Line{Baud: 19200, StopBits: 1}, Parity: Even})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := make([]byte, 256) // XON, XOFF, CR, DEL, EOF and all others
	for i := range all {
		all[i] = byte(i)
	}
	if _, err := far.Write(all); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, 256)
	buf := make([]byte, 64)
	for len(got) < 256 {
		if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := f.Read(buf)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		got = append(got, buf[:n]...)
	}
	if string(got) != string(all) {
		t.Errorf("got %x", got)
	}
	tio, err := unix.IoctlGetTermios(int(near.Fd()), unix.TCGETS2)
	if err != nil || tio.Ospeed != 19200 || tio.Cflag&unix.CSIZE != unix.CS8 {
		t.Errorf("%+v, %v", tio, err)
	}
}

func TestOpensTerminalsOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/dev/null", "/dev/zero"} {
		if f, err := Open(Config{Path: path, Line: frame.Line{Baud: 9600}}); !errors.Is(err, unix.ENOTTY) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
	if _, err := Open(Config{Path: "/dev/nothing"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}
