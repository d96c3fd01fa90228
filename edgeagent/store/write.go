package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// errNoTurn says that nothing of a batch was stored, nor will be.
var errNoTurn = fmt.Errorf("%w: another write waits for room", ErrDiskFull)

// write is a batch on its way to the disk.
type write struct {
	// fill gives the batch. No other batch is made meanwhile.
	fill func() (*pebble.Batch, error)
	// taken is called when the batch is in the log's queue, before another one is
	// made. May be nil.
	taken func()
	// synced is called when it is on the disk. May be nil.
	synced func()
	// lazy is without a sync: power loss may undo it, and everything that is synced
	// later makes it durable too.
	lazy bool
}

// commit returns when w is on the disk. Writers that come together share a sync,
// and batches reach the disk in the order in which they were made.
//
// Pebble may wait for room on a full disk. Then commit does not wait with it: it
// returns ErrDiskFull, and the rest of w happens if and when there is room.
func (s *Store) commit(w write) error {
	if err := s.takeTurn(); err != nil {
		return err
	}
	result := make(chan error, 1)
	go func() { result <- s.carry(w) }()
	select {
	case err := <-result:
		return err
	case <-s.space.stuck():
	case <-s.broken:
	}
	t := time.NewTimer(stuckGrace)
	defer t.Stop()
	select {
	case err := <-result:
		return err
	case <-t.C:
	}
	if isClosed(s.broken) {
		return s.Err()
	}
	return fmt.Errorf("%w: it may be stored yet", ErrDiskFull)
}

// writeNow writes b whether there is room or not.
func (s *Store) writeNow(b *pebble.Batch) error {
	return s.commit(write{fill: func() (*pebble.Batch, error) { return b, nil }})
}

// takeTurn waits until no other batch is being made.
func (s *Store) takeTurn() error {
	if err := s.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-s.broken:
		return s.Err()
	case <-s.space.stuck():
	}
	t := time.NewTimer(stuckGrace)
	defer t.Stop()
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-s.broken:
		return s.Err()
	case <-t.C:
		return errNoTurn
	}
}

// carry takes w to the disk. It is called with the turn, and gives it on.
func (s *Store) carry(w write) error {
	b, err := s.enqueue(w)
	if err != nil || b == nil || w.lazy {
		return err
	}
	if err := errors.Join(b.SyncWait(), b.Close()); err != nil {
		return s.fail(err)
	}
	if w.synced != nil {
		w.synced()
	}
	return nil
}

// enqueue gives the batch whose sync is to be awaited, nil when there was nothing to write.
// Whether it is empty can't be asked afterwards: Pebble takes the bytes out of a large one.
func (s *Store) enqueue(w write) (b *pebble.Batch, err error) {
	defer func() { <-s.turn }()
	defer func() {
		if r := recover(); r != nil {
			err = s.breakDown(r)
		}
	}()
	if err := s.Err(); err != nil {
		return nil, err
	}
	if b, err = w.fill(); err != nil {
		return nil, err
	}
	db := s.db.Load()
	wrote := b
	switch {
	case b.Empty():
		wrote = nil
	case w.lazy:
		err = db.Apply(b, pebble.NoSync)
	default:
		err = db.ApplyNoSyncWait(b, pebble.Sync)
	}
	if err != nil {
		return nil, s.fail(err)
	}
	if w.taken != nil {
		w.taken()
	}
	return wrote, nil
}

// fail ends all writing, and gives the error that did. Whether the write that
// failed is on the disk nobody knows before the store is opened again, so nothing
// may build on it. It waits for nothing: Pebble's locks may be held.
func (s *Store) fail(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("store takes no more writes: %w", classify(cause))
		close(s.failed)
		s.log.Error("store failed, restart the agent", "error", s.err)
		if errors.Is(s.err, ErrCorrupt) {
			s.marking.Go(s.markDamaged)
		}
	}
	return s.err
}

// breakDown fails the store for a panic that came out of Pebble: it may have left
// locks behind, so that it can neither be used nor closed.
func (s *Store) breakDown(r any) error {
	err := s.fail(recovered(r))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isClosed(s.broken) {
		close(s.broken)
	}
	return err
}

// recovered gives the error of a panic that came out of Pebble. Panics that are
// not about an error are bugs and go on.
func recovered(r any) error {
	if err, ok := r.(error); ok {
		return err
	}
	panic(r)
}
