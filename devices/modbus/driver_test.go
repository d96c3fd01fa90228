package modbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/drivertest"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/modbustest"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func every(d time.Duration) *v1alpha1.Duration { return &v1alpha1.Duration{Duration: d} }

// device has setpoint in holding 0 and count in holding 10.
func device(interval time.Duration) *devices.Device {
	return &devices.Device{
		Namespace: "plant", Name: "pump", UID: "u",
		Model: v1alpha1.DeviceModelSpec{Properties: []v1alpha1.Property{
			{Name: "setpoint", ValueType: v1alpha1.ValueType{Type: "int16"}, Min: new(-100.0), Max: new(100.0), Access: v1alpha1.ReadWrite},
			{Name: "count", ValueType: v1alpha1.ValueType{Type: "uint16"}, Access: v1alpha1.ReadOnly},
		}},
		Spec: v1alpha1.DeviceSpec{
			Protocol: v1alpha1.Protocol{Modbus: &v1alpha1.Modbus{
				TCP: &v1alpha1.ModbusTCP{Address: "plc:502"}, UnitID: 1, PollInterval: every(interval), Timeout: every(200 * time.Millisecond),
			}},
			Properties: []v1alpha1.DeviceProperty{
				{Name: "setpoint", Modbus: &v1alpha1.ModbusProperty{Table: "holding", Type: "int16"}},
				{Name: "count", Modbus: &v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 10}},
			},
		},
	}
}

// add gives the device another property.
func add(d *devices.Device, name string, kind v1alpha1.Type, access v1alpha1.Access, at v1alpha1.ModbusProperty) {
	d.Model.Properties = append(d.Model.Properties, v1alpha1.Property{Name: name, ValueType: v1alpha1.ValueType{Type: kind}, Access: access})
	d.Spec.Properties = append(d.Spec.Properties, v1alpha1.DeviceProperty{Name: name, Modbus: &at})
}

func driver(peer *modbustest.Device) *Driver {
	return &Driver{Dial: func(ctx context.Context, _ Endpoint) (bus.Conn, error) { return peer.Dial(ctx) }}
}

func TestDriver(t *testing.T) {
	peer := &modbustest.Device{}
	peer.Set(1, 0, 0)
	drivertest.Run(t, drivertest.Harness{
		Driver: func(*testing.T) devices.Driver { return driver(peer) },
		Device: func(*testing.T) *devices.Device { return device(20 * time.Millisecond) },
		Broken: func(*testing.T) (*devices.Device, string) {
			d := device(time.Second)
			d.Spec.Properties[1].Modbus.Address = 65536
			return d, "spec.properties[1].modbus.address"
		},
		Writable: "setpoint", ReadOnly: "count",
		Set: func(t *testing.T, _ string, v devices.Value) {
			t.Helper()
			n, _ := v.(int16)
			peer.Set(1, 0, uint16(n))
		},
		Get:  func(*testing.T, string) devices.Value { return int16(peer.Get(1, 0)) },
		Cut:  func(*testing.T) { peer.Down(true) },
		Heal: func(*testing.T) { peer.Down(false) },
	})
	peer.Close()
}

// run opens and runs a device in virtual time.
func run(t *testing.T, d *Driver, dev *devices.Device) (devices.Conn, *drivertest.Port, func()) {
	t.Helper()
	port := &drivertest.Port{}
	conn, err := d.Open(dev, port, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := drivertest.Start(t, conn)
	t.Cleanup(stop)
	return conn, port, stop
}

func wait(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual
	synctest.Wait()
}

func of(port *drivertest.Port, property string) []devices.Sample {
	return slices.DeleteFunc(port.Samples(), func(s devices.Sample) bool { return s.Property != property })
}

func TestEachPropertyAtItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{}
		peer.Set(1, 0, 5)
		peer.Delay(1, 3*time.Millisecond)
		dev := device(100 * time.Millisecond)
		dev.Spec.Properties[1].Modbus.PollInterval = every(time.Second)
		_, port, stop := run(t, driver(peer), dev)
		wait(10*time.Second + 50*time.Millisecond)
		stop()
		peer.Close()
		if fast, slow := len(of(port, "setpoint")), len(of(port, "count")); fast != 101 || slow != 11 {
			t.Errorf("%d and %d samples in ten seconds, want 101 and 11", fast, slow)
		}
		for _, s := range port.Samples() {
			if !s.Quality.IsGood() {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func TestNeighboursShareARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{}
		peer.Set(1, 0, 5)
		_, port, stop := run(t, driver(peer), device(time.Second))
		wait(3500 * time.Millisecond)
		stop()
		peer.Close()
		if n := len(peer.Seen(1)); n != 4 || len(port.Samples()) != 8 {
			t.Errorf("%d requests for %d samples, want 4 for 8", n, len(port.Samples()))
		}
	})
}

func TestOutageIsAGapOfKnownSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{}
		peer.Set(1, 0, 5)
		_, port, stop := run(t, driver(peer), device(100*time.Millisecond))
		wait(time.Second + 50*time.Millisecond)
		peer.Down(true)
		wait(3 * time.Second)
		h := port.Health()
		if h.Connected || h.Reason != devices.ReasonUnreachable || !strings.Contains(h.Message, "connection refused") {
			t.Errorf("%+v", h)
		}
		peer.Down(false)
		wait(10 * time.Second)
		stop()
		peer.Close()
		good, bad := 0, 0
		for _, s := range of(port, "count") {
			if s.Quality.IsGood() {
				good++
			} else if bad++; s.Quality != devices.BadNoCommunication || s.Value != nil {
				t.Errorf("%+v", s)
			}
		}
		gaps := port.Gaps()
		if bad != 1 || len(gaps) != 1 || gaps[0].Reason != "Outage" || gaps[0].Property != "" {
			t.Fatalf("%d bad samples, gaps %+v; want one each", bad, gaps)
		}
		if polls := 141; uint64(2*good)+gaps[0].Lost != uint64(2*polls) {
			t.Errorf("%d good samples and %d lost of %d", 2*good, gaps[0].Lost, 2*polls)
		}
		if missing := gaps[0].To.Sub(gaps[0].From); missing < 3*time.Second || missing > 9*time.Second {
			t.Errorf("gap of %v", missing)
		}
	})
}

func TestRefusedPropertyIsBadAndTheOthersGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{}
		peer.Set(1, 0, 5)
		peer.Hole(1, pdu.ReadHoldingRegisters, 10, 11)
		_, port, stop := run(t, driver(peer), device(100*time.Millisecond))
		wait(time.Second)
		if h := port.Health(); !h.Connected || h.Degraded != "Refused" {
			t.Errorf("%+v", h)
		}
		if s := of(port, "count"); len(s) != 1 || s[0].Quality != devices.BadConfiguration {
			t.Errorf("%+v", s)
		}
		if s := of(port, "setpoint"); len(s) != 10 && len(s) != 11 || !s[0].Quality.IsGood() {
			t.Errorf("%d samples of the other", len(s))
		}
		before := len(peer.Seen(1))
		wait(10 * time.Second)
		if n := len(peer.Seen(1)) - before; n > 101 {
			t.Errorf("%d requests for 100 polls: the refused one is asked for again and again", n)
		}
		peer.Do(func() { *peer.Unit(1) = *(&modbustest.Device{}).Unit(1) }) // configured anew
		wait(time.Minute)
		if s := of(port, "count"); !s[len(s)-1].Quality.IsGood() {
			t.Error("the property is never asked for again")
		}
		if h := port.Health(); h.Degraded != "" {
			t.Errorf("%+v", h)
		}
		stop()
		peer.Close()
	})
}

func TestDevicesShareABus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{RTU: true}
		peer.Set(1, 0, 1)
		peer.Set(2, 0, 2)
		d := driver(peer)
		open := func(unit int32) (*drivertest.Port, func()) {
			dev := device(100 * time.Millisecond)
			dev.Spec.Protocol.Modbus.UnitID = unit
			dev.Spec.Protocol.Modbus.RTUOverTCP, dev.Spec.Protocol.Modbus.TCP = dev.Spec.Protocol.Modbus.TCP, nil
			_, port, stop := run(t, d, dev)
			return port, stop
		}
		one, stopOne := open(1)
		two, stopTwo := open(2)
		dead, stopDead := open(3)
		wait(20 * time.Second)
		if peer.Dials() != 1 {
			t.Errorf("%d connections, want one", peer.Dials())
		}
		for port, want := range map[*drivertest.Port]int16{one: 1, two: 2} {
			s := of(port, "setpoint")
			if len(s) < 190 || s[len(s)-1].Value != want {
				t.Errorf("%d samples, %v, want %d", len(s), s[len(s)-1], want)
			}
		}
		if h := dead.Health(); h.Connected || h.Reason != devices.ReasonTimeout {
			t.Errorf("%+v", h)
		}
		stopOne()
		n := len(two.Samples())
		wait(time.Second)
		if len(two.Samples()) == n {
			t.Error("the bus ended with the first of its devices")
		}
		stopTwo()
		stopDead()
		if len(d.buses) != 0 {
			t.Errorf("%d buses left", len(d.buses))
		}
		peer.Close()
	})
}

func TestLineWithTwoSpeedsIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{RTU: true}
		peer.Set(1, 0, 1)
		d := driver(peer)
		open := func(baud int32) (*drivertest.Port, func()) {
			dev := device(100 * time.Millisecond)
			dev.Spec.Protocol.Modbus.TCP = nil
			dev.Spec.Protocol.Modbus.RTU = &v1alpha1.ModbusRTU{Device: "/dev/ttyUSB0", BaudRate: baud}
			_, port, stop := run(t, d, dev)
			return port, stop
		}
		one, stopOne := open(9600)
		wait(time.Second)
		two, stopTwo := open(19200)
		wait(time.Second)
		if h := two.Health(); h.Connected || h.Reason != "LineConflict" || !strings.Contains(h.Message, "9600") {
			t.Errorf("%+v", h)
		}
		if !one.Health().Connected {
			t.Errorf("%+v", one.Health())
		}
		stopOne()
		wait(10 * time.Second)
		if h := two.Health(); !h.Connected {
			t.Errorf("after the other has gone: %+v", h)
		}
		stopTwo()
		peer.Close()
	})
}

func TestStoreWithoutRoomIsAGapOfKnownSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{}
		peer.Set(1, 0, 1)
		dev := device(time.Second)
		for i := range 98 {
			add(dev, fmt.Sprint("p", i), "uint16", v1alpha1.ReadOnly, v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: int32(20 + i)})
		}
		_, port, stop := run(t, driver(peer), dev)
		port.Refuse(errors.New("disk full"))
		wait(200*time.Second - 50*time.Millisecond) // 20,000 samples
		port.Refuse(nil)
		wait(10 * time.Second)
		stop()
		peer.Close()
		gaps := port.Gaps()
		if len(gaps) != 1 || gaps[0].Reason != "StoreFull" || gaps[0].Lost == 0 {
			t.Fatalf("%+v", gaps)
		}
		if n := uint64(len(port.Samples())) + gaps[0].Lost; n != 21000 {
			t.Errorf("%d samples and %d lost, want 21000", len(port.Samples()), gaps[0].Lost)
		}
	})
}

func TestWrites(t *testing.T) {
	for name, c := range map[string]struct {
		at      v1alpha1.ModbusProperty
		kind    v1alpha1.Type
		lacks   []pdu.Function
		v       devices.Value
		address int
		want    uint16
	}{
		"register":                    {v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 20}, "uint16", nil, uint16(7), 20, 7},
		"register without function 6": {v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 20}, "uint16", []pdu.Function{6}, uint16(7), 20, 7},
		"second word":                 {v1alpha1.ModbusProperty{Table: "holding", Type: "int32", Address: 20}, "int32", nil, int32(-2), 21, 0xFFFE},
		"bit":                         {v1alpha1.ModbusProperty{Table: "holding", Type: "bool", Address: 30, Bit: new(int32(3))}, "bool", nil, true, 30, 0xF0F8},
		"bit without function 22":     {v1alpha1.ModbusProperty{Table: "holding", Type: "bool", Address: 30, Bit: new(int32(4))}, "bool", []pdu.Function{22, 6}, false, 30, 0xF0E0},
		"byte":                        {v1alpha1.ModbusProperty{Table: "holding", Type: "uint8", Address: 30}, "uint8", nil, uint8(9), 30, 0xF009},
		"scaled":                      {v1alpha1.ModbusProperty{Table: "holding", Type: "uint16", Address: 20, Scale: new(0.1)}, "float64", nil, 23.1, 20, 231},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				peer := &modbustest.Device{}
				peer.Set(1, 30, 0xF0F0)
				for _, fn := range c.lacks {
					peer.Lack(1, fn)
				}
				dev := device(time.Second)
				add(dev, "x", c.kind, v1alpha1.ReadWrite, c.at)
				dev.Spec.Properties[2].Verify = true
				conn, _, stop := run(t, driver(peer), dev)
				wait(100 * time.Millisecond)
				if errs := conn.Write(t.Context(), []devices.Write{{Property: "x", Value: c.v}}); errs[0] != nil {
					t.Error(errs[0])
				}
				if got := peer.Get(1, c.address); got != c.want {
					t.Errorf("the device holds %04x, want %04x", got, c.want)
				}
				stop()
				peer.Close()
			})
		})
	}
}

func TestCoils(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{}
		peer.SetCoil(1, 5, true)
		dev := device(time.Second)
		add(dev, "on", "bool", v1alpha1.ReadWrite, v1alpha1.ModbusProperty{Table: "coil", Address: 5})
		dev.Spec.Properties[2].Verify = true
		conn, _, stop := run(t, driver(peer), dev)
		wait(100 * time.Millisecond)
		for _, want := range []bool{true, false} {
			if s, err := conn.Read(t.Context(), []string{"on"}); err != nil || s[0].Value != want {
				t.Errorf("%v, %v, want %v", s, err, want)
			}
			if errs := conn.Write(t.Context(), []devices.Write{{Property: "on", Value: false}}); errs[0] != nil {
				t.Error(errs[0])
			}
		}
		stop()
		peer.Close()
	})
}

func TestVerifyFindsWhatTheDeviceDidNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := &modbustest.Device{}
		peer.Set(1, 0, 1)
		dev := device(time.Hour)
		dev.Spec.Properties[0].Verify = true
		conn, _, stop := run(t, driver(peer), dev)
		wait(100 * time.Millisecond)
		peer.Do(func() {
			peer.Script = func(_ byte, r pdu.Request, answer []byte) [][]byte {
				if r.Function().Writes() {
					peer.Set(1, 0, 50) // it clamps
				}
				return [][]byte{answer}
			}
		})
		errs := conn.Write(t.Context(), []devices.Write{{Property: "setpoint", Value: int16(90)}})
		var q *devices.QualityError
		if !errors.As(errs[0], &q) || q.Quality != devices.BadDeviceFailure || !strings.Contains(q.Reason, "holds 50") {
			t.Errorf("got %v", errs[0])
		}
		stop()
		peer.Close()
	})
}

func TestExceptionsAreQualities(t *testing.T) {
	for code := range pdu.Code(20) {
		if code == 0 {
			continue
		}
		if q := quality(&pdu.Exception{Function: 3, Code: code}); !q.IsBad() {
			t.Errorf("%v is %v", code, q)
		}
	}
	for err, want := range map[error]devices.Quality{
		nil:                                      devices.Good,
		bus.ErrTimeout:                           devices.BadTimeout,
		bus.ErrNotConnected:                      devices.BadNoCommunication,
		bus.ErrDamaged:                           devices.BadNoCommunication,
		&bus.DemotedError{Cause: bus.ErrTimeout}: devices.BadNoCommunication,
	} {
		if q := quality(err); q != want {
			t.Errorf("%v is %v, want %v", err, q, want)
		}
	}
}

func TestFaultsOfADevice(t *testing.T) {
	for field, broken := range map[string]func(d *devices.Device){
		"spec.protocol.modbus":                   func(d *devices.Device) { d.Spec.Protocol.Modbus.TCP = nil },
		"spec.protocol.modbus.tcp.address":       func(d *devices.Device) { d.Spec.Protocol.Modbus.TCP.Address = "plc" },
		"spec.protocol.modbus.unitId":            func(d *devices.Device) { d.Spec.Protocol.Modbus.UnitID = 256 },
		"spec.protocol.modbus.timeout":           func(d *devices.Device) { d.Spec.Protocol.Modbus.Timeout = every(0) },
		"spec.properties[0].name":                func(d *devices.Device) { d.Spec.Properties[0].Name = "none" },
		"spec.properties[1].name":                func(d *devices.Device) { d.Spec.Properties[1].Name = "setpoint" },
		"spec.properties[0].modbus":              func(d *devices.Device) { d.Spec.Properties[0].Modbus = nil },
		"spec.properties[0].modbus.table":        func(d *devices.Device) { d.Spec.Properties[0].Modbus.Table = "input" },
		"spec.properties[0].modbus.pollInterval": func(d *devices.Device) { d.Spec.Properties[0].Modbus.PollInterval = every(1) },
		"spec.protocol.modbus.rtu.device": func(d *devices.Device) {
			d.Spec.Protocol.Modbus.TCP, d.Spec.Protocol.Modbus.RTU = nil, &v1alpha1.ModbusRTU{Device: "/etc/passwd"}
		},
	} {
		dev := device(time.Second)
		broken(dev)
		var e *devices.ConfigError
		if _, err := (&Driver{}).Open(dev, &drivertest.Port{}, nil); !errors.As(err, &e) || e.Field != field {
			t.Errorf("got %v, want a fault of %s", err, field)
		}
	}
}
