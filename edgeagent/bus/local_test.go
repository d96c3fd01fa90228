package bus_test

import (
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"
)

const press = "skerry/plant/press-1/"

// TestLocal: with the broker in the agent, each value of a device is heard, in order, it
// is written and called, and what is retained of it goes with it.
func TestLocal(t *testing.T) {
	e := newEdge(t)
	b, _ := e.embed()
	c := dial(t, b.Addr().String(), "hmi")
	c.subscribe("#")
	if p := c.on("skerry/edges/edge"); string(p.Payload) != `{"online":true,"version":"test"}` {
		t.Errorf("%s", p.Payload)
	}
	c.until("a connected device", func(p *paho.Publish) bool {
		return p.Topic == press+"health" && strings.Contains(string(p.Payload), `"node":"edge","connected":true,"reason":"Connected"`)
	})
	first := decode[value](t, c.on(press+"value/count"))
	if first.Quality != "Good" || first.SourceTime.IsZero() {
		t.Errorf("%+v", first)
	}
	for last := first.Value.(float64); last < first.Value.(float64)+20; {
		switch v := decode[value](t, c.on(press+"value/count")); v.Value.(float64) - last {
		case 0: // retained, and as it came
		case 1:
			last++
		default:
			t.Fatalf("value %v after %v", v.Value, last)
		}
	}

	c.publish(&paho.Publish{Topic: press + "set/setpoint", Payload: []byte(`{"value":42,"id":"w1"}`), QoS: 1})
	if r := decode[result](t, c.on(press+"result")); !r.OK || r.ID != "w1" || r.Set != "setpoint" {
		t.Errorf("%+v", r)
	}
	c.until("the value that was written", func(p *paho.Publish) bool {
		return p.Topic == press+"value/setpoint" && strings.HasPrefix(string(p.Payload), `{"value":42,"quality":"Good"`)
	})

	c.publish(&paho.Publish{Topic: press + "call/Echo", Payload: []byte(`{"args":{"in":7},"id":2}`), QoS: 1, Properties: &paho.PublishProperties{
		ResponseTopic: "hmi/answers", CorrelationData: []byte("c-2"),
	}})
	p := c.on("hmi/answers")
	if r := decode[result](t, p); !r.OK || r.ID != 2.0 || r.Call != "Echo" || r.Outputs["out"] != 7.0 || string(p.Properties.CorrelationData) != "c-2" {
		t.Errorf("%+v", r)
	}

	late := dial(t, b.Addr().String(), "panel")
	late.subscribe("skerry/plant/+/value/setpoint")
	if p := late.on(press + "value/setpoint"); !p.Retain || decode[value](t, p).Value != 42.0 {
		t.Errorf("retained: %s", p.Payload)
	}
	e.remove("press-1")
	late.until("the end of its value", func(p *paho.Publish) bool { return p.Topic == press+"value/setpoint" && len(p.Payload) == 0 })
	c.until("the end of its health", func(p *paho.Publish) bool { return p.Topic == press+"health" && len(p.Payload) == 0 })
	after := dial(t, b.Addr().String(), "hmi")
	after.subscribe("skerry/#")
	if p := after.on("skerry/edges/edge"); !p.Retain {
		t.Errorf("%+v", p)
	}
	c.publish(&paho.Publish{Topic: press + "set/setpoint", Payload: []byte(`{"value":1}`), QoS: 1})
	if p := after.on(press + "result"); !strings.Contains(string(p.Payload), "this edge has no Device plant/press-1") {
		t.Errorf("%s", p.Payload)
	}
	if s := e.bus.Stats(); s.Done != 2 || s.Failed != 1 || s.Dropped != 0 || s.Unsent != 0 {
		t.Errorf("%+v", s)
	}
}

// TestRefusedCommands: a command that can't be carried out is answered with what to do.
func TestRefusedCommands(t *testing.T) {
	e := newEdge(t)
	b, _ := e.embed()
	c := dial(t, b.Addr().String(), "hmi")
	c.subscribe(press+"result", press+"value/count")
	c.on(press + "value/count") // it is open
	for _, test := range []struct {
		topic, payload string
		retain         bool
		want           string
	}{
		{topic: "set/setpoint", payload: `{"value":101}`, want: "above max 100"},
		{topic: "set/setpoint", payload: `{"value":"fast"}`, want: "BadTypeMismatch"},
		{topic: "set/setpoint", payload: `{"value":1.5}`, want: "BadTypeMismatch"},
		{topic: "set/setpoint", payload: `{"value":null}`, want: "BadTypeMismatch"},
		{topic: "set/setpoint", payload: `42`, want: `the payload is not {"value":...,"id":...}`},
		{topic: "set/setpoint", payload: `{"value":1}{}`, want: "more than"},
		{topic: "set/setpoint", payload: `{"value":1,"force":true}`, want: `unknown field "force"`},
		{topic: "set/setpoint", payload: `{"value":1,"id":{}}`, want: "the id must be a string or a number"},
		{topic: "set/setpoint", payload: `{"id":"x"}`, want: "the value is missing"},
		{topic: "set/setpoint", payload: `{"value":1}`, retain: true, want: "may not be retained"},
		{topic: "set/setpoint", payload: `{"value":"` + strings.Repeat("x", 64<<10) + `"}`, want: "65536 bytes at most"},
		{topic: "set/count", payload: `{"value":1}`, want: "BadNotWritable"},
		{topic: "set/nothing", payload: `{"value":1}`, want: `no property "nothing"`},
		{topic: "call/Nothing", payload: `{}`, want: `no method "Nothing"`},
		{topic: "call/Echo", payload: `{}`, want: "needs argument in"},
		{topic: "call/Echo", payload: `{"args":{"in":1,"out":2}}`, want: `no argument "out"`},
		{topic: "call/Echo", payload: `{"value":1}`, want: "a call has args"},
	} {
		c.publish(&paho.Publish{Topic: press + test.topic, Payload: []byte(test.payload), Retain: test.retain, QoS: 1})
		if r := decode[result](t, c.on(press+"result")); r.OK || r.Quality == "" || !strings.Contains(r.Error, test.want) {
			t.Errorf("%s %.60s: %+v, want %q", test.topic, test.payload, r, test.want)
		}
	}
	if s := e.bus.Stats(); s.Done != 0 {
		t.Errorf("%+v", s)
	}
}
