package report

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// DeviceStatus publishes a device's status, in place of the one before if the cloud
// has not had it yet. Only namespace, name, UID and status of d count.
func (r *Reporter) DeviceStatus(d *v1alpha1.Device) {
	slim := struct {
		Metadata metav1.ObjectMeta     `json:"metadata"`
		Status   v1alpha1.DeviceStatus `json:"status"`
	}{metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Name, UID: d.UID}, d.Status}
	value, err := json.Marshal(slim)
	if err == nil {
		err = r.putKeyed(wire.SubjectDevice, wire.ObjectKey(wire.ResourceDevices, d.Namespace, d.Name), value)
	}
	r.note(err, "device status", d.Namespace, d.Name)
}
