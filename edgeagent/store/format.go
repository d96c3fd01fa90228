package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// format is raised when records change in a way that older agents can't read. 2
// seals the values of secrets, and gives entries of the outbox a time.
const format = 2

// prepare brings what is in the database to the form that this agent writes, and
// reads all of it once: damage is found at the start and not when a pod needs the
// record.
func (s *Store) prepare(readOnly bool) error {
	have, err := s.readFormat()
	if err != nil {
		return err
	}
	if s.sealer == nil {
		key, err := s.cfg.Key.Key()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrKey, classify(err))
		}
		if s.sealer, err = newSealer(key); err != nil {
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
	}
	switch {
	case have == 0 && !readOnly:
		b := new(pebble.Batch)
		setUint(b, nameFormat, format)
		err = s.writeNow(b)
	case have == 1 && readOnly:
		err = fmt.Errorf("%w: the store is of a former version and has to be rewritten", ErrDiskFull)
	case have == 1:
		err = s.migrate()
	}
	if err != nil {
		return err
	}
	lost, sum, err := s.verify()
	if err != nil {
		return err
	}
	want, err := s.uint(nameDigest)
	if err == nil && digest(want) != sum {
		err = fmt.Errorf("%w: objects are of different times", ErrCorrupt)
	}
	if err != nil || readOnly {
		return err
	}
	s.digest = sum
	if err := s.setAside(lost); err != nil {
		return err
	}
	if err := s.giveBack(); err != nil {
		return err
	}
	return s.scrub()
}

// readFormat gives 0 for a new store.
func (s *Store) readFormat() (uint64, error) {
	have, err := s.uint(nameFormat)
	if err == nil && have > format {
		err = &FormatError{Have: have, Want: format}
	}
	return have, err
}

// migrate seals the secrets of a store of format 1, in one batch.
func (s *Store) migrate() error {
	b := new(pebble.Batch)
	n := 0
	for _, prefix := range secretPrefixes() {
		var failed error
		err := s.scan(dbKey(kindObject, prefix), func(k, v []byte) bool {
			o := Object{Key: string(k[1:])}
			if o.Version, o.Value, failed = cutString(v); failed != nil {
				return false
			}
			set(b, k, s.encodeObject(o))
			n++
			return true
		})
		if err := errors.Join(failed, err); err != nil {
			return fmt.Errorf("migrate from format 1: %w", err)
		}
	}
	var sum digest
	if err := s.Versions("", func(e Entry) bool { sum.flip(e.Key, e.Version); return true }); err != nil {
		return fmt.Errorf("migrate from format 1: %w", err)
	}
	sum.write(b)
	setUint(b, nameFormat, format)
	setUint(b, nameScrub, 1)
	if err := s.writeNow(b); err != nil {
		return fmt.Errorf("migrate from format 1: %w", err)
	}
	s.log.Info("store migrated: secrets are sealed now", "from_format", 1, "to_format", format, "sealed", n)
	return nil
}

// scrub removes from the database's files what the migration has left there of
// secrets in the clear. After a crash it is done anew.
func (s *Store) scrub() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = s.breakDown(r)
		}
	}()
	if n, err := s.uint(nameScrub); err != nil || n == 0 {
		return err
	}
	db := s.db.Load()
	if err := db.Flush(); err != nil {
		return fmt.Errorf("scrub: %w", classify(err))
	}
	// Everything: blocks are shared, and the tables' properties name bounds.
	err = db.Compact(context.Background(), []byte{0}, []byte{0xff}, false) //nolint:forbidigo // opening is not interrupted
	if err != nil {
		return fmt.Errorf("scrub: %w", classify(err))
	}
	b := new(pebble.Batch)
	del(b, dbKey(kindInternal, nameScrub))
	return s.writeNow(b)
}

// verify reads every record. It gives the keys of sealed objects that can't be
// opened, and the digest; anything else that is wrong is ErrCorrupt.
func (s *Store) verify() (lost []string, sum digest, err error) {
	db, done := s.view()
	defer done()
	versions, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindVersion}, UpperBound: []byte{kindVersion + 1}})
	if err != nil {
		return nil, 0, classify(err)
	}
	ok := versions.First()
	var failed error
	err = s.scan([]byte{kindObject}, func(k, v []byte) bool {
		key := string(k[1:])
		version, value, err := cutString(v)
		switch {
		case err != nil:
		case !ok || !bytes.Equal(versions.Key()[1:], k[1:]) || string(versions.Value()) != version:
			err = fmt.Errorf("two versions of one object: %w", ErrCorrupt)
		case isSecret(key):
			if _, err := s.sealer.unseal(key, version, value); err != nil {
				lost = append(lost, key)
			}
		}
		if err != nil {
			failed = fmt.Errorf("object %s: %w", key, err)
			return false
		}
		sum.flip(key, version)
		ok = versions.Next()
		return true
	})
	if failed == nil && err == nil && ok {
		failed = fmt.Errorf("version without object: %w", ErrCorrupt)
	}
	err = errors.Join(failed, err, classify(versions.Close()))
	for _, kind := range []byte{kindInternal, kindMeta, kindIndex, kindOutbox, kindAside, kindPrivate} {
		if err == nil {
			err = s.scan([]byte{kind}, func(_, _ []byte) bool { return true })
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("verify: %w", classify(err))
	}
	return lost, sum, nil
}

// setAside moves secrets that were sealed with another key out of the way, so
// that the edge says that it does not hold them and the cloud sends them again.
// They come back if their key does. One that is damaged is deleted.
func (s *Store) setAside(keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	b := new(pebble.Batch)
	damaged := 0
	for _, key := range keys {
		record, err := s.get(dbKey(kindObject, key))
		if err != nil {
			return err
		}
		if _, err := s.decodeObject(key, record); errors.Is(err, errOtherKey) {
			set(b, dbKey(kindAside, key), record)
		} else {
			damaged++
		}
		if err := s.digest.replace(s, key, nil); err != nil {
			return err
		}
		del(b, dbKey(kindVersion, key))
		del(b, dbKey(kindObject, key))
	}
	s.digest.write(b)
	if err := s.writeNow(b); err != nil {
		return fmt.Errorf("set secrets aside: %w", err)
	}
	s.log.Error("secrets can't be opened with this node's key: set aside until the cloud sends them again, or the key that sealed them is put back and the agent restarted",
		"other_key", len(keys)-damaged, "damaged", damaged)
	return nil
}

// giveBack undoes setAside for what this key opens and nothing newer replaced.
func (s *Store) giveBack() error {
	b := new(pebble.Batch)
	n := 0
	var failed error
	err := s.scan([]byte{kindAside}, func(k, v []byte) bool {
		key := string(k[1:])
		o, err := s.decodeObject(key, v)
		if err != nil {
			return true // sealed with yet another key
		}
		_, err = s.get(dbKey(kindObject, key))
		switch {
		case errors.Is(err, ErrNotFound):
			set(b, dbKey(kindVersion, key), []byte(o.Version))
			set(b, dbKey(kindObject, key), v)
			s.digest.flip(key, o.Version)
			n++
		case err != nil:
			failed = err
			return false
		}
		del(b, k)
		return true
	})
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	if b.Empty() {
		return nil
	}
	s.digest.write(b)
	s.log.Info("secrets that were set aside can be opened again", "secrets", n)
	return s.writeNow(b)
}
