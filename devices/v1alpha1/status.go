package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The types of conditions of a Device.
const (
	// ConditionConnected: the driver talks to the device.
	ConditionConnected = "Connected"
	// ConditionSynced: the device has every desired value.
	ConditionSynced = "Synced"
	// ConditionDegraded: the device, its configuration or its data have a
	// fault; the reason says which.
	ConditionDegraded = "Degraded"
	// ConditionConnectedBefore keeps what Connected was, while the edge is away and
	// nobody knows.
	ConditionConnectedBefore = "skerry.io/ConnectedBefore"
)

// DeviceStatus is what an edge tells of a device, at most once a second.
type DeviceStatus struct {
	// ObservedGeneration is that of the Device which the edge works with.
	//
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Summary is a line for kubectl get: how many values are good.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Summary string `json:"summary,omitempty"`
	// Conditions are Connected, Synced and Degraded.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Twins are the values, in the order of spec.properties.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=4096
	Twins []Twin `json:"twins,omitempty"`
	// OmittedTwins says how many twins did not fit into 64 KiB.
	//
	// +optional
	OmittedTwins int32 `json:"omittedTwins,omitempty"`
	// Counters are since the edge knows the device.
	//
	// +optional
	Counters Counters `json:"counters,omitzero"`
	// LastGap is the newest time of which values are missing.
	//
	// +optional
	LastGap *Gap `json:"lastGap,omitempty"`
	// RejectedCertificate is the one of the server that is not trusted.
	//
	// +optional
	RejectedCertificate *RejectedCertificate `json:"rejectedCertificate,omitempty"`
}

// Twin is a property as it is and as it should be.
type Twin struct {
	// Name of the property.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// Value is what the device said last.
	//
	// +optional
	Value *JSON `json:"value,omitempty"`
	// Quality is the name of an OPC UA status code, such as Good.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Quality string `json:"quality,omitempty"`
	// SourceTime is when the value came to be, by the device.
	//
	// +optional
	SourceTime *metav1.MicroTime `json:"sourceTime,omitempty"`
	// ServerTime is when the value was read, by the server, or by the edge
	// where the protocol has no clocks.
	//
	// +optional
	ServerTime *metav1.MicroTime `json:"serverTime,omitempty"`
	// Desired is what the edge tries to make the value.
	//
	// +optional
	Desired *JSON `json:"desired,omitempty"`
	// LastError is why the value could not be read, or written.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=512
	LastError string `json:"lastError,omitempty"`
}

// Counters of a device.
type Counters struct {
	// Samples were delivered by the driver and stored.
	//
	// +optional
	Samples int64 `json:"samples,omitempty"`
	// Reported went on to the cloud: what deadband and on-change left.
	//
	// +optional
	Reported int64 `json:"reported,omitempty"`
	// Gaps is the number of times of which values are missing.
	//
	// +optional
	Gaps int64 `json:"gaps,omitempty"`
	// Lost is the number of values that are known to be missing; a gap of which
	// nobody knows how many adds none.
	//
	// +optional
	Lost int64 `json:"lost,omitempty"`
	// Writes is the number of values written, by desired values and by hand.
	//
	// +optional
	Writes int64 `json:"writes,omitempty"`
	// Reconnects is the number of connections after the first.
	//
	// +optional
	Reconnects int64 `json:"reconnects,omitempty"`
}

// Gap is a time of which values are missing.
type Gap struct {
	// Property whose values are missing; "" is all of the device.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Property string `json:"property,omitempty"`
	// From is the time of the last value before.
	//
	// +optional
	From *metav1.MicroTime `json:"from,omitempty"`
	// To is the time of the first value after.
	//
	// +optional
	To *metav1.MicroTime `json:"to,omitempty"`
	// Lost is the number of missing values, 0 when nobody knows.
	//
	// +optional
	Lost int64 `json:"lost,omitempty"`
	// Reason in one word, such as QueueOverflow or Outage.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Reason string `json:"reason,omitempty"`
}

// RejectedCertificate is that of a server which is not trusted.
type RejectedCertificate struct {
	// Fingerprint is what to add to spec.protocol.opcua.trust.fingerprints if
	// the server is the right one: SHA-256 of the certificate.
	//
	// +kubebuilder:validation:MaxLength=95
	Fingerprint string `json:"fingerprint"`
}
