package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// maxDeviceStatus bounds a device's status, as an edge writes it, and its metadata.
const maxDeviceStatus = 68 << 10

// deviceReport is what an edge says of a device.
type deviceReport struct {
	Metadata struct {
		Namespace string    `json:"namespace"`
		Name      string    `json:"name"`
		UID       types.UID `json:"uid"`
	} `json:"metadata"`
	Status v1alpha1.DeviceStatus `json:"status"`
}

// ownDevice reads the Device that an edge reports on, from the API itself.
func (r *Receiver) ownDevice(ctx context.Context, node, namespace, name string, uid types.UID) (*unstructured.Unstructured, error) {
	resource := v1alpha1.GroupVersion().WithResource(v1alpha1.Devices)
	d, err := r.dynamic.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("device %s/%s: %w", namespace, name, errGone)
	case err != nil:
		return nil, fmt.Errorf("get device %s/%s: %w", namespace, name, err)
	case d.GetUID() != uid:
		return nil, fmt.Errorf("device %s/%s has UID %s, report is about %s: %w", namespace, name, d.GetUID(), uid, errGone)
	}
	if of, _, _ := unstructured.NestedString(d.Object, "spec", "nodeName"); of != node {
		return nil, fmt.Errorf("device %s/%s is of node %q: %w", namespace, name, of, errForeign)
	}
	return d, nil
}

// writeDevice writes the status of one of the edge's own devices.
func (r *Receiver) writeDevice(ctx context.Context, node string, place stamp, value []byte) error {
	if len(value) > maxDeviceStatus {
		return &badReportError{fmt.Errorf("device status of %d bytes", len(value))}
	}
	var report deviceReport
	if err := json.Unmarshal(value, &report); err != nil {
		return &badReportError{fmt.Errorf("decode device status: %w", err)}
	}
	m := report.Metadata
	if m.Namespace == "" || m.Name == "" || m.UID == "" {
		return &badReportError{errors.New("device status without namespace, name or UID")}
	}
	if r.dynamic == nil {
		return &badReportError{errors.New("this proxy has no devices")}
	}
	d, err := r.ownDevice(ctx, node, m.Namespace, m.Name, m.UID)
	if err != nil {
		return err
	}
	var current v1alpha1.Device
	before, err := json.Marshal(d.Object)
	if err == nil {
		err = json.Unmarshal(before, &current)
	}
	if err != nil {
		return &badReportError{fmt.Errorf("decode device %s/%s: %w", m.Namespace, m.Name, err)}
	}
	if err := place.onDevice(&current.Status, &report.Status); err != nil {
		return fmt.Errorf("device %s/%s: %w", m.Namespace, m.Name, err)
	}
	if equality.Semantic.DeepEqual(current.Status, report.Status) {
		return nil
	}
	patch, err := devicePatch(d, report.Status)
	if err != nil {
		return &badReportError{err}
	}
	resource := v1alpha1.GroupVersion().WithResource(v1alpha1.Devices)
	_, err = r.dynamic.Resource(resource).Namespace(m.Namespace).Patch(ctx, m.Name, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("patch status of device %s/%s: %w", m.Namespace, m.Name, err)
	}
	return nil
}

// devicePatch puts a whole status in the place of the one before, of the object that was
// read and no other. A merge patch would leave what the edge no longer says.
func devicePatch(d *unstructured.Unstructured, status v1alpha1.DeviceStatus) ([]byte, error) {
	patch, err := json.Marshal([]map[string]any{
		{"op": "add", "path": "/metadata/resourceVersion", "value": d.GetResourceVersion()},
		{"op": "add", "path": "/status", "value": status},
	})
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return patch, nil
}

// onDevice puts s into a status that is to be written in place of current. What edges
// may say of conditions are those of their devices.
func (s stamp) onDevice(current, status *v1alpha1.DeviceStatus) error {
	var kept []metav1.Condition
	for _, c := range status.Conditions {
		switch c.Type {
		case v1alpha1.ConditionConnected, v1alpha1.ConditionSynced, v1alpha1.ConditionDegraded:
			kept = append(kept, c)
		}
	}
	for _, c := range current.Conditions {
		switch c.Type {
		case v1alpha1.ConditionConnected, v1alpha1.ConditionSynced, v1alpha1.ConditionDegraded:
		case v1alpha1.ConditionConnectedBefore: // the edge tells what is
		case ConditionReported:
			if err := s.check(c.Message, c.LastTransitionTime); err != nil {
				return err
			}
			if !s.known() || c.Message == s.String() {
				kept = append(kept, c) // the same report once more changes nothing
			}
		default:
			kept = append(kept, c)
		}
	}
	if s.known() && !hasCondition(kept, ConditionReported) {
		kept = append(kept, metav1.Condition{
			Type: ConditionReported, Status: metav1.ConditionTrue, Reason: reasonReported, Message: s.String(),
			LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second)),
		})
	}
	status.Conditions = kept
	return nil
}

func hasCondition(conditions []metav1.Condition, kind string) bool {
	for i := range conditions {
		if conditions[i].Type == kind {
			return true
		}
	}
	return false
}
