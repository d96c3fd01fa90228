package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// format is raised when records change in a way that older agents can't read.
const format = 1

// Config is what a Store needs.
type Config struct {
	// Dir is the directory of the database; it is made when absent. Required.
	Dir string
	// FS is the file system; nil means the machine's own.
	FS vfs.FS
	// MaxOutboxBytes bounds the sequenced lane of the outbox; zero means 16 MiB.
	MaxOutboxBytes int64
	// Log may be nil, which discards.
	Log *slog.Logger
}

func (c Config) fill() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("store config: Dir is required")
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.MaxOutboxBytes <= 0 {
		c.MaxOutboxBytes = 16 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Object is one object of the desired state.
type Object struct {
	// Key is where it belongs, such as "pods/default/web-0".
	Key string
	// Version is opaque.
	Version string
	// Value is the object as Kubernetes protobuf.
	Value []byte
}

// Entry names a stored object and its version.
type Entry struct {
	Key, Version string
}

// Batch is a set of changes to objects that is applied whole or not at all. No
// key may be in it twice.
type Batch struct {
	Upserts []Object
	Deletes []string
}

// Store is an open database. Its methods may be called concurrently.
type Store struct {
	db     *pebble.DB
	lock   *pebble.Lock
	log    *slog.Logger
	outbox *Outbox
	failed chan struct{}

	// mu is held while a batch is put into the commit queue, not while its sync is
	// awaited. It orders writers, so that none is inside Pebble when it panics.
	mu       sync.Mutex // guards the following fields
	err      error
	panicked bool
}

// Open opens the database in cfg.Dir, or makes it. errors.Is tells ErrLocked,
// ErrCorrupt and ErrDiskFull, errors.As a *FormatError.
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

func open(cfg Config) (_ *Store, err error) {
	cfg.FS = orderedFS{cfg.FS}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, classify(err)
	}
	lock, err := pebble.LockDirectory(cfg.Dir, cfg.FS)
	if err != nil {
		return nil, classifyLock(err)
	}
	s := &Store{lock: lock, log: cfg.Log, failed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	opts := options(cfg.FS, cfg.Log)
	opts.Lock = lock
	if s.db, err = openDB(cfg.Dir, opts); err != nil {
		return nil, classify(err)
	}
	if err := s.checkFormat(); err != nil {
		return nil, err
	}
	if s.outbox, err = newOutbox(s, cfg.MaxOutboxBytes); err != nil {
		return nil, err
	}
	return s, nil
}

// openDB turns a Fatalf of Pebble while it opens into an error.
func openDB(dir string, opts *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = recovered(r)
		}
	}()
	db, err = pebble.Open(dir, opts)
	if err != nil && errors.Is(err, os.ErrNotExist) {
		// Pebble makes what it needs; a file that is missing was there once.
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return db, err
}

func (s *Store) checkFormat() error {
	b, err := s.get(dbKey(kindInternal, nameFormat))
	if errors.Is(err, ErrNotFound) {
		batch := s.db.NewBatch()
		setUint(batch, nameFormat, format)
		return s.write(batch)
	}
	if err != nil {
		return err
	}
	have, err := parseUint(b)
	if err != nil {
		return err
	}
	if have != format {
		return &FormatError{Have: have, Want: format}
	}
	return nil
}

// Close closes the database. Nothing may use the store any more.
func (s *Store) Close() error {
	s.mu.Lock()
	panicked := s.panicked
	if s.err == nil {
		s.err = ErrClosed
	}
	s.mu.Unlock()
	// After a panic inside Pebble its locks may be held for good.
	if s.db != nil && !panicked {
		if err := s.closeDB(); err != nil {
			return fmt.Errorf("close store: %w", classify(err))
		}
	}
	return s.lock.Close()
}

func (s *Store) closeDB() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = recovered(r)
		}
	}()
	return s.db.Close()
}

// Failed is closed when a write failed, so that what is in memory and what is on
// disk may differ. The process should end: opening the store again settles it.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err says why the store no longer takes writes, nil while it does.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Outbox gives the part that keeps what the cloud has yet to hear.
func (s *Store) Outbox() *Outbox { return s.outbox }

// Apply writes b with one sync.
func (s *Store) Apply(b Batch) error {
	batch := s.db.NewBatch()
	for _, o := range b.Upserts {
		if o.Key == "" {
			return errors.New("apply: an object without a key")
		}
		set(batch, dbKey(kindVersion, o.Key), []byte(o.Version))
		set(batch, dbKey(kindObject, o.Key), encodeObject(o))
	}
	for _, key := range b.Deletes {
		del(batch, dbKey(kindVersion, key))
		del(batch, dbKey(kindObject, key))
	}
	if err := s.write(batch); err != nil {
		return fmt.Errorf("apply %d upserts and %d deletes: %w", len(b.Upserts), len(b.Deletes), err)
	}
	return nil
}

// Get reads one object; ErrNotFound when there is none.
func (s *Store) Get(key string) (Object, error) {
	b, err := s.get(dbKey(kindObject, key))
	if err != nil {
		return Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	return decodeObject(key, b)
}

// List calls fn for the objects whose key starts with prefix, in order of their
// keys, until fn returns false. fn may keep what it is given.
func (s *Store) List(prefix string, fn func(Object) bool) error {
	var failed error
	err := s.scan(dbKey(kindObject, prefix), func(k, v []byte) bool {
		o, err := decodeObject(string(k[1:]), v)
		if err != nil {
			failed = err
			return false
		}
		return fn(o)
	})
	return errors.Join(failed, err)
}

// Versions calls fn for the objects whose key starts with prefix, in order of
// their keys, until fn returns false. It does not touch their values.
func (s *Store) Versions(prefix string, fn func(Entry) bool) error {
	return s.scan(dbKey(kindVersion, prefix), func(k, v []byte) bool {
		return fn(Entry{Key: string(k[1:]), Version: string(v)})
	})
}

// Meta reads what SetMeta stored; ErrNotFound when nothing was.
func (s *Store) Meta(name string) ([]byte, error) {
	b, err := s.get(dbKey(kindMeta, name))
	if err != nil {
		return nil, fmt.Errorf("get meta %s: %w", name, err)
	}
	return b, nil
}

// SetMeta stores a small fact about this edge, synced.
func (s *Store) SetMeta(name string, value []byte) error {
	batch := s.db.NewBatch()
	set(batch, dbKey(kindMeta, name), value)
	if err := s.write(batch); err != nil {
		return fmt.Errorf("set meta %s: %w", name, err)
	}
	return nil
}

func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if err != nil {
		return nil, classify(err)
	}
	b := append([]byte(nil), v...)
	return b, classify(closer.Close())
}

// scan calls fn for every record whose key starts with prefix, with slices that
// are valid until it returns.
func (s *Store) scan(prefix []byte, fn func(k, v []byte) bool) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: upperBound(prefix)})
	if err != nil {
		return fmt.Errorf("iterate: %w", classify(err))
	}
	for ok := it.First(); ok && fn(it.Key(), it.Value()); ok = it.Next() {
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("iterate: %w", classify(err))
	}
	return nil
}

func setUint(b *pebble.Batch, name string, v uint64) {
	set(b, dbKey(kindInternal, name), binary.BigEndian.AppendUint64(nil, v))
}

// set and del can't fail: a batch is memory, and its error is for batches of
// which the commit has begun.
func set(b *pebble.Batch, k, v []byte) { _ = b.Set(k, v, nil) }

func del(b *pebble.Batch, k []byte) { _ = b.Delete(k, nil) }
