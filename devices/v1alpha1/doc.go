// Package v1alpha1 has the types of devices.skerry.io/v1alpha1: DeviceModel
// says what a kind of device can do, Device where one is and what it tells.
//
// The cloud watches these objects and writes their status, an edge reads the
// Devices of its own node. The schema and the rules that the API server checks
// come from the markers here: "make gen" writes them into manifests.
//
// +kubebuilder:object:generate=true
// +groupName=devices.skerry.io
package v1alpha1
