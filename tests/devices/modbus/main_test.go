package modbus

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/drivertest"
	driver "github.com/skerry-io/skerry/devices/modbus"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("SKERRY_E2E") == "" {
		fmt.Println("SKIP: these tests build and run other people's Modbus devices; SKERRY_E2E=1 runs them")
		return
	}
	os.Exit(m.Run())
}

// program is slave/slave.c, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "skerry-modbus")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "slave")
	text, err := exec.Command("gcc", "-O2", "-Wall", "-o", out, "slave/slave.c", "-I/usr/include/modbus", "-lmodbus").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	return out, nil
})

// slave is a running process of the C program.
type slave struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	args []string
}

// startSlave runs one until the test ends.
func startSlave(tb testing.TB, args ...string) *slave {
	tb.Helper()
	path, err := program()
	if err != nil {
		tb.Skipf("no device of libmodbus (apt-get install gcc libc6-dev libmodbus-dev): %v", err)
	}
	s := &slave{args: args}
	s.start(tb, path)
	tb.Cleanup(s.kill)
	return s
}

func (s *slave) start(tb testing.TB, path string) {
	tb.Helper()
	s.cmd = exec.Command(path, s.args...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		s.in, err = s.cmd.StdinPipe()
	}
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	s.out = bufio.NewScanner(out)
	if !s.out.Scan() || s.out.Text() != "ready" {
		tb.Fatalf("slave %v did not start: %q", s.args, s.out.Text())
	}
}

// kill ends it as a power cut does.
func (s *slave) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()
}

func (s *slave) restart(tb testing.TB) {
	tb.Helper()
	path, err := program()
	if err != nil {
		tb.Fatal(err)
	}
	s.start(tb, path)
}

// do sends a command and waits until it was obeyed.
func (s *slave) do(tb testing.TB, format string, args ...any) (lines []string) {
	tb.Helper()
	fmt.Fprintf(s.in, format+"\n", args...)
	for s.out.Scan() {
		if s.out.Text() == "ok" {
			return lines
		}
		lines = append(lines, s.out.Text())
	}
	tb.Fatalf("slave ended: %v", s.out.Err())
	return nil
}

// served returns how many requests each unit got.
func (s *slave) served(tb testing.TB) map[int]int {
	tb.Helper()
	got := map[int]int{}
	for _, line := range s.do(tb, "answer") {
		for f := range strings.FieldsSeq(line) {
			unit, n, _ := strings.Cut(f, "=")
			u, err := strconv.Atoi(unit)
			if err != nil {
				tb.Fatal(err)
			}
			if got[u], err = strconv.Atoi(n); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return got
}

// freePort returns a port of loopback that nobody has.
func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func every(d time.Duration) *v1alpha1.Duration { return &v1alpha1.Duration{Duration: d} }

// device is a Device with properties of all tables: value (holding 10), counter
// (holding 11), input (input 5), on (coil 3), wide (holding 20 and 21, far from a hole).
func device(protocol v1alpha1.Modbus) *devices.Device {
	d := &devices.Device{Namespace: "plant", Name: "device", Spec: v1alpha1.DeviceSpec{Protocol: v1alpha1.Protocol{Modbus: &protocol}}}
	for _, p := range []struct {
		name   string
		kind   v1alpha1.Type
		access v1alpha1.Access
		at     v1alpha1.ModbusProperty
	}{
		{"value", "uint16", v1alpha1.ReadWrite, v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 10}},
		{"counter", "uint16", v1alpha1.ReadOnly, v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 11}},
		{"input", "uint16", v1alpha1.ReadOnly, v1alpha1.ModbusProperty{Table: "input", Type: "uint16", Address: 5}},
		{"on", "bool", v1alpha1.ReadWrite, v1alpha1.ModbusProperty{Table: "coil", Address: 3}},
		{"wide", "uint32", v1alpha1.ReadWrite, v1alpha1.ModbusProperty{Table: "holding", Type: "uint32", Address: 20}},
	} {
		d.Model.Properties = append(d.Model.Properties, v1alpha1.Property{Name: p.name, ValueType: v1alpha1.ValueType{Type: p.kind}, Access: p.access})
		d.Spec.Properties = append(d.Spec.Properties, v1alpha1.DeviceProperty{Name: p.name, Modbus: &p.at, Verify: true})
	}
	return d
}

func tcp(port int, unit int32) v1alpha1.Modbus {
	return v1alpha1.Modbus{
		TCP: &v1alpha1.ModbusTCP{Address: fmt.Sprintf("127.0.0.1:%d", port)}, UnitID: unit,
		PollInterval: every(50 * time.Millisecond), Timeout: every(300 * time.Millisecond),
	}
}

// open runs a device until the test ends.
func open(t *testing.T, d *driver.Driver, dev *devices.Device) (devices.Conn, *drivertest.Port) {
	t.Helper()
	port := &drivertest.Port{}
	conn, err := d.Open(dev, port, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Start(t, conn)
	return conn, port
}

// goodAfter waits for a good value of a property that came after the first n samples.
func goodAfter(tb testing.TB, port *drivertest.Port, n int, property string) {
	tb.Helper()
	port.Until(tb, "a good "+property, func() bool {
		for _, s := range port.Samples()[n:] {
			if s.Property == property && s.Quality.IsGood() {
				return true
			}
		}
		return false
	})
}

// write writes and fails the test on an error.
func write(t *testing.T, conn devices.Conn, property string, v devices.Value) {
	t.Helper()
	for _, err := range conn.Write(t.Context(), []devices.Write{{Property: property, Value: v}}) {
		if err != nil {
			t.Errorf("write %s: %v", property, err)
		}
	}
}
