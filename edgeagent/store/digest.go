package store

import (
	"errors"
	"hash/fnv"

	"github.com/cockroachdb/pebble/v2"
)

// digest is the sum, by exclusive or, of a hash over key and version of each
// object. It is written with every change. Checksums tell when a block is not
// what was written; the digest tells when tables are missing altogether, as
// after a manifest that lost its end: Pebble takes that for a torn write, and
// goes on with objects of different times.
type digest uint64

// flip adds an object that is not in the digest, and takes away one that is.
func (d *digest) flip(key, version string) {
	h := fnv.New64a()
	_, _ = h.Write(associated(key, version))
	*d ^= digest(h.Sum64())
}

// replace puts version in the place of what s has for key now.
func (d *digest) replace(s *Store, key string, version *string) error {
	old, err := s.get(dbKey(kindVersion, key))
	switch {
	case err == nil:
		d.flip(key, string(old))
	case !errors.Is(err, ErrNotFound):
		return err
	}
	if version != nil {
		d.flip(key, *version)
	}
	return nil
}

func (d *digest) write(b *pebble.Batch) { setUint(b, nameDigest, uint64(*d)) }
