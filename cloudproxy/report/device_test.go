package report

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// deviceBed is a Receiver of a cluster with one Device of edge1.
func deviceBed(t *testing.T) (r *Receiver, status func() v1alpha1.DeviceStatus) {
	t.Helper()
	d := &unstructured.Unstructured{}
	err := json.Unmarshal([]byte(`{"apiVersion":"devices.skerry.io/v1alpha1","kind":"Device",
"metadata":{"namespace":"plant","name":"press","uid":"u1","resourceVersion":"7"},"spec":{"nodeName":"edge1"},
"status":{"summary":"old","lastGap":{"reason":"Outage"},"conditions":[
{"type":"Connected","status":"False","reason":"Old","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"},
{"type":"skerry.io/ConnectedBefore","status":"True","reason":"Old","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"},
{"type":"example.com/Inspected","status":"True","reason":"Yes","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`), d)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	dyn := dynamicfake.NewSimpleDynamicClient(scheme, d)
	r, err = New(Config{Client: fake.NewClientset(), Dynamic: dyn})
	if err != nil {
		t.Fatal(err)
	}
	return r, func() v1alpha1.DeviceStatus {
		t.Helper()
		resource := v1alpha1.GroupVersion().WithResource(v1alpha1.Devices)
		o, err := r.ownDevice(t.Context(), "edge1", "plant", "press", "u1")
		if err != nil {
			t.Fatalf("%v: %v", resource, err)
		}
		text, err := json.Marshal(o.Object["status"])
		var st v1alpha1.DeviceStatus
		if err == nil {
			err = json.Unmarshal(text, &st)
		}
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func deviceStatus(uid, summary string) []byte {
	return []byte(`{"metadata":{"namespace":"plant","name":"press","uid":"` + uid + `"},"status":{"summary":"` + summary + `",
"twins":[{"name":"speed","value":18446744073709551615,"quality":"Good"}],
"conditions":[{"type":"Connected","status":"True","reason":"Connected","message":"","lastTransitionTime":"2026-02-01T00:00:00Z"},
{"type":"example.com/Inspected","status":"False","reason":"Forged","message":"","lastTransitionTime":"2026-02-01T00:00:00Z"},
{"type":"skerry.io/Reported","status":"True","reason":"Forged","message":"report 999999 of outbox 0101010101010101","lastTransitionTime":"2026-02-01T00:00:00Z"}]}}`)
}

func place(seq uint64) stamp { return stamp{outbox: [8]byte{1, 1, 1, 1, 1, 1, 1, 1}, seq: seq} }

// TestDeviceStatus: a status takes the place of the one before as a whole, and what
// others wrote stays.
func TestDeviceStatus(t *testing.T) {
	r, status := deviceBed(t)
	err := r.write(t.Context(), "edge1", place(5), wire.Report{Subject: wire.SubjectDevice, Value: deviceStatus("u1", "1/1 good")})
	if err != nil {
		t.Fatal(err)
	}
	st := status()
	if st.Summary != "1/1 good" || st.LastGap != nil || len(st.Twins) != 1 {
		t.Errorf("status %+v", st)
	}
	got := map[string]string{}
	for _, c := range st.Conditions {
		got[c.Type] = c.Reason + " " + c.Message
	}
	want := map[string]string{
		"Connected": "Connected ", "example.com/Inspected": "Yes ", ConditionReported: "EdgeReported " + place(5).String(),
	}
	if len(got) != len(want) {
		t.Errorf("conditions %v", got)
	}
	for kind, c := range want {
		if got[kind] != c {
			t.Errorf("condition %s is %q, want %q", kind, got[kind], c)
		}
	}
}

// TestOfTwoDeviceStatusesTheLaterStays whatever replica is slow.
func TestOfTwoDeviceStatusesTheLaterStays(t *testing.T) {
	r, status := deviceBed(t)
	if err := r.writeDevice(t.Context(), "edge1", place(5), deviceStatus("u1", "later")); err != nil {
		t.Fatal(err)
	}
	if err := r.writeDevice(t.Context(), "edge1", place(4), deviceStatus("u1", "earlier")); !errors.Is(err, errOvertaken) {
		t.Errorf("an earlier report: %v", err)
	}
	if got := status().Summary; got != "later" {
		t.Errorf("status %q", got)
	}
}

// TestHostileDeviceStatus: an edge says nothing of others' devices.
func TestHostileDeviceStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		node  string
		value []byte
		want  error // nil: it makes no sense
	}{
		"another edge's": {"edge2", deviceStatus("u1", "forged"), errForeign},
		"one before":     {"edge1", deviceStatus("u0", "forged"), errGone},
		"none":           {"edge1", []byte(strings.Replace(string(deviceStatus("u1", "forged")), `"press"`, `"other"`, 1)), errGone},
		"no JSON":        {"edge1", []byte("\x00"), nil},
		"no name":        {"edge1", []byte(`{"status":{"summary":"forged"}}`), nil},
		"too large":      {"edge1", []byte(`{"metadata":{"namespace":"` + strings.Repeat("x", maxDeviceStatus) + `"}}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, status := deviceBed(t)
			err := r.writeDevice(t.Context(), tc.node, place(1), tc.value)
			if tc.want != nil && !errors.Is(err, tc.want) || tc.want == nil && !hopeless(err) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if got := status().Summary; got != "old" {
				t.Errorf("status %q", got)
			}
		})
	}
}
