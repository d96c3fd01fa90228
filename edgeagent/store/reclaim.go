package store

import (
	"context"
	"slices"
	"sync"
)

// reclaimer gives back the room of objects that were deleted while the disk is
// full. Pebble rewrites tables when enough has come in front of them, which never
// happens while nothing new is stored.
type reclaimer struct {
	wg sync.WaitGroup

	mu      sync.Mutex // guards the following fields
	lo, hi  []byte     // keys that are yet to be rewritten; nil when there are none
	running bool
	stop    context.CancelFunc // of the rewriting under way
	closed  bool
}

// reclaim begins to rewrite what holds the objects under keys.
func (s *Store) reclaim(keys []string) {
	lo, hi := dbKey(kindObject, slices.Min(keys)), append(dbKey(kindObject, slices.Max(keys)), 0)
	r := &s.reclaimer
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lo == nil || string(lo) < string(r.lo) {
		r.lo = lo
	}
	if string(hi) > string(r.hi) {
		r.hi = hi
	}
	if r.running || r.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // ends with Close
	r.running, r.stop = true, cancel
	r.wg.Go(func() { s.rewrite(ctx) })
}

func (s *Store) rewrite(ctx context.Context) {
	r := &s.reclaimer
	for {
		r.mu.Lock()
		lo, hi := r.lo, r.hi
		r.lo, r.hi = nil, nil
		if r.running = lo != nil && ctx.Err() == nil; !r.running {
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		if err := s.compact(ctx, lo, hi); err != nil && ctx.Err() == nil {
			s.log.Warn("deleted objects keep their room for now", "error", err)
		}
	}
}

// compact rewrites the tables that have keys from lo to hi.
func (s *Store) compact(ctx context.Context, lo, hi []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = s.breakDown(r)
		}
	}()
	return s.db.Load().Compact(ctx, lo, hi, false)
}

// end stops the rewriting, and waits for it.
func (r *reclaimer) end() {
	r.mu.Lock()
	r.closed = true
	if r.stop != nil {
		r.stop()
	}
	r.mu.Unlock()
	r.wg.Wait()
}
