package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// privateVersion stands where objects have their version when a private value is sealed,
// so that none can be passed off as a secret of the same name.
const privateVersion = "private"

// Private calls fn for what SetPrivate stored, in order of the names. What was sealed with
// another key than this node has now, or is damaged, is left out and logged: it is as lost
// as the key.
func (s *Store) Private(fn func(name string, value []byte)) error {
	err := s.scan([]byte{kindPrivate}, func(k, v []byte) bool {
		name := string(k[1:])
		value, err := s.sealer.unseal(name, privateVersion, v)
		if err != nil {
			s.log.Error("what only this edge knew can't be opened and counts as lost", "name", name, "error", err)
			return true
		}
		fn(name, value)
		return true
	})
	if err != nil {
		return fmt.Errorf("list what is private: %w", err)
	}
	return nil
}

// SetPrivate stores under name what nobody but this edge knows, sealed and synced. The
// cloud is not told of it.
func (s *Store) SetPrivate(name string, value []byte) error {
	batch := new(pebble.Batch)
	if name == "" {
		return errors.New("set private: no name")
	}
	set(batch, dbKey(kindPrivate, name), s.sealer.seal(nil, name, privateVersion, value))
	err := s.space.admit(roomToShrink)
	if err == nil {
		err = s.writeNow(batch)
	}
	if err != nil {
		return fmt.Errorf("set private %s: %w", name, err)
	}
	return nil
}

// DeletePrivate deletes what SetPrivate stored, synced.
func (s *Store) DeletePrivate(names ...string) error {
	batch := new(pebble.Batch)
	for _, name := range names {
		del(batch, dbKey(kindPrivate, name))
	}
	err := s.space.admit(roomToShrink)
	if err == nil {
		err = s.writeNow(batch)
	}
	if err != nil {
		return fmt.Errorf("delete %d private values: %w", len(names), err)
	}
	return nil
}
