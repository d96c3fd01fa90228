package modbus

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/skerry-io/skerry/devices"
)

// maxOutbox bounds the samples that wait for the store, per device. Past it polls are
// counted into a gap instead: a store without room must not eat the edge's memory.
const maxOutbox = 16384

// outbox hands samples to the port, all that have come while it stored the last ones
// in one batch.
type outbox struct {
	port devices.Port
	bell chan struct{} // capacity 1

	mu      sync.Mutex // guards the following fields
	samples []devices.Sample
	gaps    []devices.Gap
	full    *devices.Gap // while samples are dropped
}

func newOutbox(port devices.Port) *outbox {
	return &outbox{port: port, bell: make(chan struct{}, 1)}
}

// add queues samples, or counts them.
func (o *outbox) add(samples []devices.Sample) {
	if len(samples) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.samples)+len(samples) > maxOutbox {
		if o.full == nil {
			o.full = &devices.Gap{From: samples[0].Server, Reason: "StoreFull"}
		}
		o.full.Lost += uint64(len(samples))
		return
	}
	if o.full != nil {
		o.full.To = samples[0].Server
		o.gaps = append(o.gaps, *o.full)
		o.full = nil
	}
	o.samples = append(o.samples, samples...)
	o.ring()
}

// gap queues a gap.
func (o *outbox) gap(g devices.Gap) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gaps = append(o.gaps, g)
	o.ring()
}

func (o *outbox) ring() {
	select {
	case o.bell <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends. What can't be stored is tried again: it is kept, and
// what comes meanwhile waits behind it.
func (o *outbox) run(ctx context.Context, log *slog.Logger) {
	const again = time.Second
	for {
		select {
		case <-o.bell:
		case <-ctx.Done():
			return
		}
		o.mu.Lock()
		b := devices.Batch{Samples: o.samples, Gaps: o.gaps}
		o.samples, o.gaps = nil, nil
		o.mu.Unlock()
		for _, piece := range cut(b) {
			for {
				err := o.port.Deliver(ctx, piece)
				if err == nil {
					break
				}
				if ctx.Err() != nil {
					return
				}
				log.Error("samples not stored", "samples", len(piece.Samples), "error", err, "retry_in", again)
				if !sleep(ctx, again) {
					return
				}
			}
		}
	}
}

// cut keeps batches below devices.MaxBatch: a value takes 250 bytes at the most, its
// name 128, and 4,096 of them with what is around are well below 4 MiB.
func cut(b devices.Batch) (pieces []devices.Batch) {
	const most = 4096
	for len(b.Samples) > most {
		pieces = append(pieces, devices.Batch{Samples: b.Samples[:most:most]})
		b.Samples = b.Samples[most:]
	}
	return append(pieces, b)
}

// outage knows when nothing could be read.
type outage struct {
	good   time.Time // last poll with a value
	since  time.Time // of the outage, zero when there is none
	lost   uint64
	silent uint64 // values of this poll that are bad and were said before
}

// poll takes a poll's samples, and queues a gap when an outage has ended. A refused
// property among good ones is no outage.
func (u *outage) poll(o *outbox, samples []devices.Sample, now time.Time) {
	good, missing := false, u.silent
	for i := range samples {
		if samples[i].Quality.IsGood() {
			good = true
		} else {
			missing++
		}
	}
	u.silent = 0
	switch {
	case good:
		if !u.since.IsZero() {
			o.gap(devices.Gap{From: u.since, To: now, Lost: u.lost, Reason: "Outage"})
			u.since, u.lost = time.Time{}, 0
		}
		u.good = now
	case missing > 0 && !u.good.IsZero():
		if u.since.IsZero() {
			u.since = u.good
		}
		u.lost += missing
	}
}
