package bus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const (
	// MaxCommand bounds the payload of a command, in bytes.
	MaxCommand = 64 << 10
	// maxID bounds a command's id, in bytes of JSON.
	maxID = 128
	// maxError bounds what is told of an error, in bytes.
	maxError = 512
)

// Command is a message that wants something of a device.
type Command struct {
	Target

	Payload []byte
	// Retained says that it came from the broker's memory, or was to stay there. It is
	// refused: it would be carried out again at each connection.
	Retained bool
	// Response is where the answer goes, beside the device's result topic; "" is
	// nowhere. Who published the command may publish there.
	Response string
	// Correlation goes with the answer to Response.
	Correlation []byte
	// Shared says that other edges get the command, too: only one that has the device
	// answers.
	Shared bool
	// From is who sent it, for the log.
	From string
}

// request is what the payload of a command says: {"value":50,"id":"7"} of a property,
// {"args":{"speed":3},"id":8} of a method. The id is a string or a number and comes back
// with the answer; it may be left out.
type request struct {
	Value json.RawMessage            `json:"value"`
	Args  map[string]json.RawMessage `json:"args"`
	ID    json.RawMessage            `json:"id"`
}

// parseRequest reads a payload. What it does not know is refused: to do a part of what
// was asked for could be worse than nothing.
func parseRequest(payload []byte, call bool) (request, error) {
	var r request
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return request{}, fmt.Errorf("the payload is not %s: %s", shape(call), strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return request{}, fmt.Errorf("the payload is more than %s", shape(call))
	}
	if r.ID != nil {
		if c := r.ID[0]; len(r.ID) > maxID || c != '"' && c != '-' && (c < '0' || c > '9') {
			return request{}, fmt.Errorf("the id must be a string or a number of at most %d bytes", maxID)
		}
	}
	switch {
	case call && r.Value != nil:
		return request{ID: r.ID}, errors.New("a call has args and no value")
	case !call && r.Args != nil:
		return request{ID: r.ID}, errors.New("a property to be set has a value and no args")
	case !call && r.Value == nil:
		return request{ID: r.ID}, errors.New("the value is missing: " + shape(call))
	}
	return r, nil
}

func shape(call bool) string {
	if call {
		return `{"args":{"NAME":...},"id":...}`
	}
	return `{"value":...,"id":...}`
}

// writeOf is the write that a request wants, of the property's type and in its range.
func writeOf(d *fielddevices.Device, name string, r request) (fielddevices.Write, error) {
	p, ok := d.Property(name)
	if !ok || !slices.ContainsFunc(d.Spec.Properties, func(dp v1alpha1.DeviceProperty) bool { return dp.Name == name }) {
		return fielddevices.Write{}, fmt.Errorf("device %s has no property %q", d.Key(), name)
	}
	v, err := fielddevices.DecodeJSON(r.Value, p.ValueType, &d.Model)
	if err == nil {
		v, err = fielddevices.CoerceProperty(v, p, &d.Model)
	}
	return fielddevices.Write{Property: name, Value: v}, err
}

// argumentsOf are those of a call, in the method's order.
func argumentsOf(d *fielddevices.Device, name string, r request) ([]fielddevices.Field, error) {
	m, ok := d.Method(name)
	if !ok {
		return nil, fmt.Errorf("device %s has no method %q", d.Key(), name)
	}
	var args []fielddevices.Field
	for _, f := range m.Inputs {
		raw, ok := r.Args[f.Name]
		if !ok {
			return nil, fmt.Errorf("method %s needs argument %s (%s)", m.Name, f.Name, f.Type)
		}
		v, err := fielddevices.DecodeJSON(raw, f.ValueType, &d.Model)
		if err != nil {
			return nil, fmt.Errorf("argument %s of method %s: %w", f.Name, m.Name, err)
		}
		args = append(args, fielddevices.Field{Name: f.Name, Value: v})
	}
	for given := range r.Args {
		if !slices.ContainsFunc(m.Inputs, func(f v1alpha1.FieldType) bool { return f.Name == given }) {
			return nil, fmt.Errorf("method %s has no argument %q", m.Name, given)
		}
	}
	return args, nil
}

// answer is what became of a command.
type answer struct {
	command Command
	id      json.RawMessage
	outputs fielddevices.Struct
	note    string
	err     error
}

// messages are the one for the device's result topic, and the one that was asked for.
func (a answer) messages() []Message {
	out := struct {
		ID      json.RawMessage `json:"id,omitempty"`
		Set     string          `json:"set,omitempty"`
		Call    string          `json:"call,omitempty"`
		OK      bool            `json:"ok"`
		Outputs json.RawMessage `json:"outputs,omitempty"`
		Note    string          `json:"note,omitempty"`
		Quality string          `json:"quality,omitempty"`
		Error   string          `json:"error,omitempty"`
	}{ID: a.id, OK: a.err == nil, Note: a.note}
	if a.command.Call {
		out.Call = a.command.Name
	} else {
		out.Set = a.command.Name
	}
	if a.err == nil && a.outputs != nil {
		var err error
		if out.Outputs, err = fielddevices.EncodeJSON(a.outputs); err != nil || len(out.Outputs) > MaxPayload-1024 {
			out.Outputs, out.Note = nil, "the method was called; what it returned can't be told: it is too large, or no value of a device"
		}
	}
	if a.err != nil {
		out.Quality = fielddevices.QualityOf(a.err).String()
		out.Error = cut(a.err.Error(), maxError)
	}
	list := []Message{{Topic: deviceTopic(a.command.Device, kindResult), Payload: encode(out), Sure: true}}
	if a.command.Response != "" {
		list = append(list, Message{Topic: a.command.Response, Payload: list[0].Payload, Sure: true, Correlation: a.command.Correlation})
	}
	return list
}

// cut shortens text to so many bytes, without half a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
