package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// OutboxStats is the state of an outbox.
type OutboxStats struct {
	// LastSeq is the highest seq that was ever given out.
	LastSeq uint64
	// Entries counts what has not been trimmed, of both lanes.
	Entries int
	// SequencedBytes is the size of the sequenced lane, which is bounded, without the
	// entries of Config.BulkSubject; BulkBytes is that of these.
	SequencedBytes, BulkBytes int64
	// Dropped counts the entries that the sequenced lane lost to its bounds or did
	// not take, for as long as the store lives; Drops has the reasons.
	Dropped uint64
}

// Outbox holds what the cloud has yet to hear. The keyed lane keeps the newest
// value of each key; the sequenced lane keeps everything until its bounds, of
// bytes and of age, then drops the oldest.
type Outbox struct {
	store    *Store
	maxBytes int64
	bulk     uint64 // subject; 0 for none
	maxBulk  int64
	maxAge   time.Duration
	changed  chan struct{}

	// These belong to who has Store.turn.
	clock  *ageClock
	oldest time.Duration // no entry of the sequenced lane is older; by clock

	mu      sync.Mutex          // guards the following fields; nothing is waited for under it
	stats   OutboxStats         // but for Dropped
	drops   drops               // as they are on the disk
	refused drops               // those that are not there yet
	trimmed map[uint64]struct{} // acknowledged, and not deleted yet
	durable uint64              // highest seq that is synced; readers see no further
}

func newOutbox(s *Store, cfg Config) (*Outbox, error) {
	o := &Outbox{
		store: s, maxBytes: cfg.MaxOutboxBytes, bulk: cfg.BulkSubject, maxBulk: cfg.MaxBulkBytes, maxAge: cfg.MaxOutboxAge,
		changed: make(chan struct{}, 1), trimmed: make(map[uint64]struct{}),
	}
	var err error
	if o.stats.LastSeq, err = s.uint(nameSeq); err != nil {
		return nil, err
	}
	if o.drops, o.refused, err = loadDrops(s); err != nil {
		return nil, err
	}
	if o.clock, err = loadAgeClock(s); err != nil {
		return nil, err
	}
	o.durable = o.stats.LastSeq
	o.oldest = o.clock.now()
	var failed error
	err = s.scan([]byte{kindOutbox}, func(k, v []byte) bool {
		if _, failed = decodeMessage(k, v); failed != nil {
			return false
		}
		o.count(&o.stats, v, 1)
		if sequenced(v) {
			o.oldest = min(o.oldest, o.clock.of(v))
		}
		return true
	})
	return o, errors.Join(failed, err)
}

func (s *Store) uint(name string) (uint64, error) {
	b, err := s.get(dbKey(kindInternal, name))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return parseUint(b)
}

// Changed has a value when entries may have come since it was last received
// from. There is one value for any number of entries, so one reader.
func (o *Outbox) Changed() <-chan struct{} { return o.changed }

// Stats tells how full the outbox is.
func (o *Outbox) Stats() OutboxStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := o.stats
	st.Dropped = o.drops.total() + o.refused.total()
	return st
}

// Drops tells what the sequenced lane lost, in order of the reasons.
func (o *Outbox) Drops() []Drop {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.drops.with(o.refused).list
}

// PutKeyed stores value in the keyed lane, synced, in place of what subject and
// key had there, with a new seq. On a full disk it goes on for as long as there
// is any room, so that the cloud hears of the disk.
func (o *Outbox) PutKeyed(subject uint64, key string, value []byte) (uint64, error) {
	if err := o.store.space.admit(roomToShrink); err != nil {
		return 0, fmt.Errorf("put into outbox: %w", err)
	}
	value = slices.Clone(value) // it is the caller's, who may give up waiting
	return o.put(func(c *outboxChange, seq uint64) error {
		index := indexKey(subject, key)
		old, err := o.store.get(index)
		switch {
		case err == nil:
			if err := c.remove(old); err != nil {
				return err
			}
		case !errors.Is(err, ErrNotFound):
			return err
		}
		c.add(laneKeyed, Message{Seq: seq, Subject: subject, Key: key, Value: value})
		set(c.batch, index, binary.BigEndian.AppendUint64(nil, seq))
		return nil
	})
}

// Append stores value at the end of the sequenced lane, synced. When that takes
// the lane over its bound, the oldest eighth goes and is counted, and so is what
// a full disk does not take.
func (o *Outbox) Append(subject uint64, key string, value []byte) (uint64, error) {
	size := int64(len(value) + len(key))
	if size > o.maxBytes/8 {
		o.refuse(DropSize, size)
		return 0, fmt.Errorf("append %d bytes: %w", size, ErrTooLarge)
	}
	if err := o.store.space.admit(roomToGrow); err != nil {
		o.refuse(DropDisk, size)
		return 0, fmt.Errorf("put into outbox: %w", err)
	}
	value = slices.Clone(value)
	seq, err := o.put(func(c *outboxChange, seq uint64) error {
		c.add(laneTimed, Message{Seq: seq, Subject: subject, Key: key, Value: value})
		return c.bound()
	})
	if errors.Is(err, errNoTurn) {
		o.refuse(DropDisk, size)
	}
	return seq, err
}

func (o *Outbox) refuse(reason string, size int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused.add(reason, 1, uint64(size))
}

// put gives out the next seq, lets fill write the batch for it, and syncs.
func (o *Outbox) put(fill func(c *outboxChange, seq uint64) error) (uint64, error) {
	var c *outboxChange
	err := o.store.commit(write{
		fill: func() (*pebble.Batch, error) {
			c = o.change()
			c.stats.LastSeq++
			setUint(c.batch, nameSeq, c.stats.LastSeq)
			if err := fill(c, c.stats.LastSeq); err != nil {
				return nil, err
			}
			c.writeFacts()
			return c.batch, nil
		},
		taken:  func() { o.take(c) },
		synced: func() { o.synced(c.stats.LastSeq) },
	})
	if err != nil {
		return 0, fmt.Errorf("put into outbox: %w", err)
	}
	return c.stats.LastSeq, nil
}

// synced lets readers see what is on the disk.
func (o *Outbox) synced(seq uint64) {
	o.mu.Lock()
	// Batches reach the disk in order: what came before is there as well.
	o.durable = max(o.durable, seq)
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// Next gives the first entry behind seq after, or false when there is none yet.
// It gives only what is synced.
func (o *Outbox) Next(after uint64) (Message, bool, error) {
	o.mu.Lock()
	durable := o.durable
	o.mu.Unlock()
	if after >= durable {
		return Message{}, false, nil
	}
	db, done := o.store.view()
	defer done()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: outboxKey(after + 1), UpperBound: outboxKey(durable + 1)})
	if err != nil {
		return Message{}, false, fmt.Errorf("read outbox: %w", o.store.seen(err))
	}
	for ok := it.First(); ok; ok = it.Next() {
		m, err := decodeMessage(it.Key(), it.Value())
		if err == nil && o.isTrimmed(m.Seq) {
			continue
		}
		return m, err == nil, o.store.seen(errors.Join(err, it.Close()))
	}
	return Message{}, false, o.store.seen(it.Close())
}

func (o *Outbox) isTrimmed(seq uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.trimmed[seq]
	return ok
}

// Trim deletes the entries with exactly these seqs. Those that are gone already,
// such as a value that was replaced since it was sent, are passed over. Power
// loss may undo it: the entries are then sent twice. On a disk that is so full
// that nothing can be written it is remembered until something can.
func (o *Outbox) Trim(seqs ...uint64) error {
	o.mu.Lock()
	for _, seq := range seqs {
		o.trimmed[seq] = struct{}{}
	}
	o.mu.Unlock()
	err := o.trim()
	if errors.Is(err, ErrDiskFull) {
		o.store.space.owe()
		return nil
	}
	if err != nil {
		return fmt.Errorf("trim outbox: %w", err)
	}
	return nil
}

// trimRest deletes what could not be deleted before, and tells whether all is.
func (o *Outbox) trimRest() bool {
	o.mu.Lock()
	n := len(o.trimmed)
	o.mu.Unlock()
	return n == 0 || !errors.Is(o.trim(), ErrDiskFull)
}

// trim deletes what is in trimmed.
func (o *Outbox) trim() error {
	if err := o.store.space.admit(roomToTrim); err != nil {
		return err
	}
	var c *outboxChange
	var seqs []uint64
	return o.store.commit(write{
		lazy: true,
		fill: func() (*pebble.Batch, error) {
			o.mu.Lock()
			seqs = slices.Sorted(maps.Keys(o.trimmed))
			o.mu.Unlock()
			c = o.change()
			for _, seq := range seqs {
				if err := c.trim(seq); err != nil {
					return nil, err
				}
			}
			return c.batch, nil
		},
		taken: func() {
			o.take(c)
			o.mu.Lock()
			defer o.mu.Unlock()
			for _, seq := range seqs {
				delete(o.trimmed, seq)
			}
		},
	})
}
