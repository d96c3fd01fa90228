package modbus

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	driver "github.com/skerry-io/skerry/devices/modbus"
	"github.com/skerry-io/skerry/devices/onboard"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// TestOnboardTable: a Device made of a table of registers reads a device of others.
func TestOnboardTable(t *testing.T) {
	port := freePort(t)
	startSlave(t, "tcp", strconv.Itoa(port))
	spec := tcp(port, 1)
	table := "name,reference,type,access\nvalue,40011,,RW\ncounter,40012,,\ninput,30006,,\non,00004,,RW\nwide,40021,uint32,RW\n"
	r, err := onboard.Registers(strings.NewReader(table), onboard.Into{Namespace: "plant", Node: "edge-1", Name: "device", Protocol: v1alpha1.Protocol{Modbus: &spec}})
	if err != nil {
		t.Fatal(err)
	}
	want := device(spec)
	for i, p := range r.Devices[0].Spec.Properties {
		at := *want.Spec.Properties[i].Modbus
		if at.Type == "" {
			at.Type = p.Modbus.Type
		}
		if p.Name != want.Spec.Properties[i].Name || *p.Modbus != at {
			t.Errorf("%s at %+v, want %+v", p.Name, p.Modbus, at)
		}
	}
	want.Spec, want.Model = r.Devices[0].Spec, r.Models[0].Spec
	_, got := open(t, &driver.Driver{}, want)
	got.UntilValue(t, 0, "value", uint16(10))
	got.UntilValue(t, 0, "wide", uint32(20<<16+21))
	got.UntilValue(t, 0, "on", true)
}

// TestIdentifyWithout: libmodbus' server does not know function 43, and leaves it
// without an answer.
func TestIdentifyWithout(t *testing.T) {
	port := freePort(t)
	startSlave(t, "tcp", strconv.Itoa(port))
	d := &driver.Driver{}
	if who, err := identified(t, d, tcp(port, 1)); err == nil || !strings.Contains(err.Error(), "does not answer: it is not there, or has no function 43/14") {
		t.Errorf("%s, %v", who, err)
	}
	if who, err := identified(t, d, tcp(freePort(t), 1)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %s, %v", who, err)
	}
	if who, err := identified(t, d, v1alpha1.Modbus{}); err == nil || !strings.Contains(err.Error(), "spec.protocol.modbus: needs exactly one of") {
		t.Errorf("no address: %s, %v", who, err)
	}
}

// identified asks a device that is no Device who it is.
func identified(t *testing.T, d *driver.Driver, spec v1alpha1.Modbus) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	who, err := d.Identify(ctx, spec)
	var text []string
	for _, o := range who.Objects {
		text = append(text, o.Name+"="+o.Value)
	}
	return strings.Join(text, " "), err
}
