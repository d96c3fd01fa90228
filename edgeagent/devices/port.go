package devices

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Names of private values, before the UID.
const (
	factState    = "device-state/"
	factCounters = "device-counters/"
)

func sourceOf(uid string) string { return "device/" + uid }

const (
	// maxFrame bounds a frame of samples, which is a report: PROTOCOL.md has the
	// bound of the stream.
	maxFrame = 96 << 10
	// framed is how many samples are tried in one frame.
	framed = 1024
	// roomPause is how long room on the disk may take to be enough.
	roomPause = time.Second
)

// badEncodingLimits is OPC UA's BadEncodingLimitsExceeded: of a value that is too
// large to be told, its quality.
const badEncodingLimits devices.Quality = 0x80080000

func loadCounters(st *store.Store, uid string) (c v1alpha1.Counters) {
	text, err := st.GetPrivate(factCounters + uid)
	if err != nil || json.Unmarshal(text, &c) != nil {
		return v1alpha1.Counters{} // they begin anew
	}
	return c
}

// port is what the driver of a worker's device is given.
type port struct{ w *worker }

// State implements devices.Port.
func (p port) State() []byte {
	state, err := p.w.cfg.Store.GetPrivate(factState + p.w.uid)
	if err != nil {
		return nil
	}
	return state
}

// Report implements devices.Port.
func (p port) Report(h devices.Health) {
	w := p.w
	now := time.Now()
	w.mu.Lock()
	before := w.health
	if h.Since.IsZero() {
		h.Since = now
		if h.Connected == before.Connected && !before.Since.IsZero() {
			h.Since = before.Since
		}
	}
	w.health = h
	var lost []devices.Sample
	switch {
	case h.Connected && !before.Connected:
		if w.status.wasConnected {
			w.counters.Reconnects++
		}
		w.status.wasConnected, w.restored = true, false
		for _, v := range w.twins {
			v.twin.Reconnected()
		}
	case !h.Connected && (before.Connected || w.restored && h.Reason != devices.ReasonConnecting):
		lost = w.lostLocked(now)
	}
	w.mu.Unlock()
	w.cfg.Bus.Health(w.busName(), h)
	w.tell(lost)
	w.ring()
}

// Deliver implements devices.Port: what goes on, the driver's state and the
// counters are one synced write.
func (p port) Deliver(ctx context.Context, b devices.Batch) error {
	if len(b.State) > devices.MaxState {
		return devices.ErrBatchTooLarge
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w := p.w
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	now := time.Now()
	w.mu.Lock()
	var on []devices.Sample
	for _, s := range b.Samples {
		v := w.twins[s.Property]
		if v == nil {
			continue // the driver made it up
		}
		if v.twin.Observe(s, now) || v.must {
			v.must = false
			on = append(on, s)
		}
	}
	counters := w.counters
	w.mu.Unlock()
	before := counters
	counters.Samples += int64(len(b.Samples))
	counters.Reported += int64(len(on))
	counters.Gaps += int64(len(b.Gaps))
	for _, g := range b.Gaps {
		counters.Lost += int64(min(g.Lost, 1<<40))
	}
	err := w.store(ctx, on, b, counters)
	if err == nil {
		w.tellBus(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		// The driver has them still and delivers them again: they must go on then.
		for _, s := range on {
			w.twins[s.Property].must = true
		}
		return err
	}
	// Writes and reconnects may have been counted meanwhile.
	w.counters.Samples += counters.Samples - before.Samples
	w.counters.Reported += counters.Reported - before.Reported
	w.counters.Gaps += counters.Gaps - before.Gaps
	w.counters.Lost += counters.Lost - before.Lost
	if n := len(b.Gaps); n > 0 {
		w.lastGap = gap(b.Gaps[n-1])
	}
	w.showLocked(on)
	w.ring()
	return nil
}

func (w *worker) showLocked(samples []devices.Sample) {
	for _, s := range samples {
		v := w.twins[s.Property]
		if last, _ := v.twin.Last(); s.Time().Before(last.Time()) {
			continue // of a gap that was filled
		}
		v.shown, v.known = s, true
	}
	w.status.dirty = w.status.dirty || len(samples) > 0
	w.kept.dirty = w.kept.dirty || len(samples) > 0
}

// store writes until there is room for it.
func (w *worker) store(ctx context.Context, on []devices.Sample, b devices.Batch, counters v1alpha1.Counters) error {
	if len(on) == 0 && len(b.Gaps) == 0 && b.State == nil {
		return nil
	}
	d, err := w.delivery(on, b.Gaps)
	if err != nil {
		return err
	}
	if w.unwanted.Load() {
		d.Entries = nil // the counters are of them all the same
	}
	if b.State != nil {
		d.Private[factState+w.uid] = b.State
	}
	if d.Private[factCounters+w.uid], err = json.Marshal(counters); err != nil {
		return err
	}
	for {
		err := w.cfg.Store.Outbox().AppendAll(d)
		switch {
		case errors.Is(err, store.ErrTooLarge):
			return devices.ErrBatchTooLarge
		case !errors.Is(err, store.ErrDiskFull):
			return err
		}
		w.log.Warn("the disk is full; the device waits for room", "error", err)
		if err := w.cfg.Store.WaitRoom(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(roomPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tell stores samples that the device did not deliver, as when it is gone. They
// say nothing that the next ones don't, and wait for no room.
func (w *worker) tell(samples []devices.Sample) {
	if len(samples) == 0 {
		return
	}
	d, err := w.delivery(samples, nil)
	if err == nil && !w.unwanted.Load() {
		err = w.cfg.Store.Outbox().AppendAll(d)
	}
	if err != nil {
		w.log.Warn("changes of quality can't be stored", "error", err)
	}
	w.cfg.Bus.Samples(w.busName(), samples)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.showLocked(samples)
}

// delivery makes frames of samples and gaps.
func (w *worker) delivery(samples []devices.Sample, gaps []devices.Gap) (store.Delivery, error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	d := store.Delivery{Source: sourceOf(w.uid), ID: hex.EncodeToString(id[:]), Private: map[string][]byte{}}
	size := 0
	for n := framed; len(samples) > 0 || len(gaps) > 0; {
		n = min(n, len(samples))
		f := devices.Frame{Namespace: w.namespace, Name: w.name, UID: w.uid, Samples: samples[:n]}
		if n == len(samples) {
			f.Gaps = gaps[:min(framed, len(gaps))]
		}
		b, err := devices.AppendFrame(nil, f)
		if err != nil {
			return d, err
		}
		if len(b) > maxFrame && n > 1 {
			n /= 2
			continue
		}
		if len(b) > maxFrame && n == 1 && samples[0].Value != nil {
			w.log.Warn("value is too large to be told", "property", samples[0].Property, "bytes", len(b))
			samples[0].Value, samples[0].Quality = nil, badEncodingLimits
			continue
		}
		if size += len(b); size > devices.MaxBatch {
			return d, devices.ErrBatchTooLarge
		}
		d.Entries = append(d.Entries, store.Message{
			Subject: uint64(wire.SubjectSamples), Key: wire.ObjectKey(wire.ResourceDevices, w.namespace, w.name), Value: b,
		})
		samples, gaps = samples[n:], gaps[len(f.Gaps):]
		n = framed
	}
	return d, nil
}

func gap(g devices.Gap) *v1alpha1.Gap {
	return &v1alpha1.Gap{
		Property: cut(g.Property, 128), From: microTime(g.From), To: microTime(g.To), Lost: int64(min(g.Lost, 1<<40)), Reason: cut(g.Reason, 128),
	}
}

func microTime(t time.Time) *metav1.MicroTime {
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	return &metav1.MicroTime{Time: t.UTC()}
}
