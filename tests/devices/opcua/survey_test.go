package opcua_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua"
	"github.com/skerry-io/skerry/devices/opcua/pki"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// looked is what a browse of a server told.
type looked struct {
	lines []survey.Line
	nodes []survey.Node
	types []v1alpha1.TypeDefinition
	end   *survey.End
}

// look browses a server, whose certificate it trusts by its fingerprint.
func look(t *testing.T, d *opcua.Driver, url, fingerprint, root string, most int) looked {
	t.Helper()
	var got looked
	server := &v1alpha1.OPCUA{URL: url, Trust: &v1alpha1.OPCUATrust{Fingerprints: []string{fingerprint}}}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := d.Browse(ctx, &devices.Device{Spec: v1alpha1.DeviceSpec{Protocol: v1alpha1.Protocol{OPCUA: server}}}, root, most, func(l survey.Line) error {
		got.lines = append(got.lines, l)
		switch {
		case l.Node != nil:
			got.nodes = append(got.nodes, *l.Node)
		case l.Type != nil:
			got.types = append(got.types, *l.Type)
		case l.End != nil:
			got.end = l.End
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// find gives the node of a name below a parent's id, or of any where that is empty.
func (l looked) find(t *testing.T, name string) survey.Node {
	t.Helper()
	i := slices.IndexFunc(l.nodes, func(n survey.Node) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("no node %s", name)
	}
	return l.nodes[i]
}

func TestSurvey(t *testing.T) {
	p := startPeer(t, map[string]any{"motors": 2})
	d, err := opcua.New(opcua.Config{Dir: t.TempDir(), Name: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	found, err := d.Discover(t.Context(), p.url)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(found.Endpoints, func(e survey.Endpoint) bool { return e.Best })
	if i < 0 || found.Endpoints[i].Policy != "Aes256Sha256RsaPss" || found.Endpoints[i].Mode != "SignAndEncrypt" || len(found.Servers) == 0 {
		t.Fatalf("discovered %+v", found)
	}
	best := found.Endpoints[i]
	if !slices.Contains(best.Users, "UserName") || !slices.Contains(best.Users, "Anonymous") {
		t.Errorf("users %v", best.Users)
	}

	stranger := &devices.Device{Spec: v1alpha1.DeviceSpec{Protocol: v1alpha1.Protocol{OPCUA: &v1alpha1.OPCUA{URL: p.url}}}}
	err = d.Browse(t.Context(), stranger, "", 100, func(survey.Line) error { return nil })
	rejected, ok := errors.AsType[*pki.RejectedError](err)
	if !ok || rejected.Fingerprint != best.Fingerprint {
		t.Fatalf("a server that nobody trusts: %v, discovered %s", err, best.Fingerprint)
	}

	got := look(t, d, p.url, best.Fingerprint, "", 10_000)
	if got.end == nil || got.end.Truncated || got.end.Error != "" || got.end.Nodes < len(got.nodes) {
		t.Errorf("end %+v of %d nodes", got.end, len(got.nodes))
	}
	analog := got.find(t, "Analog")
	if analog.ID != "nsu=urn:skerry:test:a;s=Analog" || analog.Unit != "°C" || analog.Min == nil || *analog.Max != 100 || analog.Value.Type != v1alpha1.TypeFloat64 ||
		analog.Access != v1alpha1.ReadWrite || analog.TypeName != "AnalogItemType" || analog.Parent != "nsu=urn:skerry:test:a;s=Types" {
		t.Errorf("Analog: %+v", analog)
	}
	for name, want := range map[string]string{
		"Boolean": "bool ReadWrite", "Byte": "uint8 ReadWrite", "ReadOnly": "int32 ReadOnly", "DateTime": "datetime ReadWrite", "ByteString": "bytes ReadWrite",
		"Mode": "enum Mode ReadWrite", "Point": "struct Point ReadWrite", "Line": "struct Line ReadWrite", "Array": "int32 [0] ReadWrite", "Matrix": "float64 [2 3] ReadWrite",
	} {
		n := got.find(t, name)
		text := ""
		if n.Value != nil {
			text = string(n.Value.Type)
			if n.Value.TypeName != "" {
				text += " " + n.Value.TypeName
			}
			if n.Value.Dimensions != nil {
				text += fmt.Sprint(" ", n.Value.Dimensions)
			}
		}
		if text += " " + string(n.Access); text != want {
			t.Errorf("%s: %s, %s, want %s", name, text, n.Unmapped, want)
		}
	}
	add := got.find(t, "Add")
	if add.Class != survey.Method || len(add.Inputs) != 2 || add.Inputs[1].Name != "b" || add.Inputs[1].Type != v1alpha1.TypeInt16 || len(add.Outputs) != 1 {
		t.Errorf("Add: %+v", add)
	}
	var names []string
	for _, def := range got.types {
		names = append(names, def.Name)
	}
	if want := []string{"Line", "Mode", "Point"}; !slices.Equal(names, want) || len(got.types[1].Values) != 3 || got.types[1].Values[1] != (v1alpha1.EnumValue{Number: 5, Name: "Auto"}) ||
		got.types[2].Fields[2].TypeName != "Mode" || len(got.types[2].Fields[3].Dimensions) != 1 {
		t.Errorf("types %+v", got.types)
	}
	if motor := got.find(t, "Motor 2"); motor.TypeName != "MotorType" || motor.Class != survey.Object {
		t.Errorf("Motor 2: %+v", motor)
	}
	for _, n := range got.nodes {
		if n.ID == "i=2253" || n.Parent == "i=2253" {
			t.Errorf("%s is the server's own", n.Name)
		}
	}

	types := look(t, d, p.url, best.Fingerprint, "nsu=urn:skerry:test:a;s=Types", 5)
	if len(types.nodes) != 5 || !types.end.Truncated {
		t.Errorf("%d nodes of 5, %+v", len(types.nodes), types.end)
	}
	err = d.Browse(t.Context(), &devices.Device{Spec: v1alpha1.DeviceSpec{Protocol: v1alpha1.Protocol{OPCUA: &v1alpha1.OPCUA{
		URL: p.url, Trust: &v1alpha1.OPCUATrust{Fingerprints: []string{best.Fingerprint}},
	}}}}, "nsu=urn:none;s=x", 5, func(survey.Line) error { return nil })
	if config, ok := errors.AsType[*devices.ConfigError](err); !ok || config.Field != "root" {
		t.Errorf("a root in no namespace: %v", err)
	}
}
