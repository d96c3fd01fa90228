package modbus

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/drivertest"
	driver "github.com/skerry-io/skerry/devices/modbus"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func pause(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // the fault lasts so long

func TestTablesOfLibmodbus(t *testing.T) {
	port := freePort(t)
	peer := startSlave(t, "tcp", strconv.Itoa(port))
	conn, got := open(t, &driver.Driver{}, device(tcp(port, 1)))
	for name, want := range map[string]devices.Value{
		"value": uint16(10), "counter": uint16(11), "input": uint16(10005), "on": true, "wide": uint32(20<<16 + 21),
	} {
		got.UntilValue(t, 0, name, want)
	}
	n := len(got.Samples())
	write(t, conn, "value", uint16(4711))
	write(t, conn, "on", false)
	write(t, conn, "wide", uint32(0xDEADBEEF))
	got.UntilValue(t, n, "value", uint16(4711))
	got.UntilValue(t, n, "on", false)
	got.UntilValue(t, n, "wide", uint32(0xDEADBEEF))
	peer.do(t, "set 11 77")
	got.UntilValue(t, n, "counter", uint16(77))
}

func TestHoleOfLibmodbusIsLearned(t *testing.T) {
	port := freePort(t)
	startSlave(t, "tcp", strconv.Itoa(port))
	dev := device(tcp(port, 1))
	at := v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 1005} // libmodbus has 1,000
	dev.Model.Properties = append(dev.Model.Properties, v1alpha1.Property{Name: "missing", ValueType: v1alpha1.ValueType{Type: "uint16"}})
	dev.Spec.Properties = append(dev.Spec.Properties, v1alpha1.DeviceProperty{Name: "missing", Modbus: &at})
	near := v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 999}
	dev.Model.Properties = append(dev.Model.Properties, v1alpha1.Property{Name: "last", ValueType: v1alpha1.ValueType{Type: "uint16"}})
	dev.Spec.Properties = append(dev.Spec.Properties, v1alpha1.DeviceProperty{Name: "last", Modbus: &near})
	_, got := open(t, &driver.Driver{}, dev)
	got.UntilValue(t, 0, "last", uint16(999))
	got.Until(t, "the quality of what is missing", func() bool {
		for _, s := range got.Samples() {
			if s.Property == "missing" && s.Quality == devices.BadConfiguration {
				return got.Health().Degraded == "Refused"
			}
		}
		return false
	})
}

// openThroughProxy opens a device behind a proxy, and waits for its first value.
func openThroughProxy(t *testing.T) (*proxy, *drivertest.Port) {
	t.Helper()
	port := freePort(t)
	startSlave(t, "tcp", strconv.Itoa(port))
	link := startProxy(t, fmt.Sprintf("127.0.0.1:%d", port))
	_, got := open(t, &driver.Driver{}, device(tcp(link.port(), 1)))
	goodAfter(t, got, 0, "value")
	return link, got
}

func TestCutOfThreeSeconds(t *testing.T) {
	link, got := openThroughProxy(t)
	link.set(false, true)
	got.UntilConnected(t, false)
	pause(3 * time.Second)
	n := len(got.Samples())
	link.set(false, false)
	goodAfter(t, got, n, "value")
	got.Until(t, "the gap", func() bool { return len(got.Gaps()) == 1 })
	if g := got.Gaps()[0]; g.Lost == 0 || g.To.Sub(g.From) < 3*time.Second {
		t.Errorf("%+v", g)
	}
}

func TestBlackHole(t *testing.T) {
	link, got := openThroughProxy(t)
	link.set(true, false)
	got.UntilConnected(t, false)
	pause(8 * time.Second)
	n := len(got.Samples())
	link.set(false, false)
	goodAfter(t, got, n, "value")
}

func TestKillAndRestart(t *testing.T) {
	port := freePort(t)
	peer := startSlave(t, "tcp", strconv.Itoa(port))
	conn, got := open(t, &driver.Driver{}, device(tcp(port, 1)))
	goodAfter(t, got, 0, "value")
	peer.kill()
	got.UntilConnected(t, false)
	n := len(got.Samples())
	peer.restart(t)
	goodAfter(t, got, n, "value")
	write(t, conn, "value", uint16(1))
	got.UntilValue(t, n, "value", uint16(1))
}

// The value changes with every request: an answer that is not its own is seen.
func TestLateAnswers(t *testing.T) {
	port := freePort(t)
	peer := startSlave(t, "tcp", strconv.Itoa(port))
	conn, got := open(t, &driver.Driver{}, device(tcp(port, 1)))
	goodAfter(t, got, 0, "value")
	for i := range 5 {
		peer.do(t, "late 1 450")
		pause(500 * time.Millisecond)
		want := uint16(1000 + i)
		peer.do(t, "set 11 %d", want)
		samples, err := conn.Read(t.Context(), []string{"counter"})
		if err != nil || samples[0].Quality.IsGood() && samples[0].Value != want {
			t.Errorf("%+v, %v: want %d, which was there before the request", samples, err, want)
		}
	}
	if c := got.Health().Counters; c["late"] == 0 {
		t.Errorf("no late answer was seen: %v", c)
	}
}

// Units 1 to 8 behind one connection, first all alive, then one dead. The exact bound is
// tested in virtual time (devices/modbus/bus); here the machine may be busy with others,
// which costs polls, too: so it is enough that one of three counts is within it.
func TestOneDeadOfEight(t *testing.T) {
	port := freePort(t)
	peer := startSlave(t, "tcp", strconv.Itoa(port), "1,2,3,4,5,6,7,8")
	d := &driver.Driver{}
	var last *drivertest.Port
	for unit := int32(1); unit <= 8; unit++ {
		protocol := tcp(port, unit)
		protocol.PollInterval = every(200 * time.Millisecond)
		_, got := open(t, d, device(protocol))
		goodAfter(t, got, 0, "value")
		last = got
	}
	count := func() (others, dead int) {
		before := peer.served(t)
		pause(10 * time.Second)
		for unit, n := range peer.served(t) {
			if n -= before[unit]; unit == 5 {
				dead = n
			} else {
				others += n
			}
		}
		return others, dead
	}
	alive, _ := count()
	peer.do(t, "silent 5 on")
	for range 3 {
		others, dead := count()
		lost := 1 - float64(others)/float64(alive)
		t.Logf("requests to the seven others in 10 s: %d, all alive %d: %.1f %% lost; %d to the dead one; %d timeouts", others, alive, 100*lost, dead, last.Health().Counters["timeouts"])
		if lost < 0.05 {
			return
		}
	}
	t.Error("one dead unit of eight costs the others 5 % of their polls or more")
}
