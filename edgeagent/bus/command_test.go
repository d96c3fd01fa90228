package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/devices"
)

// TestBusy: beyond the bound a command is refused at once, and those of one device are
// carried out in order.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		b, err := New(Config{Node: "edge", Live: func(string, string) (devices.Live, bool) { <-hold; return devices.Live{}, false }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		sink := &sink{}
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx, sink) }()
		target, _ := ParseCommandTopic("skerry/a/d/set/x")
		for i := range maxCommands + 5 {
			id, _ := json.Marshal(i)
			b.Received(Command{Target: target, Payload: []byte(`{"value":1,"id":` + string(id) + `}`)})
		}
		b.Received(Command{Target: target, Shared: true}) // another edge's
		synctest.Wait()
		if s := b.Stats(); s.Busy != 5 || s.Failed != 0 {
			t.Errorf("%+v", s)
		}
		close(hold)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if s := b.Stats(); s.Busy != 5 || s.Failed != maxCommands || len(sink.list) != maxCommands+5 {
			t.Errorf("%+v, %d answers", s, len(sink.list))
		}
		for i, m := range sink.list[5:] {
			var r struct{ ID int }
			if err := json.Unmarshal(m.Payload, &r); err != nil || r.ID != i || m.Topic != "skerry/a/d/result" || !m.Sure || m.Retain {
				t.Fatalf("answer %d: %+v %s", i, m, m.Payload)
			}
		}
	})
}

type sink struct{ list []Message }

func (s *sink) Publish(_ context.Context, m Message) error {
	if m.Sure {
		s.list = append(s.list, m)
	}
	return nil
}

func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		`{"value":1}`, `{"value":"NaN","id":"a"}`, `{"value":[1,2],"id":3}`, `{"value":{"a":1,"b":"x"}}`, `{"args":{"n":1,"s":{"a":2,"b":"y"}}}`, `{"value":1,"id":null}`, `{"value":1}x`, `[`, ``,
	} {
		f.Add([]byte(seed), "skerry/a/d/set/n", seed[:len(seed)/2])
	}
	low := -10.0
	fields := []v1alpha1.FieldType{{Name: "a", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt8}}, {Name: "b", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeString}}}
	d := &fielddevices.Device{Namespace: "a", Name: "d", Model: v1alpha1.DeviceModelSpec{
		Types: []v1alpha1.TypeDefinition{{Name: "S", Kind: v1alpha1.TypeStruct, Fields: fields}},
		Properties: []v1alpha1.Property{
			{Name: "n", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeFloat32}, Access: v1alpha1.ReadWrite, Min: &low},
			{Name: "l", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeUint64, Dimensions: []int32{0, 2}}, Access: v1alpha1.WriteOnly},
			{Name: "s", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeStruct, TypeName: "S"}, Access: v1alpha1.ReadWrite},
		},
		Methods: []v1alpha1.Method{{Name: "n", Inputs: []v1alpha1.FieldType{{Name: "n", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt64}}, {Name: "s", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeStruct, TypeName: "S"}}}}},
	}}
	for _, p := range d.Model.Properties {
		d.Spec.Properties = append(d.Spec.Properties, v1alpha1.DeviceProperty{Name: p.Name})
	}
	f.Fuzz(func(t *testing.T, payload []byte, topic, text string) {
		target, ok := ParseCommandTopic(topic)
		if !ok {
			target = Target{Device: devices.Name{Namespace: "a", Name: "d"}, Name: "n"}
		} else if !Reserved(topic) {
			t.Fatalf("command to %q is not reserved", topic)
		}
		for _, target.Call = range []bool{false, true} {
			r, err := parseRequest(payload, target.Call)
			var w fielddevices.Write
			var args fielddevices.Struct
			if err == nil && target.Call {
				args, err = argumentsOf(d, target.Name, r)
			} else if err == nil {
				w, err = writeOf(d, target.Name, r)
			}
			if v, ok := w.Value.(float32); err == nil && ok && !(float64(v) >= low) {
				t.Fatalf("%s is written as %v", payload, v)
			}
			if err == nil && text != "" {
				err = errors.New(text)
			}
			for _, m := range (answer{command: Command{Target: target, Response: "r"}, id: r.ID, outputs: args, err: err}).messages() {
				if !json.Valid(m.Payload) || len(m.Payload) > MaxPayload || err == nil != bytes.Contains(m.Payload, []byte(`"ok":true`)) && text == "" {
					t.Fatalf("%q: %v: answer %s", payload, err, m.Payload)
				}
			}
		}
	})
}
