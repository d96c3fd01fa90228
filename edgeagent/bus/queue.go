package bus

import (
	"sync"

	fielddevices "github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/edgeagent/devices"
)

// Bounds of the queue: how many items there are in order, and about how many bytes
// their values have. Beyond, one item a property.
const (
	maxQueued      = 8192
	maxQueuedBytes = 8 << 20
)

// item is one thing to be told.
type item struct {
	kind       kind
	device     devices.Name
	sample     fielddevices.Sample // itemSample
	gap        fielddevices.Gap    // itemGap
	health     fielddevices.Health // itemHealth
	properties []string            // itemDevice
}

// kind says what an item is.
type kind int

const (
	itemSample kind = iota
	itemGap
	itemHealth
	itemDevice
	itemRemoved
)

// key is what one item replaces another of.
type key struct {
	kind     kind
	device   devices.Name
	property string
}

func (i *item) key() key { return key{i.kind, i.device, i.sample.Property} }

// size is about how much memory a value takes.
func size(v fielddevices.Value) int {
	n := 64
	switch v := v.(type) {
	case string:
		n += len(v)
	case []byte:
		n += len(v)
	case []any:
		for _, e := range v {
			n += size(e)
		}
	case fielddevices.Struct:
		for _, f := range v {
			n += size(f.Value)
		}
	}
	return n
}

// queue holds items in order while there is room, and beyond that the newest of each
// property, which is bounded by the properties that there are. Gaps have no newest: beyond
// the bound they are dropped, which is counted, too. What says which devices there are is
// never dropped.
type queue struct {
	bell chan struct{} // capacity 1: there is something

	mu      sync.Mutex // guards the following fields
	ordered []item
	head    int // of ordered
	bytes   int
	newest  map[key]*item
	order   []key // of newest; entries without one are skipped
	dropped uint64
}

func newQueue() *queue {
	return &queue{bell: make(chan struct{}, 1), newest: make(map[key]*item)}
}

// put never blocks.
func (q *queue) put(items ...item) {
	q.mu.Lock()
	for i := range items {
		q.putLocked(&items[i])
	}
	q.mu.Unlock()
	select {
	case q.bell <- struct{}{}:
	default:
	}
}

func (q *queue) putLocked(i *item) {
	if i.kind == itemRemoved {
		q.purgeLocked(i.device)
	}
	n := size(i.sample.Value)
	if len(q.newest) == 0 && len(q.ordered)-q.head < maxQueued && q.bytes+n <= maxQueuedBytes {
		q.ordered = append(q.ordered, *i)
		q.bytes += n
		return
	}
	if i.kind == itemGap {
		q.dropped++
		return
	}
	k := i.key()
	if before := q.newest[k]; before != nil {
		q.dropped++
		if i.kind == itemSample && i.sample.Time().Before(before.sample.Time()) {
			return // of a gap that was filled
		}
		*before = *i
		return
	}
	kept := *i
	q.newest[k] = &kept
	q.order = append(q.order, k)
}

// purgeLocked forgets what is said of a device which is no longer there: that it is not
// comes after it.
func (q *queue) purgeLocked(n devices.Name) {
	for k := range q.newest {
		if k.device == n {
			delete(q.newest, k)
		}
	}
	kept := q.order[:0]
	for _, k := range q.order {
		if k.device != n {
			kept = append(kept, k)
		}
	}
	q.order = kept
}

// take gives the next item, false if there is none.
func (q *queue) take() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head < len(q.ordered) {
		i := q.ordered[q.head]
		q.ordered[q.head] = item{}
		q.head++
		q.bytes -= size(i.sample.Value)
		if q.head == len(q.ordered) {
			q.ordered, q.head = q.ordered[:0], 0
			if cap(q.ordered) > maxQueued/8 {
				q.ordered = nil // bursts are rare, memory is not free
			}
		} else if q.head >= maxQueued {
			q.ordered = append([]item(nil), q.ordered[q.head:]...)
			q.head = 0
		}
		return i, true
	}
	if len(q.order) == 0 {
		return item{}, false
	}
	k := q.order[0]
	q.order = q.order[1:]
	i := *q.newest[k]
	delete(q.newest, k)
	return i, true
}

// lost is how many items were dropped, or replaced before they were told.
func (q *queue) lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
