package devices

import (
	"context"
	"sync"
	"time"

	"github.com/skerry-io/skerry/devices"
)

// tick takes in that time has gone by: values become stale, hearts beat.
func (w *worker) tick(now time.Time) {
	w.mu.Lock()
	var on []devices.Sample
	for _, name := range w.order {
		if s, ok := w.twins[name].twin.Tick(now); ok {
			on = append(on, s)
		}
	}
	w.mu.Unlock()
	w.tell(on)
}

// writeDesired begins to write what is due. One write is under way at a time.
func (w *worker) writeDesired(ctx context.Context, conn devices.Conn, writes *sync.WaitGroup) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing || !w.health.Connected {
		return
	}
	var due []devices.Write
	for _, name := range w.order {
		t := w.twins[name].twin
		if at, ok := t.Due(); ok && !at.After(now) {
			due = append(due, devices.Write{Property: name, Value: t.Desired()})
		}
	}
	if len(due) == 0 {
		return
	}
	w.writing = true
	writes.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		var errs []error
		failed := shielded(func() error { errs = conn.Write(ctx, due); return nil })
		w.wrote(due, errs, failed)
	})
}

// wrote takes in how writes went; failed is for all of them.
func (w *worker) wrote(writes []devices.Write, errs []error, failed error) {
	now := time.Now()
	w.mu.Lock()
	for i, wr := range writes {
		err := failed
		if err == nil && i < len(errs) {
			err = errs[i]
		}
		v := w.twins[wr.Property]
		if v == nil || !devices.Equal(v.twin.Desired(), wr.Value) {
			continue // something else is desired now
		}
		v.twin.Wrote(err, now)
		if err == nil {
			w.counters.Writes++
		} else {
			w.log.Warn("desired value can't be written", "property", wr.Property, "error", err)
		}
	}
	w.writing = false
	w.status.dirty = true
	w.mu.Unlock()
	w.ring()
}

// untilNext is how long there is nothing to do.
func (w *worker) untilNext(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := now.Add(time.Hour)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	for _, name := range w.order {
		t := w.twins[name].twin
		if at, ok := t.Next(); ok {
			sooner(at)
		}
		if at, ok := t.Due(); ok && w.health.Connected && !w.writing {
			sooner(at)
		}
	}
	if at, ok := w.status.due(); ok {
		sooner(at)
	}
	if w.kept.dirty {
		sooner(w.kept.at.Add(memoryInterval))
	}
	return max(next.Sub(now), time.Millisecond)
}
