package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Object is one object of the desired state.
type Object struct {
	// Key is where it belongs, such as "pods/default/web-0".
	Key string
	// Version is opaque.
	Version string
	// Value is the object as Kubernetes protobuf. That of a Secret or a token is
	// sealed on the disk.
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

// Apply writes b with one sync. ErrDiskFull means that nothing of it was taken:
// WaitRoom tells when to try again.
func (s *Store) Apply(b Batch) error {
	batch := new(pebble.Batch)
	seen := make(map[string]struct{}, len(b.Upserts)+len(b.Deletes))
	for _, o := range b.Upserts {
		if o.Key == "" {
			return errors.New("apply: an object without a key")
		}
		seen[o.Key] = struct{}{}
		set(batch, dbKey(kindVersion, o.Key), []byte(o.Version))
		set(batch, dbKey(kindObject, o.Key), s.encodeObject(o))
	}
	for _, key := range b.Deletes {
		seen[key] = struct{}{}
		del(batch, dbKey(kindVersion, key))
		del(batch, dbKey(kindObject, key))
	}
	if len(seen) < len(b.Upserts)+len(b.Deletes) {
		return errors.New("apply: a key is in the batch twice")
	}
	need := roomToGrow
	if len(b.Upserts) == 0 {
		need = roomToShrink
	}
	err := s.space.admit(need)
	if err == nil {
		err = s.commitObjects(batch, b)
	}
	if err != nil {
		return fmt.Errorf("apply %d upserts and %d deletes: %w", len(b.Upserts), len(b.Deletes), err)
	}
	if full, _ := s.Full(); full && len(b.Deletes) > 0 {
		s.reclaim(b.Deletes)
	}
	return nil
}

// commitObjects commits batch, which holds b, with the digest that follows.
func (s *Store) commitObjects(batch *pebble.Batch, b Batch) error {
	entries := make([]Entry, len(b.Upserts)) // b belongs to the caller
	for i := range b.Upserts {
		entries[i] = Entry{Key: b.Upserts[i].Key, Version: b.Upserts[i].Version}
	}
	deletes := slices.Clone(b.Deletes)
	var sum digest
	fill := func() (*pebble.Batch, error) {
		sum = s.digest
		for i := range entries {
			if err := sum.replace(s, entries[i].Key, &entries[i].Version); err != nil {
				return nil, err
			}
		}
		for _, key := range deletes {
			if err := sum.replace(s, key, nil); err != nil {
				return nil, err
			}
		}
		sum.write(batch)
		return batch, nil
	}
	return s.commit(write{fill: fill, taken: func() { s.digest = sum }})
}

// Get reads one object; ErrNotFound when there is none.
func (s *Store) Get(key string) (Object, error) {
	b, err := s.get(dbKey(kindObject, key))
	if err != nil {
		return Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	o, err := s.decodeObject(key, b)
	return o, s.seen(err)
}

// List calls fn for the objects whose key starts with prefix, in order of their
// keys, until fn returns false. fn may keep what it is given.
func (s *Store) List(prefix string, fn func(Object) bool) error {
	var failed error
	err := s.scan(dbKey(kindObject, prefix), func(k, v []byte) bool {
		o, err := s.decodeObject(string(k[1:]), v)
		if err != nil {
			failed = err
			return false
		}
		return fn(o)
	})
	return errors.Join(s.seen(failed), err)
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

// SetMeta stores a small fact about this edge, synced. Nothing secret belongs in
// it: it is not sealed.
func (s *Store) SetMeta(name string, value []byte) error {
	batch := new(pebble.Batch)
	set(batch, dbKey(kindMeta, name), value)
	err := s.space.admit(roomToShrink)
	if err == nil {
		err = s.writeNow(batch)
	}
	if err != nil {
		return fmt.Errorf("set meta %s: %w", name, err)
	}
	return nil
}

// deleteMeta deletes what SetMeta stored, synced.
func (s *Store) deleteMeta(name string) error {
	batch := new(pebble.Batch)
	del(batch, dbKey(kindMeta, name))
	err := s.space.admit(roomToShrink)
	if err == nil {
		err = s.writeNow(batch)
	}
	if err != nil {
		return fmt.Errorf("delete meta %s: %w", name, err)
	}
	return nil
}

// encodeObject gives the record of an object: its version and its value, the
// value of a secret sealed.
func (s *Store) encodeObject(o Object) []byte {
	b := make([]byte, 0, len(o.Version)+len(o.Value)+64)
	b = appendString(b, o.Version)
	if isSecret(o.Key) {
		return s.sealer.seal(b, o.Key, o.Version, o.Value)
	}
	return append(b, o.Value...)
}

// decodeObject copies what it keeps of b.
func (s *Store) decodeObject(key string, b []byte) (Object, error) {
	version, value, err := cutString(b)
	if err == nil && isSecret(key) {
		value, err = s.sealer.unseal(key, version, value)
	}
	if err != nil {
		return Object{}, fmt.Errorf("object %s: %w", key, err)
	}
	return Object{Key: key, Version: version, Value: append([]byte(nil), value...)}, nil
}
