package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Delivery is what AppendAll stores: entries of the sequenced lane and private values, in
// one synced batch.
type Delivery struct {
	// Source and ID tell deliveries apart: one that is tried again, since nobody knows
	// whether the first try was stored, is stored once. The ID is never that of the
	// delivery before of the same source.
	Source, ID string
	// Entries go to the end of the sequenced lane, in order; Seq is not read.
	Entries []Message
	// Private are values as of SetPrivate; an empty one deletes.
	Private map[string][]byte
}

// AppendAll stores a delivery whole or not at all. ErrDiskFull means that it is to be tried
// again when there is room; nothing is counted as dropped for it, since the caller has it
// still.
func (o *Outbox) AppendAll(d Delivery) error {
	if d.Source == "" || d.ID == "" {
		return errors.New("append: a delivery without source or id")
	}
	size, bulk := int64(0), int64(0)
	for _, m := range d.Entries {
		if o.bulk != 0 && m.Subject == o.bulk {
			bulk += int64(len(m.Key) + len(m.Value))
		} else {
			size += int64(len(m.Key) + len(m.Value))
		}
	}
	if size > o.maxBytes/2 || bulk > o.maxBulk/2 {
		return fmt.Errorf("append %d bytes: %w", size+bulk, ErrTooLarge)
	}
	if err := o.store.space.admit(roomToGrow); err != nil {
		return fmt.Errorf("put into outbox: %w", err)
	}
	entries := slices.Clone(d.Entries) // of the caller, who may give up waiting
	sealed := make(map[string][]byte, len(d.Private))
	for name, value := range d.Private {
		if len(value) > 0 {
			value = o.store.sealer.seal(nil, name, privateVersion, value)
		}
		sealed[name] = value
	}
	_, err := o.put(func(c *outboxChange, seq uint64) error {
		last := dbKey(kindMeta, deliveredPrefix+d.Source)
		before, err := o.store.get(last)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil && bytes.Equal(before, []byte(d.ID)) {
			return nil // the first try was stored
		}
		set(c.batch, last, []byte(d.ID))
		for i, m := range entries {
			if i > 0 {
				seq++
			}
			m.Seq = seq
			c.add(laneTimed, m)
		}
		c.stats.LastSeq = seq
		setUint(c.batch, nameSeq, seq)
		for name, value := range sealed {
			if len(value) == 0 {
				del(c.batch, dbKey(kindPrivate, name))
			} else {
				set(c.batch, dbKey(kindPrivate, name), value)
			}
		}
		return c.bound()
	})
	return err
}

// deliveredPrefix begins the facts that say which delivery of a source was the last.
const deliveredPrefix = "delivered/"

// GetPrivate reads what SetPrivate, or a delivery, stored; ErrNotFound when nothing was, or
// when this node's key does not open it.
func (s *Store) GetPrivate(name string) ([]byte, error) {
	b, err := s.get(dbKey(kindPrivate, name))
	if err != nil {
		return nil, fmt.Errorf("get private %s: %w", name, err)
	}
	value, err := s.sealer.unseal(name, privateVersion, b)
	if err != nil {
		s.log.Error("what only this edge knew can't be opened and counts as lost", "name", name, "error", err)
		return nil, fmt.Errorf("get private %s: %w", name, ErrNotFound)
	}
	return value, nil
}

// Forget deletes what is kept of a source of deliveries, and private values, synced.
func (s *Store) Forget(source string, private ...string) error {
	if _, err := s.get(dbKey(kindMeta, deliveredPrefix+source)); errors.Is(err, ErrNotFound) {
		return s.DeletePrivate(private...)
	}
	if err := s.DeletePrivate(private...); err != nil {
		return err
	}
	return s.deleteMeta(deliveredPrefix + source)
}
