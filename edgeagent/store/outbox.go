package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Lanes of the outbox, the first byte of an entry's record.
const (
	laneKeyed     byte = 1
	laneSequenced byte = 2
)

// Message is one entry of the outbox.
type Message struct {
	// Seq is its place. It rises for as long as the store lives.
	Seq     uint64
	Subject uint64
	Key     string
	Value   []byte
}

// OutboxStats is the state of an outbox.
type OutboxStats struct {
	// LastSeq is the highest seq that was ever given out.
	LastSeq uint64
	// Entries counts what has not been trimmed, of both lanes.
	Entries int
	// SequencedBytes is the size of the sequenced lane, which is bounded.
	SequencedBytes int64
	// Dropped counts the entries that the sequenced lane lost to its bound, for as
	// long as the store lives.
	Dropped uint64
}

// Outbox holds what the cloud has yet to hear. The keyed lane keeps the newest
// value of each key; the sequenced lane keeps everything until its bound, then
// drops the oldest.
type Outbox struct {
	store    *Store
	maxBytes int64
	changed  chan struct{}

	mu      sync.Mutex // guards the following fields; taken before Store.mu
	stats   OutboxStats
	durable uint64 // highest seq that is synced; readers see no further
}

func newOutbox(s *Store, maxBytes int64) (*Outbox, error) {
	o := &Outbox{store: s, maxBytes: maxBytes, changed: make(chan struct{}, 1)}
	var err error
	if o.stats.LastSeq, err = s.uint(nameSeq); err != nil {
		return nil, err
	}
	if o.stats.Dropped, err = s.uint(nameDropped); err != nil {
		return nil, err
	}
	o.durable = o.stats.LastSeq
	err = s.scan([]byte{kindOutbox}, func(_, v []byte) bool {
		o.count(v, 1)
		return true
	})
	return o, err
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
	return o.stats
}

// PutKeyed stores value in the keyed lane, synced, in place of what subject and
// key had there, with a new seq.
func (o *Outbox) PutKeyed(subject uint64, key string, value []byte) (uint64, error) {
	return o.put(func(b *pebble.Batch, seq uint64) error {
		index := indexKey(subject, key)
		old, err := o.store.get(index)
		switch {
		case err == nil:
			if err := o.removeLocked(b, old); err != nil {
				return err
			}
		case !errors.Is(err, ErrNotFound):
			return err
		}
		o.addLocked(b, laneKeyed, Message{Seq: seq, Subject: subject, Key: key, Value: value})
		set(b, index, binary.BigEndian.AppendUint64(nil, seq))
		return nil
	})
}

// Append stores value at the end of the sequenced lane, synced. When that takes
// the lane over its bound, the oldest eighth goes and is counted.
func (o *Outbox) Append(subject uint64, key string, value []byte) (uint64, error) {
	size := int64(len(value) + len(key))
	if size > o.maxBytes/8 {
		return 0, fmt.Errorf("append %d bytes: %w", size, ErrTooLarge)
	}
	return o.put(func(b *pebble.Batch, seq uint64) error {
		o.addLocked(b, laneSequenced, Message{Seq: seq, Subject: subject, Key: key, Value: value})
		if o.stats.SequencedBytes <= o.maxBytes {
			return nil
		}
		return o.dropLocked(b)
	})
}

// put gives out the next seq, lets fill write the batch for it, and syncs.
func (o *Outbox) put(fill func(b *pebble.Batch, seq uint64) error) (uint64, error) {
	b := o.store.db.NewBatch()
	seq, err := o.enqueue(b, fill)
	if err != nil {
		return 0, fmt.Errorf("put into outbox: %w", err)
	}
	if err := o.store.await(b); err != nil {
		return 0, fmt.Errorf("put into outbox: %w", err)
	}
	o.mu.Lock()
	// Batches reach the disk in order: what came before is there as well.
	o.durable = max(o.durable, seq)
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return seq, nil
}

func (o *Outbox) enqueue(b *pebble.Batch, fill func(b *pebble.Batch, seq uint64) error) (uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.stats
	o.stats.LastSeq++
	setUint(b, nameSeq, o.stats.LastSeq)
	err := fill(b, o.stats.LastSeq)
	if err == nil {
		err = o.store.enqueue(b)
	}
	if err != nil {
		o.stats = before
		return 0, err
	}
	return o.stats.LastSeq, nil
}

func (o *Outbox) addLocked(b *pebble.Batch, lane byte, m Message) {
	v := binary.AppendUvarint([]byte{lane}, m.Subject)
	v = appendString(v, m.Key)
	v = append(v, m.Value...)
	set(b, outboxKey(m.Seq), v)
	o.count(v, 1)
}

// removeLocked deletes the entry that a value of the index points to.
func (o *Outbox) removeLocked(b *pebble.Batch, index []byte) error {
	seq, err := parseUint(index)
	if err != nil {
		return err
	}
	v, err := o.store.get(outboxKey(seq))
	if err != nil {
		return fmt.Errorf("index of the outbox points to seq %d: %w", seq, err)
	}
	del(b, outboxKey(seq))
	o.count(v, -1)
	return nil
}

// dropLocked deletes the oldest sequenced entries until an eighth of the lane is
// free, so that a full lane does not look for a victim on every append.
func (o *Outbox) dropLocked(b *pebble.Batch) error {
	before := o.stats.Dropped
	err := o.store.scan([]byte{kindOutbox}, func(k, v []byte) bool {
		if len(v) > 0 && v[0] == laneSequenced {
			del(b, append([]byte(nil), k...))
			o.count(v, -1)
			o.stats.Dropped++
		}
		return o.stats.SequencedBytes > o.maxBytes/8*7
	})
	setUint(b, nameDropped, o.stats.Dropped)
	o.store.log.Warn("outbox is full, oldest events dropped",
		"dropped", o.stats.Dropped-before, "dropped_total", o.stats.Dropped)
	return err
}

// count adds (sign 1) or takes away (sign -1) one record.
func (o *Outbox) count(v []byte, sign int) {
	o.stats.Entries += sign
	if len(v) > 0 && v[0] == laneSequenced {
		o.stats.SequencedBytes += int64(sign * len(v))
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
	it, err := o.store.db.NewIter(&pebble.IterOptions{LowerBound: outboxKey(after + 1), UpperBound: outboxKey(durable + 1)})
	if err != nil {
		return Message{}, false, fmt.Errorf("read outbox: %w", classify(err))
	}
	if !it.First() {
		return Message{}, false, classify(it.Close())
	}
	m, err := decodeMessage(it.Key(), it.Value())
	return m, err == nil, errors.Join(err, it.Close())
}

func decodeMessage(k, v []byte) (Message, error) {
	m := Message{Seq: binary.BigEndian.Uint64(k[1:])}
	if len(v) < 2 {
		return m, fmt.Errorf("outbox entry %d is cut short: %w", m.Seq, ErrCorrupt)
	}
	subject, n := binary.Uvarint(v[1:])
	if n <= 0 {
		return m, fmt.Errorf("outbox entry %d: %w", m.Seq, ErrCorrupt)
	}
	key, value, err := cutString(v[1+n:])
	if err != nil {
		return m, fmt.Errorf("outbox entry %d: %w", m.Seq, err)
	}
	m.Subject, m.Key, m.Value = subject, key, append([]byte(nil), value...)
	return m, nil
}

// Trim deletes the entries with exactly these seqs. Those that are gone already,
// such as a value that was replaced since it was sent, are passed over. Power
// loss may undo it: the entries are then sent twice.
func (o *Outbox) Trim(seqs ...uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.stats
	b := o.store.db.NewBatch()
	seqs = slices.Clone(seqs)
	slices.Sort(seqs)
	for _, seq := range slices.Compact(seqs) {
		v, err := o.store.get(outboxKey(seq))
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			o.stats = before
			return fmt.Errorf("trim outbox: %w", err)
		}
		m, err := decodeMessage(outboxKey(seq), v)
		if err != nil {
			o.stats = before
			return err
		}
		if v[0] == laneKeyed {
			// An entry that is there is the newest of its key: the index points to it.
			del(b, indexKey(m.Subject, m.Key))
		}
		del(b, outboxKey(seq))
		o.count(v, -1)
	}
	if err := o.store.writeLazily(b); err != nil {
		o.stats = before
		return fmt.Errorf("trim outbox: %w", err)
	}
	return nil
}
