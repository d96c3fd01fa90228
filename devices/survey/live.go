package survey

import (
	"time"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// IdentifyRequest is a Modbus device to be asked who it is.
type IdentifyRequest struct {
	Modbus v1alpha1.Modbus `json:"modbus"`
}

// Identification is what a Modbus device says of itself (function 43/14).
type Identification struct {
	Objects []IdentityObject `json:"objects"`
}

// IdentityObject is one object of an identification.
type IdentityObject struct {
	ID int `json:"id"`
	// Name is that of the standard's objects, "" for others.
	Name  string `json:"name,omitempty"`
	Value string `json:"value"`
}

// Values are the answer of a read.
type Values struct {
	Values []Value `json:"values"`
}

// Value is a property as it is now.
type Value struct {
	Property   string         `json:"property"`
	Value      *v1alpha1.JSON `json:"value,omitempty"`
	Quality    string         `json:"quality"`
	SourceTime time.Time      `json:"sourceTime,omitzero"`
	ServerTime time.Time      `json:"serverTime,omitzero"`
	Unit       string         `json:"unit,omitempty"`
}

// WriteRequest has values for properties.
type WriteRequest struct {
	Writes []PropertyWrite `json:"writes"`
}

// PropertyWrite is a value for a property.
type PropertyWrite struct {
	Property string        `json:"property"`
	Value    v1alpha1.JSON `json:"value"`
}

// Written has a result for each write, in order.
type Written struct {
	Results []WriteResult `json:"results"`
}

// WriteResult is how a write went.
type WriteResult struct {
	Property string `json:"property"`
	// Error is "" for a value that the device took.
	Error string `json:"error,omitempty"`
	// Note is what to know of a value that it took.
	Note string `json:"note,omitempty"`
}

// CallRequest has a method and its arguments by name.
type CallRequest struct {
	Method string                   `json:"method"`
	Args   map[string]v1alpha1.JSON `json:"args,omitempty"`
}

// Called has the results of a call, in order.
type Called struct {
	Outputs []Output `json:"outputs"`
}

// Output is a result of a method.
type Output struct {
	Name  string        `json:"name"`
	Value v1alpha1.JSON `json:"value"`
}
