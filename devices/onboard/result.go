package onboard

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// LabelSource marks what was onboarded together, by the name that was given.
const LabelSource = "devices.skerry.io/source"

// What the definitions have room for (devices/v1alpha1).
const (
	maxProperties  = 4096
	maxMethods     = 256
	maxTypes       = 60
	maxName        = 128 // of a property
	maxDescription = 1024
	maxUnit        = 32
)

// Into says what the objects are to be.
type Into struct {
	// Namespace of the objects, and the edge that talks to the device.
	Namespace, Node string
	// Name is the first part of every object's name, and the label's value: a name of
	// Kubernetes of at most 40 characters.
	Name string
	// Protocol is how and where the device is.
	Protocol v1alpha1.Protocol
	// Known are Devices that the cluster has: their properties keep their names.
	Known []v1alpha1.Device
}

// Result is what was made.
type Result struct {
	Models  []v1alpha1.DeviceModel
	Devices []v1alpha1.Device
	// Left is what did not become part of them.
	Left []Left
}

// Left is something that was left out.
type Left struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

func (l Left) String() string { return l.What + ": " + l.Why }

func (r *Result) leave(what, format string, args ...any) {
	r.Left = append(r.Left, Left{what, fmt.Sprintf(format, args...)})
}

// tidy orders what was made.
func (r *Result) tidy() {
	slices.SortFunc(r.Models, func(a, b v1alpha1.DeviceModel) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(r.Devices, func(a, b v1alpha1.Device) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(r.Left, func(a, b Left) int { return cmp.Compare(a.What, b.What) })
}

func (in *Into) model(name string) v1alpha1.DeviceModel {
	return v1alpha1.DeviceModel{TypeMeta: typeMeta("DeviceModel"), ObjectMeta: in.meta(name)}
}

func (in *Into) device(name, model string) v1alpha1.Device {
	return v1alpha1.Device{
		TypeMeta: typeMeta("Device"), ObjectMeta: in.meta(name),
		Spec: v1alpha1.DeviceSpec{ModelRef: v1alpha1.ModelRef{Name: model}, NodeName: in.Node, Protocol: *in.Protocol.DeepCopy()},
	}
}

func (in *Into) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: in.Namespace, Name: name, Labels: map[string]string{LabelSource: in.Name}}
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion().String(), Kind: kind}
}
