package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open opens the database in cfg.Dir, or makes it. One that is damaged is set
// aside and a new one takes its place, with what the outbox had; a disk that is
// full gives a store that reads, and that writes once there is room. errors.Is
// tells ErrLocked, ErrKey, ErrCorrupt and ErrDiskFull, errors.As a *FormatError.
func Open(cfg Config) (*Store, error) {
	cfg, err := cfg.fill()
	if err != nil {
		return nil, err
	}
	s, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func open(cfg Config) (*Store, error) {
	watched, sp := watch(cfg)
	lock, err := lockDir(watched)
	if err != nil {
		return nil, err
	}
	s, err := openLocked(watched, sp, lock)
	if !errors.Is(err, ErrCorrupt) {
		return s, err
	}
	// The former watch has ended. This one lets a repair fail where it finds no room.
	watched, sp = watch(cfg)
	if err = repair(watched, lock, err); err == nil {
		s, err = openLocked(watched, sp, lock)
		if !errors.Is(err, ErrCorrupt) {
			return s, err
		}
	}
	return nil, errors.Join(err, lock.Close())
}

// watch gives cfg with a file system that keeps an eye on the room there is.
func watch(cfg Config) (Config, *space) {
	sp := newSpace(cfg)
	cfg.FS = orderedFS{spaceFS{FS: cfg.FS, space: sp}}
	return cfg, sp
}

// openLocked opens the database in a directory that lock holds. When it fails it
// gives the lock back, but for ErrCorrupt: then nothing is open, and nothing is
// being opened, so that the directory can be set aside.
func openLocked(cfg Config, sp *space, lock *dirLock) (*Store, error) {
	s := &Store{
		lock: lock, log: cfg.Log, space: sp,
		failed: make(chan struct{}), broken: make(chan struct{}), turn: make(chan struct{}, 1),
	}
	cfg.damaged = func(err error) { _ = s.fail(err) } // Pebble's locks are held
	s.cfg = cfg
	readOnly, err := s.openFirst()
	if err == nil {
		err = s.prepare(readOnly)
	}
	if err == nil {
		s.outbox, err = newOutbox(s, cfg)
	}
	if err != nil {
		pending := s.later != nil
		done, cerr := s.shut()
		switch {
		case errors.Is(err, ErrCorrupt) && (pending || !done):
			// Whoever still has it would go on in the one that took its place.
			return nil, fmt.Errorf("%w: what opens the store waits for room, so that damage can't be set aside before the next start: %v", ErrDiskFull, err) //nolint:errorlint // ErrCorrupt would have it repaired
		case done && !errors.Is(err, ErrCorrupt):
			cerr = errors.Join(cerr, lock.Close())
		}
		return nil, errors.Join(err, cerr)
	}
	if readOnly {
		sp.start(s.reopen, s.retire, s.outbox.trimRest)
	} else {
		sp.start(nil, nil, s.outbox.trimRest)
	}
	return s, nil
}

// openFirst opens the database for writing, or where there is no room for that
// only for reading.
//
// When there is little room, it is opened for reading first: opening for writing
// may then have to wait for room, which is never broken off, and beside it
// nothing can be opened any more that is sure to be of one piece.
func (s *Store) openFirst() (readOnly bool, err error) {
	room, plenty := s.space.roomToOpen()
	if !plenty {
		db, err := openDB(s.cfg, true)
		switch {
		case err == nil:
			s.db.Store(db)
			s.space.hold()
		case errors.Is(err, pebble.ErrDBDoesNotExist):
			// The first start: there is nothing to read yet.
		default:
			return false, err
		}
	}
	full := fmt.Errorf("%w: no room to open the store for writing", ErrDiskFull)
	var db *pebble.DB
	if room {
		db, s.later, full = openWritable(s.cfg, s.space)
	}
	reader := s.db.Load()
	switch {
	case full == nil:
		s.db.Store(db)
		if reader != nil {
			full = reader.Close()
			s.space.release()
		}
		return false, full
	case reader == nil, !errors.Is(full, ErrDiskFull):
		return false, full
	}
	s.log.Error("disk is full: the store can only be read until there is room", "error", full)
	return true, nil
}

// opened is the end of an attempt to open a database.
type opened struct {
	db  *pebble.DB
	err error
}

// openWritable opens the database. Others may take the room meanwhile; then
// Pebble waits, since it can't do without, and what it opens comes later.
func openWritable(cfg Config, sp *space) (*pebble.DB, chan opened, error) {
	sp.bePatient()
	later := make(chan opened, 1)
	go func() {
		sp.setOpening(true)
		db, err := openDB(cfg, false)
		sp.setOpening(false)
		later <- opened{db, err}
	}()
	o, ok := unlessStuck(sp, later, nil)
	if !ok {
		return nil, later, fmt.Errorf("%w: opening the store waits for room", ErrDiskFull)
	}
	return o.db, nil, o.err
}

// reopen puts a database that writes in the place of one that only reads. It is
// called when there is room again.
func (s *Store) reopen() error {
	o := opened{err: errors.New("it is being opened")}
	switch {
	case s.former != nil: // it is open, and what comes behind has found no room
		o.err = s.prepare(false)
	case s.later == nil:
		if room, _ := s.space.roomToOpen(); !room {
			return fmt.Errorf("%w: no room to open the store for writing", ErrDiskFull)
		}
		o.db, s.later, o.err = openWritable(s.cfg, s.space)
	default:
		select {
		case o = <-s.later:
			s.later = nil
		default:
		}
	}
	if o.err == nil && s.former == nil {
		s.former = s.db.Swap(o.db)
		o.err = s.prepare(false)
	}
	if errors.Is(o.err, ErrCorrupt) {
		_ = s.fail(o.err)
	}
	return o.err
}

// retire closes the database that only read, and tells whether it is closed.
func (s *Store) retire() bool {
	if s.former == nil {
		return true
	}
	if !s.reading.TryLock() {
		return false
	}
	defer s.reading.Unlock()
	if err := s.former.Close(); err != nil {
		s.log.Warn("the database that was read on a full disk can't be closed", "error", err)
	}
	s.former = nil
	s.space.release()
	return true
}

// openDB opens the database and turns a Fatalf of Pebble while it does into an
// error.
func openDB(cfg Config, readOnly bool) (db *pebble.DB, err error) {
	if err := checkFiles(cfg.FS, cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = classify(recovered(r))
		}
	}()
	// The directory's lock is held by the store, over all databases it opens.
	opts := options(unlockedFS{cfg.FS}, cfg.Log, cfg.damaged)
	opts.ReadOnly = readOnly
	db, err = pebble.Open(cfg.Dir, opts)
	switch {
	case err == nil:
		return db, nil
	case strings.Contains(err.Error(), "unknown format major version"):
		return nil, fmt.Errorf("written by a newer agent, run that or move the directory away: %w", err)
	case errors.Is(err, pebble.ErrDBDoesNotExist):
		return nil, err // nothing was ever written, so nothing is damaged
	case errors.Is(err, os.ErrNotExist):
		// Pebble makes what it needs; a file that is missing was there once.
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.As(err, new(syscall.Errno)):
		return nil, classify(err)
	}
	// The disk does what it is told; it is the content that Pebble can't use.
	return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// unlockedFS leaves locking to who has locked already.
type unlockedFS struct{ vfs.FS }

// Lock implements vfs.FS.
func (fs unlockedFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// Unwrap implements vfs.FS.
func (fs unlockedFS) Unwrap() vfs.FS { return fs.FS }
