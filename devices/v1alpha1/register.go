package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// Group is the API group.
	Group = "devices.skerry.io"
	// Version is this version of it.
	Version = "v1alpha1"
	// Devices is the resource of Device.
	Devices = "devices"
	// DeviceModels is the resource of DeviceModel.
	DeviceModels = "devicemodels"
)

// GroupVersion returns the group with its version.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: Version}
}

// AddToScheme makes the types known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &Device{}, &DeviceList{}, &DeviceModel{}, &DeviceModelList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
