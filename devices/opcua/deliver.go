package opcua

import (
	"context"
	"errors"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
)

const (
	mostValues = 5000    // in one batch: as many as a second has, so that syncs are few
	mostBytes  = 2 << 20 // of samples in one batch, as estimated
	storeRetry = time.Second
	overflow   = 0x480 // info bits of a value before which others were dropped (Part 4, 7.39)
)

// deliver takes from the inbox to the port, one batch at a time, until ctx ends.
func (c *conn) deliver(ctx context.Context) {
	for {
		entries, err := c.inbox.take(ctx, mostValues)
		if err != nil {
			return
		}
		if err := c.store(ctx, entries); err != nil {
			return
		}
		c.inbox.done(len(entries))
		c.acknowledge(entries)
	}
}

// store has entries stored, in as many batches as they need. Its error is ctx's.
func (c *conn) store(ctx context.Context, entries []entry) error {
	b := &batch{c: c, ctx: ctx}
	for _, e := range entries {
		if e.refused {
			if err := c.takeRefusal(b, e); err != nil {
				return err
			}
			continue
		}
		b.sub, b.number, b.skip = e.sub, e.number, 0
		if e.fresh {
			b.number = 0
			for _, it := range c.settings.items {
				it.resync = true
			}
			c.reportRefused(b)
			continue
		}
		if e.lost {
			b.gaps = append(b.gaps, devices.Gap{From: c.lastTime(), To: e.at, Reason: "MessageLost"})
		}
		if err := c.fill(b, e); err != nil {
			return err
		}
		skip := c.skipOnce(e)
		for i, n := range e.data {
			if uint32(i) < skip || n == nil || n.Value == nil || int(n.ClientHandle) >= len(c.settings.items) {
				continue
			}
			c.sample(b, c.settings.items[n.ClientHandle], n.Value)
			if b.bytes > mostBytes && i+1 < len(e.data) {
				// Part of a message: what is stored of it stands in the state.
				b.number, b.skip = beforeNumber(e.number), uint32(i+1)
				if err := b.flush(); err != nil {
					return err
				}
				b.number, b.skip = e.number, 0
			}
		}
		if b.bytes > mostBytes {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return b.flush()
}

// skipOnce is how many values of a message were stored before the process was
// killed.
func (c *conn) skipOnce(e entry) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.saved.skip == 0 || beforeNumber(e.number) != c.saved.last {
		return 0
	}
	n := c.saved.skip
	c.saved.skip = 0
	return n
}

func (c *conn) lastTime() (last time.Time) {
	for _, it := range c.settings.items {
		if it.last.After(last) {
			last = it.last
		}
	}
	return last
}

// batch collects what is stored in one write.
type batch struct {
	c       *conn
	ctx     context.Context //nolint:containedctx // of one call of store
	sub     *sub
	number  uint32 // the last message that is whole
	skip    uint32
	samples []devices.Sample
	gaps    []devices.Gap
	bytes   int
}

func (b *batch) add(it *item, s devices.Sample) {
	b.samples = append(b.samples, s)
	b.bytes += 64 + len(it.name) + size(s.Value)
}

// size is about what a value takes in a store.
func size(v devices.Value) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v) * 4 / 3
	case devices.Struct:
		n := 16
		for _, f := range v {
			n += len(f.Name) + size(f.Value)
		}
		return n
	case []any:
		n := 16
		for _, e := range v {
			n += size(e)
		}
		return n
	}
	return 16
}

// flush stores, and stores again until it is stored: nothing may be left out.
func (b *batch) flush() error {
	c := b.c
	if b.sub == nil {
		return nil
	}
	out := devices.Batch{Samples: b.samples, Gaps: b.gaps, State: c.state(b).encode()}
	if len(out.State) > devices.MaxState {
		out.State = c.stateWithoutTimes(b).encode()
	}
	for {
		err := c.port.Deliver(b.ctx, out)
		if err == nil {
			break
		}
		if b.ctx.Err() != nil {
			return err
		}
		c.log.Error("values not stored", "samples", len(out.Samples), "error", err)
		if errors.Is(err, devices.ErrBatchTooLarge) && len(out.Samples) > 0 {
			// One value that no store takes: the rest must go on.
			largest := 0
			for i := range out.Samples {
				if size(out.Samples[i].Value) > size(out.Samples[largest].Value) {
					largest = i
				}
			}
			out.Samples[largest].Value, out.Samples[largest].Quality = nil, devices.BadOutOfRange
			continue
		}
		t := time.NewTimer(storeRetry)
		select {
		case <-t.C:
		case <-b.ctx.Done():
			t.Stop()
			return b.ctx.Err()
		}
	}
	c.count("values", uint64(len(b.samples)))
	c.count("gaps", uint64(len(b.gaps)))
	b.samples, b.gaps, b.bytes = nil, nil, 0
	return nil
}

// state is what to save with a batch.
func (c *conn) state(b *batch) state {
	s := c.stateWithoutTimes(b)
	s.times = make(map[uint32]itemTime, len(c.settings.items))
	for _, it := range c.settings.items {
		if !it.last.IsZero() {
			s.times[it.key] = itemTime{it.last, it.resync}
		}
	}
	return s
}

func (c *conn) stateWithoutTimes(b *batch) state {
	s := state{hash: c.settings.hash, start: b.sub.start, id: b.sub.revised.ID, last: b.number, skip: b.skip}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.settings.items {
		if it.refused != 0 {
			s.refuse = append(s.refuse, it.handle)
		}
	}
	return s
}

// acknowledge has the server forget what is stored.
func (c *conn) acknowledge(entries []entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if e.refused {
			continue
		}
		if e.fresh {
			clear(c.stored) // older subscriptions have nothing to acknowledge any more
			continue
		}
		c.stored[e.sub] = e.number
		c.hub.publisher.Acknowledge(e.sub.revised.ID, e.number)
	}
}

// acknowledgeStale is for a message that came again, or is at the server still: if
// it is stored, the acknowledgement was lost on its way.
func (c *conn) acknowledgeStale(s *sub, number uint32) {
	c.mu.Lock()
	stored, ok := c.stored[s]
	c.mu.Unlock()
	if ok && int32(number-stored) <= 0 {
		c.hub.publisher.Acknowledge(s.revised.ID, number)
	}
}

// sample turns a notification into a sample, unless it is inside the deadband or was
// stored before.
func (c *conn) sample(b *batch, it *item, v *ua.DataValue) {
	s := c.convert(b.sub, it, v)
	at := s.Time()
	if it.sent && at.Equal(it.last) && s.Quality == it.quality && devices.Equal(s.Value, it.value) || it.resync && !it.sent && !at.IsZero() && at.Equal(it.last) {
		it.resync = false
		it.value, it.quality, it.sent = s.Value, s.Quality, true
		return // what a new subscription tells first is what the old one told last
	}
	it.resync = false
	if it.within(s.Value, s.Quality) {
		return
	}
	if at.After(it.last) {
		it.last = at
	}
	it.value, it.quality, it.sent = s.Value, s.Quality, true
	b.add(it, s)
}

// convert reads a value as the model has it.
func (c *conn) convert(s *sub, it *item, v *ua.DataValue) devices.Sample {
	out := devices.Sample{Property: it.name, Quality: devices.Quality(v.Status), Source: v.SourceTimestamp, Server: v.ServerTimestamp}
	if out.Quality.IsBad() || v.Value == nil {
		return out
	}
	s.mu.Lock()
	l := s.link
	s.mu.Unlock()
	out.Value, out.Quality = c.modelled(l, it, v.Value, out.Quality)
	return out
}

// modelled coerces to the model's type; a value that does not fit has a bad quality.
func (c *conn) modelled(l *link, it *item, v *ua.Variant, q devices.Quality) (devices.Value, devices.Quality) {
	c.mu.Lock()
	dataType := it.dataType
	c.mu.Unlock()
	l.mu.RLock()
	value := l.types.Value(v, dataType)
	l.mu.RUnlock()
	if value == nil {
		return nil, q
	}
	coerced, err := devices.Coerce(value, it.model.ValueType, &c.dev.Model)
	if err != nil {
		c.count("mismatched", 1)
		return nil, devices.QualityOf(err)
	}
	return coerced, q
}

// takeRefusal tells at once of items that the server has refused. The state is that of
// the messages stored so far.
func (c *conn) takeRefusal(b *batch, e entry) error {
	if b.sub != e.sub {
		if err := b.flush(); err != nil {
			return err
		}
		c.mu.Lock()
		b.sub, b.number, b.skip = e.sub, c.stored[e.sub], 0
		if b.number == c.saved.last {
			b.skip = c.saved.skip // of a message that is yet to come again
		}
		c.mu.Unlock()
	}
	c.reportRefused(b)
	return nil
}

// reportRefused tells for properties that the server does not watch.
func (c *conn) reportRefused(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.settings.items {
		if quality := devices.Quality(it.refused); it.refused != 0 && (!it.sent || it.quality != quality) {
			it.value, it.quality, it.sent = nil, quality, true
			b.add(it, devices.Sample{Property: it.name, Quality: devices.Quality(it.refused), Server: time.Now()})
		}
	}
}
