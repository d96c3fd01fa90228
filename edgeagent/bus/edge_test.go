package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/crypto/bcrypt"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/sim"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/bus"
	"github.com/skerry-io/skerry/edgeagent/bus/embedded"
	"github.com/skerry-io/skerry/edgeagent/devices"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

type nobody struct{}

func (nobody) DeviceStatus(*v1alpha1.Device) {}

// edge is a store, a manager with simulated devices, and a bus.
type edge struct {
	t       *testing.T
	store   *store.Store
	manager *devices.Manager
	bus     *bus.Bus
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	st, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	e := &edge{t: t, store: st}
	e.bus, err = bus.New(bus.Config{Node: "edge", Live: func(ns, name string) (devices.Live, bool) { return e.manager.Live(ns, name) }})
	if err != nil {
		t.Fatal(err)
	}
	e.manager, err = devices.New(devices.Config{
		Store: st, Report: nobody{}, Drivers: map[string]fielddevices.Driver{"sim": sim.Driver{}}, Node: "edge", Bus: e.bus,
	})
	if err != nil {
		t.Fatal(err)
	}
	e.put(wire.ResourceDeviceModels, "press", model())
	e.put(wire.ResourceDevices, "press-1", device())
	e.run(e.manager.Run)
	return e
}

// run has f run until the test ends.
func (e *edge) run(f func(context.Context) error) (stop func()) {
	e.t.Helper()
	ctx, cancel := context.WithCancel(e.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && ctx.Err() == nil {
			e.t.Error(err)
		}
	})
	e.t.Cleanup(stop)
	return stop
}

func (e *edge) put(r wire.Resource, name string, o any) {
	e.t.Helper()
	value, err := json.Marshal(o)
	if err != nil {
		e.t.Fatal(err)
	}
	key := wire.ObjectKey(r, "plant", name)
	if err := e.store.Apply(store.Batch{Upserts: []store.Object{{Key: key, Version: fmt.Sprint(time.Now().UnixNano()), Value: value}}}); err != nil {
		e.t.Fatal(err)
	}
	e.manager.Wake(key)
}

func (e *edge) remove(name string) {
	e.t.Helper()
	key := wire.ObjectKey(wire.ResourceDevices, "plant", name)
	if err := e.store.Apply(store.Batch{Deletes: []string{key}}); err != nil {
		e.t.Fatal(err)
	}
	e.manager.Wake(key)
}

func model() v1alpha1.DeviceModel {
	low, high := -100.0, 100.0
	m := v1alpha1.DeviceModel{Spec: v1alpha1.DeviceModelSpec{
		Properties: []v1alpha1.Property{
			{Name: "count", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeUint64}, Access: v1alpha1.ReadOnly},
			{Name: "setpoint", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt16}, Access: v1alpha1.ReadWrite, Min: &low, Max: &high},
		},
		Methods: []v1alpha1.Method{{
			Name: "Echo", Inputs: []v1alpha1.FieldType{{Name: "in", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt32}}},
			Outputs: []v1alpha1.FieldType{{Name: "out", ValueType: v1alpha1.ValueType{Type: v1alpha1.TypeInt32}}},
		}},
	}}
	m.Namespace, m.Name = "plant", "press"
	return m
}

func device() v1alpha1.Device {
	every := v1alpha1.Duration{Duration: 20 * time.Millisecond}
	d := v1alpha1.Device{Spec: v1alpha1.DeviceSpec{
		ModelRef: v1alpha1.ModelRef{Name: "press"}, NodeName: "edge",
		Protocol:   v1alpha1.Protocol{Sim: &v1alpha1.Sim{Interval: &every}},
		Properties: []v1alpha1.DeviceProperty{{Name: "count", Sim: &v1alpha1.SimProperty{Waveform: v1alpha1.WaveCounter}}, {Name: "setpoint"}},
	}}
	d.Namespace, d.Name, d.UID = "plant", "press-1", "u-1"
	return d
}

// usersFile has hmi, who may do all, and panel, who may look at values.
func usersFile(t *testing.T) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users.yaml")
	text := fmt.Sprintf(`users:
- {name: hmi, passwordHash: %q, subscribe: ["#"], publish: ["#"]}
- {name: panel, passwordHash: %q, subscribe: ["skerry/plant/+/value/#"]}
`, hash, hash)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// embed gives the edge a broker of its own.
func (e *edge) embed() (b *embedded.Broker, stop func()) {
	e.t.Helper()
	b, err := embedded.New(embedded.Config{Listen: "127.0.0.1:0", UsersFile: usersFile(e.t), Node: "edge", Version: "test", Command: e.bus.Received})
	if err != nil {
		e.t.Fatal(err)
	}
	if err := b.Listen(); err != nil {
		e.t.Fatal(err)
	}
	return b, e.run(func(ctx context.Context) error { return b.Run(ctx, e.bus.Run) })
}

// client is paho, connected.
type client struct {
	*paho.Client
	t    *testing.T
	came chan *paho.Publish
	left []*paho.Publish // that nobody has waited for yet
}

func dial(t *testing.T, addr, user string) *client {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, came: make(chan *paho.Publish, 10000)}
	c.Client = paho.NewClient(paho.ClientConfig{Conn: raw, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { c.came <- p.Packet; return true, nil },
	}})
	_, err = c.Connect(t.Context(), &paho.Connect{
		ClientID: raw.LocalAddr().String(), KeepAlive: 30, CleanStart: true, Username: user, UsernameFlag: user != "", Password: []byte("secret"), PasswordFlag: user != "",
	})
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c
}

func (c *client) subscribe(filters ...string) {
	c.t.Helper()
	s := &paho.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	if _, err := c.Client.Subscribe(c.t.Context(), s); err != nil {
		c.t.Fatal(err)
	}
}

// until waits for the first message that holds, of those that no other wait has taken.
func (c *client) until(what string, holds func(*paho.Publish) bool) *paho.Publish {
	c.t.Helper()
	for i, p := range c.left {
		if holds(p) {
			c.left = slices.Delete(c.left, i, i+1)
			return p
		}
	}
	limit := time.After(time.Minute)
	for {
		select {
		case p := <-c.came:
			if holds(p) {
				return p
			}
			c.left = append(c.left, p)
		case <-limit:
			c.t.Fatalf("waited a minute for %s", what)
		}
	}
}

func (c *client) on(topic string) *paho.Publish {
	c.t.Helper()
	return c.until("a message on "+topic, func(p *paho.Publish) bool { return p.Topic == topic })
}

func (c *client) publish(p *paho.Publish) {
	c.t.Helper()
	if _, err := c.Client.Publish(c.t.Context(), p); err != nil {
		c.t.Fatalf("%s: %v", p.Topic, err)
	}
}

// value is a value's payload.
type value struct {
	Value      any       `json:"value"`
	Quality    string    `json:"quality"`
	SourceTime time.Time `json:"sourceTime"`
	ServerTime time.Time `json:"serverTime"`
}

func decode[T any](t *testing.T, p *paho.Publish) (v T) {
	t.Helper()
	if err := json.Unmarshal(p.Payload, &v); err != nil {
		t.Fatalf("%s: %q: %v", p.Topic, p.Payload, err)
	}
	return v
}

// result is that of a command.
type result struct {
	ID      any            `json:"id"`
	Set     string         `json:"set"`
	Call    string         `json:"call"`
	OK      bool           `json:"ok"`
	Outputs map[string]any `json:"outputs"`
	Note    string         `json:"note"`
	Quality string         `json:"quality"`
	Error   string         `json:"error"`
}
