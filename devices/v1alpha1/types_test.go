package v1alpha1_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func TestScheme(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"Device", "DeviceList", "DeviceModel", "DeviceModelList"} {
		if _, err := s.New(v1alpha1.GroupVersion().WithKind(kind)); err != nil {
			t.Error(err)
		}
	}
}

// TestDeviceRoundTrip: a Device comes out of Go as it went in, and a copy is
// one of its own.
func TestDeviceRoundTrip(t *testing.T) {
	const text = `{"metadata":{"name":"press"},"spec":{"modelRef":{"name":"m"},"nodeName":"edge","protocol":{"modbus":` +
		`{"tcp":{"address":"plc:502"},"unitId":3,"timeout":"1.5s"}},"properties":[{"name":"a","modbus":{"table":"holding",` +
		`"address":7,"type":"int64"},"desired":{"x":[1,9223372036854775807]}}]}}`
	var d v1alpha1.Device
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if got := d.Spec.Protocol.Modbus.Timeout.Or(0); got != 1500*time.Millisecond {
		t.Errorf("timeout %v", got)
	}
	out, err := json.Marshal(d)
	if err != nil || string(out) != text {
		t.Errorf("got  %s (%v)\nwant %s", out, err, text)
	}
	c := d.DeepCopy()
	if diff := cmp.Diff(&d, c); diff != "" {
		t.Error(diff)
	}
	c.Spec.Properties[0].Desired.Raw[0] = 'X'
	if d.Spec.Properties[0].Desired.Raw[0] == 'X' {
		t.Error("the copy shares its desired value")
	}
	if d.Spec.Protocol.Name() != "modbus" {
		t.Errorf("protocol %q", d.Spec.Protocol.Name())
	}
}

func TestBadDuration(t *testing.T) {
	for _, text := range []string{`5`, `"5"`, `"1d"`, `""`} {
		var d v1alpha1.Duration
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			t.Errorf("%s is read as %v", text, d)
		}
	}
	var none *v1alpha1.Duration
	if none.Or(time.Second) != time.Second {
		t.Error("nil has a duration of its own")
	}
}
