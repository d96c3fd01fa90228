package store

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// write commits b and returns when it is on the disk. Writers that come
// together share a sync.
func (s *Store) write(b *pebble.Batch) error {
	if err := s.enqueue(b); err != nil {
		return err
	}
	return s.await(b)
}

// enqueue makes b visible to readers and puts it into the log's queue; await
// tells when it is on the disk. Batches reach the disk in the order in which they
// were enqueued.
func (s *Store) enqueue(b *pebble.Batch) error {
	return s.commit(func() error { return s.db.ApplyNoSyncWait(b, pebble.Sync) })
}

// writeLazily commits b without a sync: power loss may undo it, and everything
// that is synced later makes it durable too.
func (s *Store) writeLazily(b *pebble.Batch) error {
	return s.commit(func() error { return s.db.Apply(b, pebble.NoSync) })
}

func (s *Store) commit(apply func() error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	defer func() {
		if r := recover(); r != nil {
			s.panicked = true
			err = s.failLocked(recovered(r))
		}
	}()
	if err := apply(); err != nil {
		return s.failLocked(err)
	}
	return nil
}

func (s *Store) await(b *pebble.Batch) error {
	err := b.SyncWait()
	if err == nil {
		return b.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failLocked(err)
}

// failLocked ends all writing. Whether the write that failed is on the disk
// nobody knows before the store is opened again, so nothing may build on it.
func (s *Store) failLocked(cause error) error {
	if s.err == nil {
		s.err = fmt.Errorf("store takes no more writes: %w", classify(cause))
		s.log.Error("store failed, restart the agent", "error", s.err)
		close(s.failed)
	}
	return s.err
}

// recovered gives the error of a panic that came out of Pebble. Panics that are
// not about an error are bugs and go on.
func recovered(r any) error {
	if err, ok := r.(error); ok {
		return err
	}
	panic(r)
}
