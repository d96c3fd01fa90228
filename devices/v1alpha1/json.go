package v1alpha1

import (
	"bytes"
	"encoding/json"
)

// JSON is a value of any type: what it means is for the model to say. How each
// type of a model is written in JSON stands at devices.EncodeJSON.
//
// +kubebuilder:validation:Type=""
// +kubebuilder:validation:XPreserveUnknownFields
type JSON struct {
	// Raw is the value as it is written, never empty: null is "null".
	Raw []byte `json:"-"`
}

// MarshalJSON returns the bytes as they are.
func (j JSON) MarshalJSON() ([]byte, error) {
	if len(j.Raw) == 0 {
		return []byte("null"), nil
	}
	return j.Raw, nil
}

// UnmarshalJSON keeps the bytes, without white space around and in them.
func (j *JSON) UnmarshalJSON(b []byte) error {
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return err
	}
	j.Raw = out.Bytes()
	return nil
}

// String is the value as JSON.
func (j JSON) String() string {
	b, _ := j.MarshalJSON() // has no error
	return string(b)
}
