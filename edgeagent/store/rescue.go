package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/wal"
)

const (
	// rescueSeqGap keeps the new store's seqs behind those that the old one may have
	// given out and that can't be read.
	rescueSeqGap = 1 << 20
	// rescueBatch is where a batch of entries is written.
	rescueBatch = 256 << 10
	// rescueSteps bounds the search for the end of a block that can't be read; an
	// entry takes ten bytes at least, a block 4 KiB.
	rescueSteps = 1024
)

// rescuer reads the outbox out of a database that does not open, file by file.
//
// A seq is given out once, so an entry is written once and deleted at most once:
// an entry that some file has and that no file deletes has not been delivered, in
// whatever order the files are read. Blocks with a wrong checksum are passed over;
// when they held deletions, some entries are sent twice, as after power loss.
type rescuer struct {
	cfg     Config
	opts    *pebble.Options
	deleted map[uint64]struct{}
	seq     uint64            // highest that was seen
	format  uint64            // likewise
	facts   map[string][]byte // counters and the age clock
}

// visit is called with the records of a file, in its order.
type visit func(deleted bool, key, value []byte)

// rescue makes a database in dir with what is left of the outbox of that in
// cfg.Dir. It returns how many entries that are.
func rescue(cfg Config, dir string) (n int, err error) {
	r := &rescuer{
		cfg: cfg, opts: options(cfg.FS, cfg.Log, nil),
		deleted: make(map[uint64]struct{}), facts: make(map[string][]byte),
	}
	r.opts.EnsureDefaults()
	if err := r.scan(r.note); err != nil {
		return 0, err
	}
	if r.format > format { // what a newer agent wrote, that one carries over
		return 0, &FormatError{Have: r.format, Want: format}
	}
	next := cfg
	next.Dir = dir
	if err := cfg.FS.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	db, err := openDB(next, false)
	if err != nil {
		return 0, err
	}
	defer func() {
		_, cerr := closeDB(db)
		err = errors.Join(err, cerr)
	}()
	if n, err = r.copyTo(db); err != nil {
		return 0, err
	}
	b := new(pebble.Batch)
	setUint(b, nameFormat, format)
	setUint(b, nameSeq, r.seq+rescueSeqGap)
	for name, value := range r.facts {
		set(b, dbKey(kindInternal, name), value)
	}
	return n, db.Apply(b, pebble.Sync)
}

// note is the first pass: what is deleted, and which seqs were given out.
func (r *rescuer) note(deleted bool, key, value []byte) {
	switch {
	case key[0] == kindOutbox && len(key) == 9:
		seq := binary.BigEndian.Uint64(key[1:])
		r.seq = max(r.seq, seq)
		if deleted {
			r.deleted[seq] = struct{}{}
		}
	case key[0] != kindInternal || deleted:
	case string(key[1:]) == nameFormat && len(value) == 8:
		r.format = max(r.format, binary.BigEndian.Uint64(value))
	case string(key[1:]) == nameSeq && len(value) == 8:
		r.seq = max(r.seq, binary.BigEndian.Uint64(value))
	case strings.HasPrefix(string(key[1:]), nameDrop) || string(key[1:]) == nameClock:
		// They only rise, and begin with what rises.
		if name := string(key[1:]); slices.Compare(value, r.facts[name]) > 0 {
			r.facts[name] = slices.Clone(value)
		}
	}
}

// copyTo is the second pass.
func (r *rescuer) copyTo(db *pebble.DB) (n int, err error) {
	b := new(pebble.Batch)
	flush := func() {
		if err == nil {
			err = db.Apply(b, pebble.NoSync)
		}
		b = new(pebble.Batch)
	}
	newest := make(map[string]uint64)
	scanErr := r.scan(func(deleted bool, key, value []byte) {
		if deleted || key[0] != kindOutbox {
			return
		}
		m, derr := decodeMessage(key, value)
		if derr != nil {
			return
		}
		if _, gone := r.deleted[m.Seq]; gone {
			return
		}
		r.deleted[m.Seq] = struct{}{} // a log and a table may both have it
		if value[0] == laneKeyed {
			index := string(indexKey(m.Subject, m.Key))
			before, ok := newest[index]
			if before > m.Seq {
				return
			}
			if newest[index] = m.Seq; ok {
				del(b, outboxKey(before))
				n--
			}
			set(b, []byte(index), binary.BigEndian.AppendUint64(nil, m.Seq))
		}
		set(b, key, value)
		if n++; b.Len() > rescueBatch {
			flush()
		}
	})
	flush()
	return n, errors.Join(scanErr, err)
}

// scan calls fn for all records of the outbox and of the store itself that can be
// read.
func (r *rescuer) scan(fn visit) error {
	names, err := r.cfg.FS.List(r.cfg.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := r.cfg.FS.PathJoin(r.cfg.Dir, name)
		switch {
		case strings.HasSuffix(name, ".sst"):
			err = r.guard(func() error { return r.scanTable(path, fn) })
		case strings.HasSuffix(name, ".log"):
			err = r.guard(func() error { return r.scanLog(path, fn) })
		default:
			continue
		}
		if err != nil {
			r.cfg.Log.Warn("file of the damaged store can't be read to its end", "file", name, "error", err)
		}
	}
	return nil
}

// guard turns what damaged bytes make Pebble do into an error.
func (r *rescuer) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

func (r *rescuer) scanTable(path string, fn visit) error {
	f, err := r.cfg.FS.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t, err := sstable.NewReader(context.Background(), readable, r.opts.MakeReaderOptions()) //nolint:forbidigo // opening is not interrupted
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	defer t.Close() //nolint:errcheck // it was only read
	var failed error
	for _, kind := range []byte{kindInternal, kindOutbox} {
		next := []byte{kind}
		for steps := 0; next != nil && steps < rescueSteps; steps++ {
			last, err := r.scanRange(t, next, []byte{kind + 1}, fn)
			if err == nil {
				break
			}
			failed = err
			if last != nil {
				next, steps = last, 0
			}
			next = after(next)
		}
	}
	return failed
}

// scanRange reads a table until its first block that can't be read. It returns the
// last key before that.
func (r *rescuer) scanRange(t *sstable.Reader, lower, upper []byte, fn visit) (last []byte, err error) {
	it, err := t.NewIter(sstable.NoTransforms, lower, upper, sstable.AssertNoBlobHandles)
	if err != nil {
		return nil, err
	}
	defer it.Close() //nolint:errcheck // Error has told
	for kv := it.SeekGE(lower, 0); kv != nil; kv = it.Next() {
		value, _, err := kv.Value(nil)
		if err != nil {
			return last, err
		}
		last = slices.Clone(kv.K.UserKey)
		r.record(kv.Kind(), kv.K.UserKey, value, fn)
	}
	return last, it.Error()
}

// after gives the key of the outbox that follows, nil when there is none.
func after(key []byte) []byte {
	if key[0] != kindOutbox {
		return nil
	}
	if len(key) < 9 {
		return outboxKey(1)
	}
	return outboxKey(binary.BigEndian.Uint64(key[1:9]) + 1)
}

func (r *rescuer) scanLog(path string, fn visit) (err error) {
	var files wal.FileAccumulator
	if ok, err := files.MaybeAccumulate(r.cfg.FS, path); err != nil || !ok {
		return err
	}
	log := files.Finish()[0].OpenForRead()
	defer func() { err = errors.Join(err, log.Close()) }()
	for {
		rec, _, err := log.NextRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		repr, err := io.ReadAll(rec)
		if err != nil {
			return err
		}
		for batch := batchrepr.Read(repr); ; {
			kind, key, value, ok, err := batch.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			r.record(kind, key, value, fn)
		}
	}
}

func (r *rescuer) record(kind pebble.InternalKeyKind, key, value []byte, fn visit) {
	if len(key) == 0 {
		return
	}
	switch kind {
	case pebble.InternalKeyKindSet, sstable.InternalKeyKindSetWithDelete:
		fn(false, key, value)
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, sstable.InternalKeyKindDeleteSized:
		fn(true, key, nil)
	default:
	}
}
