package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Store is an open database. Its methods may be called concurrently.
type Store struct {
	cfg    Config
	lock   *dirLock
	log    *slog.Logger
	space  *space
	sealer *sealer
	outbox *Outbox
	failed chan struct{}
	broken chan struct{} // closed when Pebble has panicked

	// db is what is open now: a database that only reads while the disk is too full
	// to open it for writing. The former one is closed when nobody reads: it keeps the
	// room of files that are deleted.
	db      atomic.Pointer[pebble.DB]
	reading sync.RWMutex // held by readers of db, who may nest: others only try
	former  *pebble.DB
	later   chan opened // what is being opened for writing; space.work guards both

	reclaimer reclaimer
	marking   sync.WaitGroup // the mark of damage is being made

	// turn has a value while a batch is made and put into the log's queue, but not
	// while its sync is awaited: one at a time. On a full disk that may take long, so
	// it is no mutex: whoever waits gives up.
	turn   chan struct{}
	digest digest // belongs to who has the turn

	mu     sync.Mutex // guards the following fields; nothing is waited for under it
	err    error
	closed bool
}

// view gives the database to someone who reads, and who calls done then.
func (s *Store) view() (db *pebble.DB, done func()) {
	s.reading.RLock()
	return s.db.Load(), s.reading.RUnlock
}

// Failed is closed when a write failed, so that what is in memory and what is on
// disk may differ, or when damage was found. The process should end: opening the
// store again settles it. A full disk does not fail the store.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err says why the store no longer takes writes, nil while it does. A full disk
// is no such reason: see Full.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Outbox gives the part that keeps what the cloud has yet to hear.
func (s *Store) Outbox() *Outbox { return s.outbox }

func (s *Store) get(key []byte) ([]byte, error) {
	db, done := s.view()
	defer done()
	v, closer, err := db.Get(key)
	if err != nil {
		return nil, s.seen(err)
	}
	b := append([]byte(nil), v...)
	return b, classify(closer.Close())
}

// scan calls fn for every record whose key starts with prefix, with slices that
// are valid until it returns.
func (s *Store) scan(prefix []byte, fn func(k, v []byte) bool) error {
	db, done := s.view()
	defer done()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: upperBound(prefix)})
	if err != nil {
		return fmt.Errorf("iterate: %w", s.seen(err))
	}
	for ok := it.First(); ok && fn(it.Key(), it.Value()); ok = it.Next() {
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("iterate: %w", s.seen(err))
	}
	return nil
}

// seen classifies the error of a read. Damage ends the store: the next Open sets
// it aside.
func (s *Store) seen(err error) error {
	err = classify(err)
	if errors.Is(err, ErrCorrupt) {
		_ = s.fail(err)
	}
	return err
}

func setUint(b *pebble.Batch, name string, v uint64) {
	set(b, dbKey(kindInternal, name), binary.BigEndian.AppendUint64(nil, v))
}

// set and del can't fail: a batch is memory, and its error is for batches of
// which the commit has begun.
func set(b *pebble.Batch, k, v []byte) { _ = b.Set(k, v, nil) }

func del(b *pebble.Batch, k []byte) { _ = b.Delete(k, nil) }
