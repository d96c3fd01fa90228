package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Device is one device: its model, the node that talks to it, where it is, and
// what it should tell and be.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=dev,categories=skerry
// +kubebuilder:metadata:labels="app.kubernetes.io/part-of=skerry"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Model",type=string,JSONPath=`.spec.modelRef.name`
// +kubebuilder:printcolumn:name="Connected",type=string,JSONPath=`.status.conditions[?(@.type=="Connected")].status`
// +kubebuilder:printcolumn:name="Synced",type=string,JSONPath=`.status.conditions[?(@.type=="Synced")].status`
// +kubebuilder:printcolumn:name="Values",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Connected")].reason`
// +kubebuilder:printcolumn:name="Degraded",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Degraded")].reason`
// +kubebuilder:printcolumn:name="Lost",type=integer,priority=1,JSONPath=`.status.counters.lost`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Device struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec DeviceSpec `json:"spec"`
	// +optional
	Status DeviceStatus `json:"status,omitzero"`
}

// DeviceList is a list of Devices.
//
// +kubebuilder:object:root=true
type DeviceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Device `json:"items"`
}

// DeviceSpec is what a device should be.
//
// +kubebuilder:validation:XValidation:rule="!has(self.properties) || self.properties.all(p, has(self.protocol.opcua) == has(p.opcua) && has(self.protocol.modbus) == has(p.modbus) && (has(self.protocol.sim) || !has(p.sim)))",message="each property needs the block of spec.protocol (opcua or modbus; sim may be left out) and no other"
// +kubebuilder:validation:XValidation:rule="!has(self.methods) || has(self.protocol.opcua)",message="only protocol opcua has methods with addresses"
type DeviceSpec struct {
	// ModelRef names the DeviceModel, in the Device's namespace.
	ModelRef ModelRef `json:"modelRef"`
	// NodeName is the edge that talks to the device.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	NodeName string `json:"nodeName"`
	// Protocol says how, and where the device is.
	Protocol Protocol `json:"protocol"`
	// Report is what of the values goes on, for properties that don't say.
	//
	// +optional
	Report *ReportPolicy `json:"report,omitempty"`
	// Properties are the addresses and settings of the model's properties. What
	// has no entry is neither read nor written.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=4096
	Properties []DeviceProperty `json:"properties,omitempty"`
	// Methods are the addresses of the model's methods.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Methods []DeviceMethod `json:"methods,omitempty"`
}

// ModelRef names a DeviceModel.
type ModelRef struct {
	// Name of the DeviceModel.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Protocol has exactly one block.
//
// +kubebuilder:validation:XValidation:rule="[has(self.opcua), has(self.modbus), has(self.sim)].filter(b, b).size() == 1",message="spec.protocol needs exactly one of opcua, modbus and sim"
type Protocol struct {
	// OPCUA is a server of OPC UA.
	//
	// +optional
	OPCUA *OPCUA `json:"opcua,omitempty"`
	// Modbus is a slave on a line, or behind TCP.
	//
	// +optional
	Modbus *Modbus `json:"modbus,omitempty"`
	// Sim is a simulated device inside the agent.
	//
	// +optional
	Sim *Sim `json:"sim,omitempty"`
}

// Name is that of the block that is set: opcua, modbus, sim, or "" for none.
func (p Protocol) Name() string {
	switch {
	case p.OPCUA != nil:
		return "opcua"
	case p.Modbus != nil:
		return "modbus"
	case p.Sim != nil:
		return "sim"
	}
	return ""
}

// DeviceProperty is where a property is and what is done with its value.
type DeviceProperty struct {
	// Name of the model's property.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// OPCUA is its address with protocol opcua.
	//
	// +optional
	OPCUA *OPCUAProperty `json:"opcua,omitempty"`
	// Modbus is its address with protocol modbus.
	//
	// +optional
	Modbus *ModbusProperty `json:"modbus,omitempty"`
	// Sim is its waveform with protocol sim.
	//
	// +optional
	Sim *SimProperty `json:"sim,omitempty"`
	// Report is what of the values goes on; nil is spec.report.
	//
	// +optional
	Report *ReportPolicy `json:"report,omitempty"`
	// Desired is what the value should be: it is written until the device has
	// it, also after the device was off or was changed by others.
	//
	// +optional
	Desired *JSON `json:"desired,omitempty"`
	// Verify has each write read back and compared.
	//
	// +optional
	Verify bool `json:"verify,omitempty"`
}

// DeviceMethod is where a method is.
type DeviceMethod struct {
	// Name of the model's method.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// OPCUA is its address.
	OPCUA OPCUAMethod `json:"opcua"`
}

// ReportMode says which values go on.
//
// +kubebuilder:validation:Enum=OnChange;Always
type ReportMode string

// The modes.
const (
	// ReportOnChange reports a value that differs from the one reported last.
	ReportOnChange ReportMode = "OnChange"
	// ReportAlways reports each value that the driver delivers.
	ReportAlways ReportMode = "Always"
)

// ReportPolicy says what of the values goes on to the cloud and the local bus.
//
// +kubebuilder:validation:XValidation:rule="!has(self.deadband) || !has(self.mode) || self.mode == 'OnChange'",message="a deadband needs mode OnChange"
type ReportPolicy struct {
	// Mode is OnChange or Always.
	//
	// +optional
	// +kubebuilder:default=OnChange
	Mode ReportMode `json:"mode,omitempty"`
	// Deadband is how far a number must move to be a change. A change of
	// quality is always one.
	//
	// +optional
	Deadband *Deadband `json:"deadband,omitempty"`
	// Heartbeat repeats the value when none was reported for so long.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('1s')",message="heartbeat must be at least 1s"
	Heartbeat *Duration `json:"heartbeat,omitempty"`
	// Staleness makes a value uncertain (UncertainLastUsable) when the device
	// has told nothing of it for so long.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('1s')",message="staleness must be at least 1s"
	Staleness *Duration `json:"staleness,omitempty"`
}

// Deadband is how far a number must move to be a change.
//
// +kubebuilder:validation:XValidation:rule="has(self.absolute) != has(self.percent)",message="a deadband needs exactly one of absolute and percent"
type Deadband struct {
	// Absolute is in the unit of the value.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Absolute *float64 `json:"absolute,omitempty"`
	// Percent is of the range from min to max that the model gives, or that the
	// device tells.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *float64 `json:"percent,omitempty"`
}
