package modbus

import (
	"context"
	"errors"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
	"github.com/skerry-io/skerry/devices/modbus/plan"
)

const (
	// refusedRest is how long a refused value is not asked for: devices are configured
	// anew now and then.
	refusedRest = time.Minute
	// replan is after how many polls the plan is compared with what requests cost now.
	replan = 64
)

// poll is one planned read and its latest answer.
type poll struct {
	plan.Read
	request pdu.Request
	data    []byte
	took    time.Duration
	at      time.Time
	err     error
}

// plan makes the reads of a group.
func (c *conn) plan(g *group) {
	g.planned = c.meter.Cost()
	g.reads = g.reads[:0]
	for _, r := range c.known.Plan(g.items, g.planned) {
		request, err := r.Request()
		if err != nil { // a bug of plan
			c.log.Error("planned an impossible read", "error", err)
			continue
		}
		g.reads = append(g.reads, &poll{Read: r, request: request})
	}
}

// poll asks for all that a group has and delivers it. The error is ctx's.
func (c *conn) poll(ctx context.Context, g *group) error {
	now := time.Now()
	if !g.retry.IsZero() && now.After(g.retry) {
		g.retry = time.Time{}
		c.health.refused = 0 // learned anew if it still is so
		for _, it := range g.items {
			c.known.Forget(it)
		}
		g.reads = nil
	}
	if g.polls++; g.reads == nil || g.polls%replan == 0 && g.planned.Differs(c.meter.Cost()) {
		c.plan(g)
	}
	ended := make(chan struct{}, len(g.reads))
	for _, p := range g.reads {
		call := c.call(p.request, bus.Poll)
		call.Done = func(data []byte, took time.Duration, err error) {
			p.data, p.took, p.at, p.err = append(p.data[:0], data...), took, time.Now(), err
			ended <- struct{}{}
		}
		c.bus.Go(call)
	}
	for range g.reads {
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err() // who still answers writes to what nobody reads any more
		}
	}
	return c.digest(ctx, g)
}

// digest turns the answers of a poll into samples, and refusals into knowledge.
func (c *conn) digest(ctx context.Context, g *group) error {
	var samples []devices.Sample
	learned := false
	for _, p := range g.reads {
		c.health.note(p.err)
		var e *pdu.Exception
		switch {
		case p.err == nil:
			c.meter.Add(registers(p.Read), p.took)
			samples = c.good(samples, p.Read, p.data, p.at)
		case errors.As(p.err, &e) && plan.Splits(e.Code):
			learned = true
			var err error
			if samples, err = c.learn(ctx, samples, p.Read, e.Code); err != nil && ctx.Err() != nil {
				return ctx.Err()
			}
		default:
			samples = c.bad(samples, p.Items, quality(p.err), p.at)
		}
	}
	if learned {
		g.reads = nil
		c.health.refused = 0
		for _, gr := range c.groups {
			for _, it := range gr.items {
				if c.known.Refuses(it) {
					c.health.refused++
					gr.retry = time.Now().Add(refusedRest)
				}
			}
		}
	}
	c.outage.poll(c.outbox, samples, time.Now())
	c.outbox.add(samples)
	return nil
}

// learn finds out what of a read is refused, and gets the rest.
func (c *conn) learn(ctx context.Context, samples []devices.Sample, r plan.Read, code pdu.Code) ([]devices.Sample, error) {
	ask := func(r plan.Read) (pdu.Code, error) {
		request, err := r.Request()
		if err != nil {
			return 0, err
		}
		data, err := c.bus.Do(ctx, c.call(request, bus.Poll))
		var e *pdu.Exception
		switch {
		case err == nil:
			samples = c.good(samples, r, data, time.Now())
			return 0, nil
		case errors.As(err, &e) && plan.Splits(e.Code):
			return e.Code, nil
		}
		return 0, err
	}
	err := c.known.Learn(r, code, ask)
	for _, it := range r.Items {
		if c.known.Refuses(it) {
			c.log.Warn("device refuses a property", "property", c.properties[it.ID].model.Name, "code", code.String())
			samples = c.bad(samples, []plan.Item{it}, quality(&pdu.Exception{Function: it.Function, Code: code}), time.Now())
		}
	}
	return samples, err
}

// good adds the values of an answer.
func (c *conn) good(samples []devices.Sample, r plan.Read, data []byte, at time.Time) []devices.Sample {
	for _, it := range r.Items {
		p := c.properties[it.ID]
		v, q := p.codec.Decode(data, it.Address-r.Address)
		c.last[it.ID] = q
		samples = append(samples, devices.Sample{Property: p.model.Name, Value: v, Quality: q, Server: at})
	}
	return samples
}

// bad adds a quality for items that have no value. The same one is said once: there is
// nothing in it that staleness or a report policy could want again.
func (c *conn) bad(samples []devices.Sample, items []plan.Item, q devices.Quality, at time.Time) []devices.Sample {
	for _, it := range items {
		if c.last[it.ID] != q {
			c.last[it.ID] = q
			samples = append(samples, devices.Sample{Property: c.properties[it.ID].model.Name, Quality: q, Server: at})
		} else {
			c.outage.silent++
		}
	}
	return samples
}

func registers(r plan.Read) int {
	if r.Function.Bits() {
		return (r.Count + 15) / 16
	}
	return r.Count
}
