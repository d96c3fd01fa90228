package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DeviceModel says what devices of one kind can do: their properties and
// methods, with types, units and ranges, but no addresses.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=dm,categories=skerry
// +kubebuilder:metadata:labels="app.kubernetes.io/part-of=skerry"
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="Description",type=string,JSONPath=`.spec.description`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type DeviceModel struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec DeviceModelSpec `json:"spec"`
}

// DeviceModelList is a list of DeviceModels.
//
// +kubebuilder:object:root=true
type DeviceModelList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []DeviceModel `json:"items"`
}

// DeviceModelSpec is what a kind of device can do.
//
// +kubebuilder:validation:XValidation:rule="!has(self.properties) || self.properties.all(p, !has(p.typeName) || has(self.types) && self.types.exists(t, t.name == p.typeName && t.kind == p.type))",message="typeName of a property must name an entry of spec.types whose kind is the property's type"
type DeviceModelSpec struct {
	// Description is for people.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`
	// Types are the enumerations and structs that properties, arguments and
	// fields name.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=60
	Types []TypeDefinition `json:"types,omitempty"`
	// Properties are the values that a device has.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=4096
	Properties []Property `json:"properties,omitempty"`
	// Methods are what a device can be asked to do.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Methods []Method `json:"methods,omitempty"`
}

// Type is the type of a value.
//
// +kubebuilder:validation:Enum=bool;int8;int16;int32;int64;uint8;uint16;uint32;uint64;float32;float64;string;bytes;datetime;enum;struct
type Type string

// The types. Their Go types stand at devices.Value.
const (
	TypeBool     Type = "bool"
	TypeInt8     Type = "int8"
	TypeInt16    Type = "int16"
	TypeInt32    Type = "int32"
	TypeInt64    Type = "int64"
	TypeUint8    Type = "uint8"
	TypeUint16   Type = "uint16"
	TypeUint32   Type = "uint32"
	TypeUint64   Type = "uint64"
	TypeFloat32  Type = "float32"
	TypeFloat64  Type = "float64"
	TypeString   Type = "string"
	TypeBytes    Type = "bytes"
	TypeDateTime Type = "datetime"
	TypeEnum     Type = "enum"
	TypeStruct   Type = "struct"
)

// ValueType is a type with what belongs to it.
//
// +kubebuilder:validation:XValidation:rule="(self.type in ['enum', 'struct']) == has(self.typeName)",message="types enum and struct need typeName, the name of an entry of spec.types; other types have none"
type ValueType struct {
	// Type is that of the value, or of an array's elements.
	Type Type `json:"type"`
	// TypeName is the enumeration or struct, by its name in spec.types.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	TypeName string `json:"typeName,omitempty"`
	// Dimensions makes it an array: a length for each dimension, the outermost
	// first; 0 is any length. [0] is a list, [3,4] three rows of four.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=4
	// +kubebuilder:validation:items:Minimum=0
	// +kubebuilder:validation:items:Maximum=1048576
	Dimensions []int32 `json:"dimensions,omitempty"`
}

// TypeDefinition is an enumeration or a struct.
//
// +kubebuilder:validation:XValidation:rule="self.kind == 'enum' ? has(self.values) && size(self.values) > 0 && !has(self.fields) : has(self.fields) && size(self.fields) > 0 && !has(self.values)",message="an enum has values and no fields, a struct has fields and no values"
type TypeDefinition struct {
	// Name is what properties and fields call it.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// Kind is enum or struct.
	//
	// +kubebuilder:validation:Enum=enum;struct
	Kind Type `json:"kind"`
	// Values are those of an enumeration.
	//
	// +optional
	// +listType=map
	// +listMapKey=number
	// +kubebuilder:validation:MaxItems=512
	Values []EnumValue `json:"values,omitempty"`
	// Fields are those of a struct, in order.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=128
	Fields []FieldType `json:"fields,omitempty"`
}

// EnumValue is a number and its name.
type EnumValue struct {
	// Number is what the device says.
	Number int32 `json:"number"`
	// Name is what people read.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
}

// FieldType is a field of a struct, or an argument of a method.
type FieldType struct {
	// Name of the field.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name"`
	// Description is for people.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	ValueType `json:",inline"`
}

// Access says what can be done with a property.
//
// +kubebuilder:validation:Enum=ReadOnly;ReadWrite;WriteOnly
type Access string

// The kinds of access.
const (
	ReadOnly  Access = "ReadOnly"
	ReadWrite Access = "ReadWrite"
	WriteOnly Access = "WriteOnly"
)

// Property is a value that a device has.
//
// +kubebuilder:validation:XValidation:rule="!has(self.min) && !has(self.max) || self.type.startsWith('int') || self.type.startsWith('uint') || self.type.startsWith('float')",message="min and max need a number type"
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || self.min <= self.max",message="min must not be above max"
type Property struct {
	// Name of the property, in the device's and in people's terms.
	//
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_.-]*$`
	Name string `json:"name"`
	// Description is for people.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	ValueType `json:",inline"`

	// Unit is that of measure, as UN/CEFACT or people write it: °C, kPa.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Unit string `json:"unit,omitempty"`
	// Min is the smallest value that may be written, and with Max the range
	// that a deadband in percent is of.
	//
	// +optional
	Min *float64 `json:"min,omitempty"`
	// Max is the largest value that may be written.
	//
	// +optional
	Max *float64 `json:"max,omitempty"`
	// Access says whether the value can be read and written.
	//
	// +optional
	// +kubebuilder:default=ReadOnly
	Access Access `json:"access,omitempty"`
}

// Method is what a device can be asked to do.
type Method struct {
	// Name of the method.
	//
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_.-]*$`
	Name string `json:"name"`
	// Description is for people.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`
	// Inputs are its arguments, in order.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Inputs []FieldType `json:"inputs,omitempty"`
	// Outputs are its results, in order.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Outputs []FieldType `json:"outputs,omitempty"`
}
