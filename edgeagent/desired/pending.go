package desired

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/skerry-io/skerry/edgeagent/store"
)

// Bounds of one batch. While one is being synced the next may fill up, so twice
// this, and one object, is the most that is in memory.
const (
	maxBatchChanges = 256
	maxBatchBytes   = 1 << 20
)

// change is what a batch does to one key.
type change struct {
	object          store.Object
	resourceVersion string
	deleted         bool
}

// batch is what came since the last one was taken, the last change of each key.
type batch struct {
	changes map[string]change
	frames  int
	bytes   int
	// seq is the last Upsert or Delete in it; hasSeq is false when there was none.
	seq    uint64
	hasSeq bool
	synced bool
}

func (b *batch) full() bool { return b.frames >= maxBatchChanges || b.bytes >= maxBatchBytes }

func (b *batch) empty() bool { return !b.hasSeq && !b.synced }

// store gives the batch in the store's terms, in order of the keys.
func (b *batch) store() store.Batch {
	var out store.Batch
	for _, key := range slices.Sorted(maps.Keys(b.changes)) {
		if c := b.changes[key]; c.deleted {
			out.Deletes = append(out.Deletes, key)
		} else {
			out.Upserts = append(out.Upserts, c.object)
		}
	}
	return out
}

// pending hands batches from the goroutine that reads the stream to the one that
// syncs: a batch is whatever came while the one before was synced.
type pending struct {
	ready chan struct{} // capacity 1: there is something to take
	room  chan struct{} // capacity 1: the batch was taken

	mu   sync.Mutex // guards the following fields
	next batch
	err  error // why no more will come
}

func newPending() *pending {
	return &pending{ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put calls add with the batch that is being filled, once it has room.
func (p *pending) put(ctx context.Context, add func(b *batch)) error {
	for {
		p.mu.Lock()
		if !p.next.full() {
			if p.next.changes == nil {
				p.next.changes = make(map[string]change)
			}
			add(&p.next)
			p.mu.Unlock()
			ring(p.ready)
			return nil
		}
		p.mu.Unlock()
		select {
		case <-p.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end says that nothing more will be put; take gives err behind the last batch.
func (p *pending) end(err error) {
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	ring(p.ready)
}

// take waits for something and takes all there is; after a ring of other that may
// be nothing.
func (p *pending) take(ctx context.Context, other <-chan struct{}) (batch, error) {
	for {
		p.mu.Lock()
		b, err := p.next, p.err
		p.next = batch{}
		p.mu.Unlock()
		if !b.empty() {
			ring(p.room)
			return b, nil
		}
		if err != nil {
			return b, err
		}
		select {
		case <-p.ready:
		case <-other:
			return b, nil
		case <-ctx.Done():
			return b, ctx.Err()
		}
	}
}

func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
