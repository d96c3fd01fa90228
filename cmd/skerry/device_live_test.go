package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// put gives an object to the API and to the edge.
func (p *plant) put(resource, name string, o any) {
	p.t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		p.t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(b, &plain); err != nil {
		p.t.Fatal(err)
	}
	plain["apiVersion"], plain["kind"] = v1alpha1.GroupVersion().String(), "Device" // or so
	p.mu.Lock()
	p.objects[resource+"/"+name] = plain
	p.mu.Unlock()
	key := resource + "/plant/" + name
	if err := p.store.Apply(store.Batch{Upserts: []store.Object{{Key: key, Version: "1", Value: b}}}); err != nil {
		p.t.Fatal(err)
	}
	p.wake(key)
}

func TestDeviceLive(t *testing.T) {
	p := newPlant(t)
	int16Type := v1alpha1.ValueType{Type: v1alpha1.TypeInt16}
	model := v1alpha1.DeviceModel{Spec: v1alpha1.DeviceModelSpec{
		Types: []v1alpha1.TypeDefinition{{Name: "Mode", Kind: v1alpha1.TypeEnum, Values: []v1alpha1.EnumValue{{Number: 0, Name: "Off"}, {Number: 2, Name: "Auto"}}}},
		Properties: []v1alpha1.Property{
			{Name: "Speed", ValueType: int16Type, Unit: "rpm", Access: v1alpha1.ReadWrite}, {Name: "Mode", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeEnum, TypeName: "Mode"}, Access: v1alpha1.ReadWrite},
		},
		Methods: []v1alpha1.Method{{Name: "Echo", Inputs: []v1alpha1.FieldType{{Name: "in", ValueType: int16Type}}, Outputs: []v1alpha1.FieldType{{Name: "out", ValueType: int16Type}}}},
	}}
	model.Name, model.Namespace = "press", "plant"
	dev := v1alpha1.Device{Spec: v1alpha1.DeviceSpec{
		ModelRef: v1alpha1.ModelRef{Name: "press"}, NodeName: "edge-1", Protocol: v1alpha1.Protocol{Sim: &v1alpha1.Sim{}},
		Properties: []v1alpha1.DeviceProperty{{Name: "Speed"}, {Name: "Mode"}},
	}}
	dev.Name, dev.Namespace, dev.UID = "press-1", "plant", "u-1"
	p.put("devicemodels", "press", model)
	p.put("devices", "press-1", dev)
	limit := time.Now().Add(time.Minute)
	for r := httptest.NewRecorder(); r.Code != http.StatusOK || r.Body.Len() == 0; {
		if time.Now().After(limit) {
			t.Fatalf("the device can't be read within a minute: %s", r.Body)
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // nothing tells of it
		r = httptest.NewRecorder()
		p.edge.ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), http.MethodGet, survey.LivePath("plant", "press-1", survey.Read), nil))
	}
	p.steps([]deviceStep{
		{args: []string{"write", "press-1", "Speed=42", "Mode=Auto"}, out: []string{"Speed written\nMode written\n"}},
		{args: []string{"read", "press-1"}, out: []string{"Speed      42       rpm      Good", `Mode       "Auto"`}},
		{args: []string{"read", "press-1", "Mode", "-o", "json"}, out: []string{`"value": "Auto"`, `"quality": "Good"`}},
		{args: []string{"read", "press-1", "Sped"}, code: 1, errs: []string{`edge edge-1: device plant/press-1 has no property "Sped"`}},
		{args: []string{"read", "press-2"}, code: 1, errs: []string{"there is no Device press-2 in namespace plant; next:"}},
		{args: []string{"write", "press-1", "Speed"}, code: 2, errs: []string{`"Speed" is not NAME=VALUE`}},
		{args: []string{"write", "press-1", "Speed=fast"}, code: 1, errs: []string{`property Speed takes no "fast"`}},
		{args: []string{"call", "press-1", "Echo", "in=7"}, out: []string{"out = 7\n"}, errs: []string{"Echo called"}},
		{args: []string{"call", "press-1", "Echo", "in=7", "in=8"}, code: 2, errs: []string{"argument in is there twice"}},
		{args: []string{"call", "press-1", "Echo", "-o", "yaml"}, code: 1, errs: []string{"method Echo needs argument in (int16)"}},
		{args: []string{"get"}, out: []string{"NAME", "press-1   edge-1   press   Unknown"}},
		{args: []string{"get", "press-1"}, errs: []string{"edge edge-1 has told nothing of this Device yet"}},
		{args: []string{"trust", "press-1"}, code: 1, errs: []string{"device press-1 is no OPC UA server"}},
	})
}

func TestDeviceTrust(t *testing.T) {
	p := newPlant(t)
	print := strings.Repeat("ab", 32)
	dev := v1alpha1.Device{
		Spec:   v1alpha1.DeviceSpec{NodeName: "edge-1", Protocol: v1alpha1.Protocol{OPCUA: &v1alpha1.OPCUA{URL: "opc.tcp://plc", Trust: &v1alpha1.OPCUATrust{Fingerprints: []string{strings.Repeat("cd", 32)}}}}},
		Status: v1alpha1.DeviceStatus{RejectedCertificate: &v1alpha1.RejectedCertificate{Fingerprint: print}},
	}
	dev.Name, dev.Namespace = "plc", "plant"
	p.put("devices", "plc", dev)
	p.steps([]deviceStep{
		{args: []string{"trust", "plc"}, out: []string{print + "\n"}, errs: []string{"skerry device trust plc --fingerprint " + print}},
		{args: []string{"get", "plc"}, errs: []string{"the server's certificate is not trusted"}},
		{args: []string{"trust", "plc", "--fingerprint", "ab"}, code: 2, errs: []string{"64 hexadecimal digits"}},
		{args: []string{"trust", "plc", "--fingerprint", strings.ToUpper(print)}, out: []string{"device plc trusts " + print}},
		{args: []string{"trust", "plc", "--fingerprint", print}, out: []string{"trusts it already"}},
	})
	var got v1alpha1.Device
	b, err := json.Marshal(p.objects["devices/plc"])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if f := got.Spec.Protocol.OPCUA.Trust.Fingerprints; len(f) != 2 || f[1] != print {
		t.Errorf("trusted are %v", f)
	}
}
