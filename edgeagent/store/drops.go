package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Reasons for which the sequenced lane loses entries.
const (
	// DropBytes is the bound of its bytes: the oldest go.
	DropBytes = "bytes"
	// DropBulk is the bound of the bytes of BulkSubject: the oldest of these go.
	DropBulk = "bulk_bytes"
	// DropAge is the bound of its age.
	DropAge = "age"
	// DropDisk is a disk that is full: the newest are not taken.
	DropDisk = "disk_full"
	// DropSize is an entry that no lane of this bound takes.
	DropSize = "too_large"
)

// Drop says what was lost for one reason, for as long as the store lives.
type Drop struct {
	Reason string
	// Count and Bytes are of entries.
	Count, Bytes uint64
	// First and Last are when, by the clock of the machine.
	First, Last time.Time
}

// drops counts what was dropped. Its counters are written with the batch that
// drops, or where nothing could be written, with the next one that is.
type drops struct {
	list []Drop // in order of Reason
}

func (d *drops) add(reason string, count, size uint64) {
	now := time.Now().Round(0)
	d.addDrop(Drop{Reason: reason, Count: count, Bytes: size, First: now, Last: now})
}

func (d *drops) find(reason string) (int, bool) {
	return slices.BinarySearchFunc(d.list, reason, func(e Drop, r string) int { return strings.Compare(e.Reason, r) })
}

func (d *drops) addDrop(more Drop) {
	i, ok := d.find(more.Reason)
	if !ok {
		d.list = slices.Insert(d.list, i, more)
		return
	}
	e := &d.list[i]
	e.Count += more.Count
	e.Bytes += more.Bytes
	e.Last = more.Last
}

// with gives the sum of both, without is its inverse.
func (d drops) with(more drops) drops {
	sum := drops{slices.Clone(d.list)}
	for _, e := range more.list {
		sum.addDrop(e)
	}
	return sum
}

func (d drops) without(some drops) drops {
	rest := drops{slices.Clone(d.list)}
	for _, e := range some.list {
		if i, ok := rest.find(e.Reason); ok {
			rest.list[i].Count -= e.Count
			rest.list[i].Bytes -= e.Bytes
		}
	}
	rest.list = slices.DeleteFunc(rest.list, func(e Drop) bool { return e.Count == 0 })
	return rest
}

func (d drops) total() (n uint64) {
	for _, e := range d.list {
		n += e.Count
	}
	return n
}

// write adds the counters to b.
func (d drops) write(b *pebble.Batch) {
	for _, e := range d.list {
		v := binary.BigEndian.AppendUint64(nil, e.Count)
		v = binary.BigEndian.AppendUint64(v, e.Bytes)
		v = binary.BigEndian.AppendUint64(v, uint64(e.First.Unix()))
		v = binary.BigEndian.AppendUint64(v, uint64(e.Last.Unix()))
		set(b, dbKey(kindInternal, nameDrop+e.Reason), v)
	}
}

func decodeDrop(reason string, v []byte) (Drop, error) {
	if len(v) != 32 {
		return Drop{}, fmt.Errorf("counter of drops of %d bytes: %w", len(v), ErrCorrupt)
	}
	return Drop{
		Reason: reason,
		Count:  binary.BigEndian.Uint64(v),
		Bytes:  binary.BigEndian.Uint64(v[8:]),
		First:  time.Unix(int64(binary.BigEndian.Uint64(v[16:])), 0),
		Last:   time.Unix(int64(binary.BigEndian.Uint64(v[24:])), 0),
	}, nil
}

// loadDrops reads the counters. That of format 1 is yet to be written in this form.
func loadDrops(s *Store) (d, unwritten drops, err error) {
	prefix := dbKey(kindInternal, nameDrop)
	var failed error
	err = s.scan(prefix, func(k, v []byte) bool {
		var e Drop
		if e, failed = decodeDrop(string(k[len(prefix):]), v); failed != nil {
			return false
		}
		d.list = append(d.list, e)
		return true
	})
	if err := errors.Join(failed, err); err != nil || d.list != nil {
		return d, unwritten, err
	}
	old, err := s.uint(nameDropped)
	if err == nil && old > 0 {
		unwritten.add(DropBytes, old, 0)
	}
	return d, unwritten, err
}
