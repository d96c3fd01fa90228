package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// conn is one simulated device.
type conn struct {
	dev        *devices.Device
	port       devices.Port
	log        *slog.Logger
	interval   time.Duration
	generators []generator

	mu      sync.Mutex // guards the following fields
	running bool
	count   uint64                   // samples made of each property
	written map[string]devices.Value // by property
}

// state is what outlives the process.
type state struct {
	Count   uint64                     `json:"count"`
	Written map[string]json.RawMessage `json:"written,omitempty"`
}

// load takes what an earlier process saved; what it can't read it begins anew.
func (c *conn) load(saved []byte) {
	c.written = make(map[string]devices.Value)
	var s state
	if json.Unmarshal(saved, &s) != nil {
		return
	}
	c.count = s.Count
	for _, g := range c.generators {
		if text, ok := s.Written[g.property.Name]; ok {
			if v, err := devices.DecodeJSON(text, g.property.ValueType, &c.dev.Model); err == nil {
				c.written[g.property.Name] = v
			}
		}
	}
}

// saveLocked is the state as it would be with that count.
func (c *conn) saveLocked(count uint64) ([]byte, error) {
	s := state{Count: count, Written: make(map[string]json.RawMessage)}
	for name, v := range c.written {
		text, err := devices.EncodeJSON(v)
		if err != nil {
			return nil, err
		}
		s.Written[name] = text
	}
	return json.Marshal(s)
}

// Run implements devices.Conn: a batch an interval.
func (c *conn) Run(ctx context.Context) error {
	c.setRunning(true)
	defer c.setRunning(false)
	c.port.Report(devices.Health{Connected: true, Reason: devices.ReasonConnected, Message: "simulated"})
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		if err := c.deliver(ctx); err != nil {
			return ctx.Err()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *conn) setRunning(running bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = running
}

// deliver makes a sample of each property. One that is not stored has not been.
func (c *conn) deliver(ctx context.Context) error {
	c.mu.Lock()
	now := time.Now()
	batch := devices.Batch{Samples: c.samplesLocked(now)}
	count := c.count + 1
	var err error
	batch.State, err = c.saveLocked(count)
	c.mu.Unlock()
	if err == nil {
		err = c.port.Deliver(ctx, batch)
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.Error("simulated samples can't be delivered", "error", err)
			c.port.Report(devices.Health{Reason: "StoreFailed", Message: err.Error()})
			<-ctx.Done()
		}
		return err
	}
	c.mu.Lock()
	c.count = count
	c.mu.Unlock()
	return nil
}

func (c *conn) samplesLocked(now time.Time) []devices.Sample {
	samples := make([]devices.Sample, 0, len(c.generators))
	for i := range c.generators {
		if c.generators[i].property.Access != v1alpha1.WriteOnly {
			samples = append(samples, c.sampleLocked(&c.generators[i], now))
		}
	}
	return samples
}

func (c *conn) sampleLocked(g *generator, now time.Time) devices.Sample {
	v, ok := c.written[g.property.Name]
	if !ok {
		v = g.value(c.count, now, &c.dev.Model)
	}
	return devices.Sample{Property: g.property.Name, Value: v, Source: now, Server: now}
}

// Read implements devices.Conn.
func (c *conn) Read(ctx context.Context, properties []string) ([]devices.Sample, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usableLocked(ctx); err != nil {
		return nil, err
	}
	now := time.Now()
	out := make([]devices.Sample, len(properties))
	for i, name := range properties {
		out[i] = devices.Sample{Property: name, Quality: devices.BadNodeIDUnknown, Server: now}
		if g := c.generator(name); g != nil {
			out[i] = c.sampleLocked(g, now)
			if g.property.Access == v1alpha1.WriteOnly {
				out[i] = devices.Sample{Property: name, Quality: devices.BadNotReadable, Server: now}
			}
		}
	}
	return out, nil
}

func (c *conn) usableLocked(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !c.running {
		return devices.ErrNotConnected
	}
	return nil
}

func (c *conn) generator(name string) *generator {
	for i := range c.generators {
		if c.generators[i].property.Name == name {
			return &c.generators[i]
		}
	}
	return nil
}

// Write implements devices.Conn. A property that was written keeps the value.
func (c *conn) Write(ctx context.Context, writes []devices.Write) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(writes))
	for i, w := range writes {
		errs[i] = c.writeLocked(ctx, w)
	}
	return errs
}

func (c *conn) writeLocked(ctx context.Context, w devices.Write) error {
	if err := c.usableLocked(ctx); err != nil {
		return err
	}
	g := c.generator(w.Property)
	if g == nil {
		return fmt.Errorf("%s: %w", w.Property, devices.ErrUnknownProperty)
	}
	v, err := devices.CoerceProperty(w.Value, g.property, &c.dev.Model)
	if err != nil {
		return err
	}
	c.written[w.Property] = v
	return nil
}

// Call implements devices.Conn: a method answers with its arguments.
func (c *conn) Call(ctx context.Context, method string, args []devices.Field) ([]devices.Field, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usableLocked(ctx); err != nil {
		return nil, err
	}
	m, ok := c.dev.Method(method)
	if !ok {
		return nil, fmt.Errorf("%s: %w", method, devices.ErrUnknownProperty)
	}
	if len(args) != len(m.Inputs) || len(m.Outputs) > len(args) {
		return nil, &devices.QualityError{
			Quality: devices.BadNotSupported, Reason: fmt.Sprintf("method %s of a simulated device takes %d arguments and gives them back", method, len(m.Inputs)),
		}
	}
	var out []devices.Field
	for i, f := range m.Outputs {
		v, err := devices.Coerce(args[i].Value, f.ValueType, &c.dev.Model)
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", m.Inputs[i].Name, err)
		}
		out = append(out, devices.Field{Name: f.Name, Value: v})
	}
	return out, nil
}
