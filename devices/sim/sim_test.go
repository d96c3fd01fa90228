package sim_test

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/drivertest"
	"github.com/skerry-io/skerry/devices/sim"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func device() *devices.Device {
	return &devices.Device{
		Namespace: "plant", Name: "press", UID: "u",
		Model: v1alpha1.DeviceModelSpec{
			Properties: []v1alpha1.Property{
				{Name: "setpoint", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt16}, Min: new(-100.0), Max: new(100.0), Access: v1alpha1.ReadWrite},
				{Name: "count", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeUint64}, Access: v1alpha1.ReadOnly},
				{Name: "level", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeFloat64}, Access: v1alpha1.ReadOnly},
				{Name: "small", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeUint8}, Access: v1alpha1.ReadOnly},
				{Name: "text", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeString, Dimensions: []int32{2}}, Access: v1alpha1.ReadOnly},
			},
			Methods: []v1alpha1.Method{{
				Name:    "Echo",
				Inputs:  []v1alpha1.FieldType{{Name: "in", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt32}}},
				Outputs: []v1alpha1.FieldType{{Name: "out", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt32}}},
			}},
		},
		Spec: v1alpha1.DeviceSpec{
			Protocol: v1alpha1.Protocol{Sim: &v1alpha1.Sim{Interval: &v1alpha1.Duration{Duration: 10 * time.Millisecond}}},
			Properties: []v1alpha1.DeviceProperty{
				{Name: "setpoint"},
				{Name: "count", Sim: &v1alpha1.SimProperty{Waveform: v1alpha1.WaveCounter}},
				{Name: "level", Sim: &v1alpha1.SimProperty{Waveform: v1alpha1.WaveSine, Amplitude: new(10.0), Offset: new(50.0)}},
				{Name: "small", Sim: &v1alpha1.SimProperty{Waveform: v1alpha1.WaveSquare, Amplitude: new(1000.0)}},
				{Name: "text"},
			},
		},
	}
}

func TestDriver(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Driver: func(*testing.T) devices.Driver { return sim.Driver{} },
		Device: func(*testing.T) *devices.Device { return device() },
		Broken: func(*testing.T) (*devices.Device, string) {
			d := device()
			d.Spec.Properties[4].Sim = &v1alpha1.SimProperty{Waveform: v1alpha1.WaveSine}
			return d, "spec.properties[4].sim.waveform"
		},
		Writable: "setpoint", ReadOnly: "count",
	})
}

// TestValues reads the samples of a minute of virtual time.
func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dev := device()
		dev.Spec.Protocol.Sim.Interval.Duration = time.Second
		port := &drivertest.Port{}
		conn, err := sim.Driver{}.Open(dev, port, nil)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		stop := drivertest.Start(t, conn)
		time.Sleep(time.Minute - time.Millisecond) //nolint:forbidigo // virtual
		synctest.Wait()
		stop()
		low, high := math.Inf(1), math.Inf(-1)
		counts := uint64(0)
		for _, s := range port.Samples() {
			switch s.Property {
			case "count":
				if s.Value != counts || !s.Source.Equal(begin.Add(time.Duration(counts)*time.Second)) {
					t.Fatalf("sample %d: %+v", counts, s)
				}
				counts++
			case "level":
				v, _ := devices.Float(s.Value)
				low, high = min(low, v), max(high, v)
			case "small":
				if s.Value != uint8(0) && s.Value != uint8(255) {
					t.Fatalf("beyond its type: %v", s.Value)
				}
			}
		}
		if counts != 60 || math.Abs(low-40) > 0.1 || math.Abs(high-60) > 0.1 {
			t.Errorf("%d samples from %v to %v", counts, low, high)
		}
	})
}

// TestRestart: a process that is killed goes on where what it stored ends.
func TestRestart(t *testing.T) {
	port := &drivertest.Port{}
	for run := range 3 {
		conn, err := sim.Driver{}.Open(device(), port, nil)
		if err != nil {
			t.Fatal(err)
		}
		stop := drivertest.Start(t, conn)
		n := len(port.Samples())
		port.Until(t, "samples", func() bool { return len(port.Samples()) > n+20 })
		if run == 0 {
			if err := errors.Join(conn.Write(t.Context(), []devices.Write{{Property: "setpoint", Value: int16(-9)}})...); err != nil {
				t.Fatal(err)
			}
			port.UntilValue(t, n, "setpoint", int16(-9))
		} else if got, err := conn.Read(t.Context(), []string{"setpoint"}); err != nil || got[0].Value != int16(-9) {
			t.Errorf("after a restart: %v, %v", got, err)
		}
		stop()
	}
	want := uint64(0)
	for _, s := range port.Samples() {
		if s.Property == "count" {
			if s.Value != want {
				t.Fatalf("count %v, want %d: one is lost, or doubled", s.Value, want)
			}
			want++
		}
	}
}

func TestCall(t *testing.T) {
	port := &drivertest.Port{}
	conn, err := sim.Driver{}.Open(device(), port, nil)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Start(t, conn)
	port.UntilConnected(t, true)
	got, err := conn.Call(t.Context(), "Echo", []devices.Field{{Name: "in", Value: 5.0}})
	if err != nil || len(got) != 1 || got[0].Name != "out" || got[0].Value != int32(5) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := conn.Call(t.Context(), "Echo", nil); devices.QualityOf(err) != devices.BadNotSupported {
		t.Errorf("without its argument: %v", err)
	}
}
