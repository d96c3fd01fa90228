package modbus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
	"github.com/skerry-io/skerry/devices/modbus/plan"
	"github.com/skerry-io/skerry/devices/modbus/value"
)

// Read implements devices.Conn.
func (c *conn) Read(ctx context.Context, names []string) ([]devices.Sample, error) {
	b, err := c.connected()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	samples := make([]devices.Sample, len(names))
	var items []plan.Item
	for i, name := range names {
		p := c.byName[name]
		samples[i] = devices.Sample{Property: name, Quality: devices.BadNodeIDUnknown, Server: time.Now()}
		if p == nil {
			continue
		}
		samples[i].Quality = devices.BadNotReadable
		if p.readable() {
			items = append(items, plan.Item{Function: p.codec.Function(), Address: p.codec.Address, Count: p.codec.Count, ID: i})
		}
	}
	// What polls have learned belongs to another goroutine: refusals split anew here.
	known := plan.Known{MaxRegisters: c.registers, MaxBits: c.bits}
	for _, r := range known.Plan(items, guess(c.endpoint)) {
		if err := c.readOne(ctx, b, r, samples); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// readOne fills in the samples of a read; a refused one item by item.
func (c *conn) readOne(ctx context.Context, b *shared, r plan.Read, samples []devices.Sample) error {
	request, err := r.Request()
	if err != nil {
		return err
	}
	data, err := b.Do(ctx, c.call(request, bus.Control))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, bus.ErrNotConnected) {
		return refusal(err)
	}
	var e *pdu.Exception
	if errors.As(err, &e) && plan.Splits(e.Code) && len(r.Items) > 1 {
		for _, it := range r.Items {
			one := plan.Read{Function: it.Function, Address: it.Address, Count: it.Count, Items: []plan.Item{it}}
			if err := c.readOne(ctx, b, one, samples); err != nil {
				return err
			}
		}
		return nil
	}
	for _, it := range r.Items {
		s := &samples[it.ID]
		s.Server, s.Quality = time.Now(), quality(err)
		if err == nil {
			s.Value, s.Quality = c.byName[s.Property].codec.Decode(data, it.Address-r.Address)
		}
	}
	return nil
}

// Write implements devices.Conn.
func (c *conn) Write(ctx context.Context, writes []devices.Write) []error {
	errs := make([]error, len(writes))
	b, err := c.connected()
	if err == nil {
		err = ctx.Err()
	}
	for i, w := range writes {
		if err != nil {
			errs[i] = err
			continue
		}
		errs[i] = refusal(c.write(ctx, b, w))
	}
	select {
	case c.soon <- struct{}{}: // so that the new values are seen
	default:
	}
	return errs
}

func (c *conn) write(ctx context.Context, b *shared, w devices.Write) error {
	p := c.byName[w.Property]
	if p == nil {
		return fmt.Errorf("%w: %s", devices.ErrUnknownProperty, w.Property)
	}
	v, err := devices.CoerceProperty(w.Value, p.model, c.model)
	if err != nil {
		return err
	}
	data, mask, err := p.codec.Encode(v)
	if err != nil {
		return err
	}
	if err := c.send(ctx, b, p.codec, data, mask); err != nil {
		return err
	}
	if !p.verify || !p.readable() {
		return nil
	}
	return c.verify(ctx, b, p, data, mask)
}

// send writes with the function that fits, or with the other one where the device does
// not have it: many have only one of the two.
func (c *conn) send(ctx context.Context, b *shared, codec *value.Codec, data []byte, mask uint16) error {
	address := uint16(codec.Address)
	switch {
	case codec.Bits() && len(data) == 1:
		one := func() (pdu.Request, error) { return pdu.WriteCoil(address, data[0] == 1), nil }
		return c.either(ctx, b, one, func() (pdu.Request, error) { return pdu.WriteCoils(address, bools(data)) })
	case codec.Bits():
		r, err := pdu.WriteCoils(address, bools(data))
		return c.either(ctx, b, func() (pdu.Request, error) { return r, err }, nil)
	case mask != 0xFFFF:
		return c.part(ctx, b, address, binary.BigEndian.Uint16(data), mask)
	case len(data) == 2:
		one := func() (pdu.Request, error) {
			return pdu.WriteRegister(address, binary.BigEndian.Uint16(data)), nil
		}
		return c.either(ctx, b, one, func() (pdu.Request, error) { return pdu.WriteRegisters(address, data) })
	default:
		return c.either(ctx, b, func() (pdu.Request, error) { return pdu.WriteRegisters(address, data) }, nil)
	}
}

// either makes a request, and another one if the device does not know the first.
func (c *conn) either(ctx context.Context, b *shared, first, second func() (pdu.Request, error)) error {
	r, err := first()
	if err != nil {
		return &devices.QualityError{Quality: devices.BadOutOfRange, Reason: err.Error()}
	}
	_, err = b.Do(ctx, c.call(r, bus.Control))
	if second != nil && errors.Is(err, &pdu.Exception{Code: pdu.IllegalFunction}) {
		return c.either(ctx, b, second, nil)
	}
	return err
}

// part writes some bits of a register: by the device itself in one step, else by
// reading it first. Then what others write to the same register meanwhile is lost.
func (c *conn) part(ctx context.Context, b *shared, address, bits, mask uint16) error {
	_, err := b.Do(ctx, c.call(pdu.MaskWrite(address, ^mask, bits), bus.Control))
	if !errors.Is(err, &pdu.Exception{Code: pdu.IllegalFunction}) {
		return err
	}
	r, err := pdu.Read(pdu.ReadHoldingRegisters, address, 1)
	if err != nil {
		return err
	}
	old, err := b.Do(ctx, c.call(r, bus.Control))
	if err != nil {
		return err
	}
	word := binary.BigEndian.Uint16(old)&^mask | bits
	return c.either(ctx, b,
		func() (pdu.Request, error) { return pdu.WriteRegister(address, word), nil },
		func() (pdu.Request, error) {
			return pdu.WriteRegisters(address, binary.BigEndian.AppendUint16(nil, word))
		})
}

// verify reads back what was written.
func (c *conn) verify(ctx context.Context, b *shared, p *property, want []byte, mask uint16) error {
	r, err := pdu.Read(p.codec.Function(), uint16(p.codec.Address), p.codec.Count)
	if err != nil {
		return err
	}
	got, err := b.Do(ctx, c.call(r, bus.Control))
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	same := false
	switch {
	case p.codec.Bits():
		same = true
		for i, bit := range want {
			same = same && got[i/8]>>(i%8)&1 == bit
		}
	case mask != 0xFFFF:
		same = binary.BigEndian.Uint16(got)&mask == binary.BigEndian.Uint16(want)
	default:
		same = bytes.Equal(got, want)
	}
	if same {
		return nil
	}
	v, _ := p.codec.Decode(got, 0)
	return &devices.QualityError{Quality: devices.BadDeviceFailure, Reason: fmt.Sprintf("the device took the write and holds %v", v)}
}

func bools(data []byte) []bool {
	out := make([]bool, len(data))
	for i, b := range data {
		out[i] = b == 1
	}
	return out
}

// Identify asks the device who it is (function 43/14). Run must run.
func (c *conn) Identify(ctx context.Context, category pdu.Category) ([]pdu.Object, error) {
	b, err := c.connected()
	if err != nil {
		return nil, err
	}
	objects, err := c.identify(ctx, b, category)
	return objects, refusal(err)
}

// identify is Identify with the errors of the bus.
func (c *conn) identify(ctx context.Context, b *shared, category pdu.Category) ([]pdu.Object, error) {
	var objects []pdu.Object
	for next, rounds := byte(0), 0; ; rounds++ {
		data, err := b.Do(ctx, c.call(pdu.Identify(category, next), bus.Control))
		if err != nil {
			return nil, err
		}
		id, err := pdu.ParseIdentification(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", bus.ErrProtocol, err)
		}
		objects = append(objects, id.Objects...)
		if !id.More || id.Next <= next || rounds > 255 { // each round must get further
			return objects, nil
		}
		next = id.Next
	}
}
