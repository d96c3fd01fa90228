package opcua_test

import (
	"fmt"
	"testing"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/drivertest"
	"github.com/skerry-io/skerry/devices/opcua"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// The suite that every driver passes.
func TestDriver(t *testing.T) {
	p := startPeer(t, nil)
	b := startBetween(t, p)
	ns := int(p.do(t, map[string]any{"do": "look"})["ns"].(float64))
	low, high := -100.0, 100.0
	device := func(*testing.T) *devices.Device {
		dev := counters(b.url(p), 1, func(o *v1alpha1.OPCUA) { o.SecurityPolicy, o.SecurityMode = v1alpha1.PolicyNone, v1alpha1.ModeNone })
		dev.Model.Properties = append(dev.Model.Properties, v1alpha1.Property{
			Name: "Int16", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt16}, Access: v1alpha1.ReadWrite, Min: &low, Max: &high,
		})
		dev.Spec.Properties = append(dev.Spec.Properties, v1alpha1.DeviceProperty{Name: "Int16", OPCUA: &v1alpha1.OPCUAProperty{NodeID: space + "Int16"}})
		return dev
	}
	drivertest.Run(t, drivertest.Harness{
		Driver: func(t *testing.T) devices.Driver {
			t.Helper()
			d, err := opcua.New(opcua.Config{Dir: t.TempDir(), Name: "edge-1"})
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		Device: device,
		Broken: func(t *testing.T) (*devices.Device, string) {
			t.Helper()
			dev := device(t)
			dev.Spec.Properties[1].OPCUA.NodeID = "ns=2;s=Int16"
			return dev, "spec.properties[1].opcua.nodeId"
		},
		Writable: "Int16", ReadOnly: "Counter0",
		Set: func(t *testing.T, property string, v devices.Value) {
			t.Helper()
			p.do(t, map[string]any{"do": "set", "node": fmt.Sprintf("ns=%d;s=%s", ns, property), "type": "Int16", "value": v})
		},
		Cut:  func(*testing.T) { b.cut(true) },
		Heal: func(*testing.T) { b.cut(false) },
	})
}
