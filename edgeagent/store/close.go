package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// closeGrace is how long Close waits for a disk that does not answer.
const closeGrace = 10 * time.Second

// errHangs says that the disk does not answer.
var errHangs = errors.New("the disk does not answer")

// Close closes the database. Nothing may use the store any more. A second call
// does nothing.
//
// It comes back within seconds on any disk. While Pebble waits for room, or for a
// disk that does not answer, it can't be closed: then Close returns an error, and
// what is open closes itself and gives back the directory's lock once the disk
// lets it, or the process ends.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	if s.err == nil {
		s.err = ErrClosed
	}
	s.mu.Unlock()
	if closed {
		return nil
	}
	done, err := s.shut()
	if done {
		err = errors.Join(err, s.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("close store: %w", classify(err))
	}
	return nil
}

// shutting is the end of closing. left says that a database stays open.
type shutting struct {
	left bool
	err  error
}

// shut closes all but the lock, and tells whether that is done. What is not done
// gives the lock back when it is.
func (s *Store) shut() (done bool, err error) {
	s.space.stop()
	result := make(chan shutting, 1)
	go func() { result <- s.closeAll() }()
	hangs := time.NewTimer(closeGrace)
	defer hangs.Stop()
	end, ok := unlessStuck(s.space, result, hangs.C)
	switch {
	case ok && !end.left:
		return true, end.err
	case ok:
		s.lock.keep()
		return false, end.err
	}
	go func() {
		if end := <-result; end.left {
			s.lock.keep()
		} else if err := errors.Join(end.err, s.lock.Close()); err != nil {
			s.log.Error("store was closed late", "error", err)
		}
	}()
	if isClosed(s.space.stuck()) {
		return false, ErrDiskFull
	}
	return false, errHangs
}

func (s *Store) closeAll() (end shutting) {
	s.space.end()
	s.reclaimer.end()
	s.marking.Wait()
	closeOne := func(db *pebble.DB) {
		left, err := closeDB(db)
		end.left = end.left || left
		end.err = errors.Join(end.err, err)
	}
	if s.later != nil {
		if o := <-s.later; o.db != nil {
			closeOne(o.db)
		}
		s.later = nil
	}
	if s.former != nil {
		closeOne(s.former)
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.broken:
	}
	if isClosed(s.broken) {
		// Pebble's locks may be held for good, and it may still write.
		end.left = true
		return end
	}
	if db := s.db.Load(); db != nil {
		closeOne(db)
	}
	return end
}

// closeDB tells with left that db may still be at work.
func closeDB(db *pebble.DB) (left bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			left, err = true, recovered(r)
		}
	}()
	return false, db.Close()
}
