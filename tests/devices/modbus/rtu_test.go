package modbus

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	driver "github.com/skerry-io/skerry/devices/modbus"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// line is a pair of pseudo-terminals made by socat; it returns their names below /dev.
func line(t *testing.T) (near, far string) {
	t.Helper()
	if _, err := exec.LookPath("socat"); err != nil {
		t.Skip("no serial line: apt-get install socat")
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "near"), filepath.Join(dir, "far")
	cmd := exec.Command("socat", "pty,raw,echo=0,link="+a, "pty,raw,echo=0,link="+b)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	end := time.Now().Add(30 * time.Second)
	for {
		near, errA := os.Readlink(a)
		far, errB := os.Readlink(b)
		if errA == nil && errB == nil {
			return near, far
		}
		if time.Now().After(end) {
			t.Fatalf("socat made no line: %v, %v", errA, errB)
		}
		pause(10 * time.Millisecond)
	}
}

func rtu(path string, unit int32) v1alpha1.Modbus {
	return v1alpha1.Modbus{
		RTU:    &v1alpha1.ModbusRTU{Device: path, BaudRate: 115200, Parity: v1alpha1.ParityNone, StopBits: 2},
		UnitID: unit, PollInterval: every(50 * time.Millisecond), Timeout: every(300 * time.Millisecond),
	}
}

func TestSerialLine(t *testing.T) {
	near, far := line(t)
	peer := startSlave(t, "rtu", far, "7")
	conn, got := open(t, &driver.Driver{}, device(rtu(near, 7)))
	for name, want := range map[string]devices.Value{
		"value": uint16(10), "counter": uint16(11), "input": uint16(10005), "on": true, "wide": uint32(20<<16 + 21),
	} {
		got.UntilValue(t, 0, name, want)
	}
	n := len(got.Samples())
	write(t, conn, "wide", uint32(0xDEADBEEF))
	write(t, conn, "on", false)
	got.UntilValue(t, n, "wide", uint32(0xDEADBEEF))

	t.Run("garbage", func(t *testing.T) {
		for i, noise := range []string{"00", "07", "0703", "07030400", "ffffffffffffffffff", "07030a0001000200030004000556", "0783020000"} {
			peer.do(t, "noise %s", noise)
			n := len(got.Samples())
			peer.do(t, "set 11 %d", 500+i)
			got.UntilValue(t, n, "counter", uint16(500+i))
		}
	})
	t.Run("late", func(t *testing.T) {
		for i := range 4 {
			peer.do(t, "late 7 400")
			pause(450 * time.Millisecond)
			want := uint16(1000 + i)
			peer.do(t, "set 11 %d", want)
			samples, err := conn.Read(t.Context(), []string{"counter"})
			if err != nil || samples[0].Quality.IsGood() && samples[0].Value != want {
				t.Errorf("%+v, %v: want %d, which was there before the request", samples, err, want)
			}
			n := len(got.Samples())
			goodAfter(t, got, n, "counter")
		}
	})
	t.Run("kill and restart", func(t *testing.T) {
		peer.kill()
		got.UntilConnected(t, false)
		n := len(got.Samples())
		peer.restart(t)
		goodAfter(t, got, n, "counter")
	})
}

func TestSerialLineBehindTCP(t *testing.T) {
	near, far := line(t)
	startSlave(t, "rtu", far, "7")
	port := freePort(t)
	bridge := exec.Command("socat", "tcp-listen:"+strconv.Itoa(port)+",bind=127.0.0.1,reuseaddr,fork", near+",raw,echo=0")
	bridge.Stderr = os.Stderr
	if err := bridge.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = bridge.Process.Kill()
		_ = bridge.Wait()
	})
	protocol := tcp(port, 7)
	protocol.RTUOverTCP, protocol.TCP = protocol.TCP, nil
	conn, got := open(t, &driver.Driver{}, device(protocol))
	got.UntilValue(t, 0, "wide", uint32(20<<16+21))
	n := len(got.Samples())
	write(t, conn, "value", uint16(5))
	got.UntilValue(t, n, "value", uint16(5))
}
