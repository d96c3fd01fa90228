package devices

import (
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// factMemory is the name of the private value of a worker's memory, before the UID.
const factMemory = "device-memory/"

const (
	// memoryInterval is how often the memory is written while values change.
	memoryInterval = 10 * time.Second
	// maxMemory bounds the values in it, in bytes of their frame.
	maxMemory = 64 << 10
)

// memory is what a worker knows over a restart of the agent: what its properties were,
// for a status that is not empty while the device can't be reached.
type memory struct {
	// Connection is that of the Device then. What was read from other addresses is of
	// no use.
	Connection string
	// Whole says that the worker ended in peace, so that nothing was told after this was
	// written. Else the first sample of each property goes on, whatever it is.
	Whole      bool
	Values     []byte // devices.AppendFrame
	LastGap    *v1alpha1.Gap
	Conditions []metav1.Condition
}

// remember restores what the last worker of this Device knew.
func (w *worker) remember() {
	text, err := w.cfg.Store.GetPrivate(factMemory + w.uid)
	var m memory
	if err != nil || json.Unmarshal(text, &m) != nil {
		return // it is the first
	}
	w.lastGap, w.status.conditions = m.LastGap, m.Conditions
	f, err := devices.ParseFrame(m.Values)
	if err != nil || m.Connection != w.want.connection || w.want.model == nil {
		return
	}
	now := time.Now()
	for _, s := range f.Samples {
		v := w.twins[s.Property]
		if v == nil {
			continue
		}
		v.twin.Restore(s, now)
		v.shown, v.known, v.must = s, true, !m.Whole
		w.restored = true
	}
	if !m.Whole {
		return
	}
	// From here on it is not whole any more.
	m.Whole = false
	w.writeMemory(m)
}

// keep writes the memory, at most once an interval unless it is the end.
func (w *worker) keep(now time.Time, whole bool) {
	w.mu.Lock()
	if !whole && (!w.kept.dirty || now.Before(w.kept.at.Add(memoryInterval))) {
		w.mu.Unlock()
		return
	}
	w.kept.dirty, w.kept.at = false, now
	m := memory{Connection: w.want.connection, LastGap: w.lastGap, Conditions: w.status.conditions, Whole: whole}
	if w.want.model == nil {
		w.mu.Unlock()
		return // what was written before is of more use
	}
	f := devices.Frame{}
	size := 0
	for _, name := range w.order {
		v := w.twins[name]
		m.Whole = m.Whole && !v.must
		if !v.known {
			continue
		}
		one, err := devices.AppendFrame(nil, devices.Frame{Samples: []devices.Sample{v.shown}})
		if size += len(one); err != nil || size > maxMemory {
			break // the others are told anew
		}
		f.Samples = append(f.Samples, v.shown)
	}
	w.mu.Unlock()
	var err error
	if m.Values, err = devices.AppendFrame(nil, f); err == nil {
		w.writeMemory(m)
	}
}

func (w *worker) writeMemory(m memory) {
	text, err := json.Marshal(m)
	if err == nil {
		err = w.cfg.Store.SetPrivate(factMemory+w.uid, text)
	}
	if err != nil {
		w.log.Warn("what a device was can't be kept for the next start", "error", err)
	}
}

// keeper is when the memory was written.
type keeper struct {
	dirty bool
	at    time.Time
}

// lostLocked takes in that nobody knows any more whether values are so. It returns the
// samples that go on.
func (w *worker) lostLocked(now time.Time) (lost []devices.Sample) {
	w.restored = false
	for _, name := range w.order {
		if s, ok := w.twins[name].twin.Disconnected(now); ok {
			lost = append(lost, s)
		}
	}
	return lost
}
