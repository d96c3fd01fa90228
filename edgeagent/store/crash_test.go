package store

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/store/storetest"
)

var (
	thorough = flag.Bool("thorough", false, "draw four times as many seeds, and leave out no operation")
	oneSeed  = flag.Int64("seed", -1, "run this seed alone")
)

// crashUnit has steps write more than a memtable holds, and one value that is
// larger than half of it.
const crashUnit = 80 << 10

// eachSeed runs f with the first n seeds, or as the flags say.
func eachSeed(t *testing.T, n uint64, f func(t *testing.T, seed uint64)) {
	t.Helper()
	first := uint64(0)
	switch {
	case *oneSeed >= 0:
		first, n = uint64(*oneSeed), 1
	case *thorough:
		n *= 4
	case testing.Short():
		n = 1
	}
	for seed := range n {
		t.Run(fmt.Sprintf("seed=%d", first+seed), func(t *testing.T) {
			t.Parallel()
			f(t, first+seed)
		})
	}
}

// serial has one operation at a time seen by an injector.
type serial struct{ mu sync.Mutex }

func (s *serial) wrap(in errorfs.Injector) errorfs.Injector {
	return errorfs.InjectorFunc(func(op errorfs.Op) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return in.MaybeError(op)
	})
}

// state is all that a store holds, in a form that can be compared.
type state struct {
	Objects  []string
	Messages []string
	LastSeq  uint64
}

func stateOf(t *testing.T, s *Store) state {
	t.Helper()
	var st state
	if err := s.List("", func(o Object) bool {
		st.Objects = append(st.Objects, fmt.Sprintf("%s@%s=%d", o.Key, o.Version, len(o.Value)))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	i := 0
	if err := s.Versions("", func(e Entry) bool {
		if want := e.Key + "@" + e.Version; i >= len(st.Objects) || st.Objects[i][:len(want)] != want {
			t.Errorf("version record %s does not fit objects %v", want, st.Objects)
		}
		i++
		return true
	}); err != nil || i != len(st.Objects) {
		t.Errorf("%d version records, %d objects, %v", i, len(st.Objects), err)
	}
	st.Messages = messages(t, s)
	st.LastSeq = s.Outbox().Stats().LastSeq
	if n := s.Outbox().Stats().Entries; n != len(st.Messages) {
		t.Errorf("outbox counts %d entries and has %d", n, len(st.Messages))
	}
	return st
}

// steps are writes, each of which must be there whole or not at all. Values grow
// by unit: large ones make Pebble begin new logs and tables.
func steps(unit int) []func(*Store) error {
	var list []func(*Store) error
	for i := range 8 {
		list = append(list,
			func(s *Store) error {
				b := Batch{Upserts: []Object{
					{Key: fmt.Sprintf("pods/default/p%d", i), Version: "1", Value: make([]byte, 100)},
					{Key: "pods/default/same", Version: fmt.Sprint(i), Value: make([]byte, 1+i*unit)},
				}}
				if i > 2 {
					b.Deletes = []string{fmt.Sprintf("pods/default/p%d", i-2)}
				}
				return s.Apply(b)
			},
			func(s *Store) error {
				_, err := s.Outbox().PutKeyed(2, fmt.Sprintf("pods/default/p%d", i%3), fmt.Append(nil, i))
				return err
			},
			func(s *Store) error {
				_, err := s.Outbox().Append(4, "event", fmt.Append(nil, i))
				return err
			},
		)
	}
	return list
}

// run opens the store on fs and takes the steps until one fails. It calls
// acked with the number of steps that returned nil.
func run(fs vfs.FS, unit int, acked func(n int)) error {
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		return err
	}
	for i, step := range steps(unit) {
		if err := step(s); err != nil {
			return errors.Join(err, s.Close())
		}
		acked(i + 1)
	}
	return s.Close()
}

// models gives the state before the first step and after each.
func models(t *testing.T, unit int) []state {
	t.Helper()
	s := openTest(t, vfs.NewMem())
	all := []state{stateOf(t, s)}
	for _, step := range steps(unit) {
		if err := step(s); err != nil {
			t.Fatal(err)
		}
		all = append(all, stateOf(t, s))
	}
	return all
}

// TestCrashAtEveryOperation takes the power away before each operation on the
// file system, with any part of what was not synced lost.
func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	models := models(t, crashUnit)
	eachSeed(t, 2, func(t *testing.T, seed uint64) {
		t.Helper()
		crashEverywhere(t, models, seed)
	})
}

func crashEverywhere(t *testing.T, models []state, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	type crash struct {
		fs    *storetest.Disk
		acked int
	}
	var (
		mu      sync.Mutex
		acked   int
		crashes []crash
	)
	fs := storetest.New()
	snap := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		n := acked // before the clone: what returned later need not be in it
		clone := fs.Crash(rng.IntN(101), rng)
		crashes = append(crashes, crash{clone, n})
		return nil
	})
	if err := run(errorfs.Wrap(fs, snap), crashUnit, func(n int) { mu.Lock(); acked = n; mu.Unlock() }); err != nil {
		t.Fatal(err)
	}
	// Starting again writes, too.
	if s, err := Open(Config{Dir: "db", FS: errorfs.Wrap(fs, snap)}); err != nil {
		t.Fatal(err)
	} else if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(crashes) < 50 {
		t.Fatalf("only %d operations on the file system", len(crashes))
	}
	for i, c := range crashes {
		s, err := Open(Config{Dir: "db", FS: c.fs})
		if err != nil {
			t.Fatalf("seed %d, crash %d after %d steps: %v", seed, i, c.acked, err)
		}
		got := stateOf(t, s)
		allowed := models[c.acked:min(c.acked+2, len(models))]
		if !slices.ContainsFunc(allowed, func(m state) bool { return cmp.Equal(m, got) }) {
			t.Errorf("seed %d, crash %d after %d steps: %s", seed, i, c.acked, cmp.Diff(models[c.acked], got))
		}
		if err := s.Close(); err != nil {
			t.Errorf("crash %d: close: %v", i, err)
		}
	}
}

// TestErrorAtEveryOperation fails the i-th write on the file system, for every i.
// The caller gets an error or the write is there; what was acknowledged stays.
// The fault is one that no one waits out, unlike that of a full disk. Values are
// small, since a fault while Pebble begins a new log ends the process.
func TestErrorAtEveryOperation(t *testing.T) {
	t.Parallel()
	models := models(t, 10)
	for i := int32(0); ; i++ {
		if i > 1000 {
			t.Fatal("no run without an injected error")
		}
		var acked int
		fs := storetest.New()
		index := errorfs.OnIndex(i)
		err := run(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			// Removing files that are no longer needed is retried by Pebble at leisure.
			if op.Kind == errorfs.OpRemove {
				return nil
			}
			if index.MaybeError(op) != nil {
				return syscall.EIO
			}
			return nil
		})), 10, func(n int) { acked = n })
		if err == nil && index.Load() >= 0 {
			if acked != len(steps(10)) {
				t.Fatalf("only %d steps without an error", acked)
			}
			t.Logf("%d operations failed in turn", i)
			return
		}
		if err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %d: error does not say what failed: %v", i, err)
		}
		s, err := Open(Config{Dir: "db", FS: fs.Crash(0, nil)})
		if err != nil {
			t.Fatalf("operation %d: reopen: %v", i, err)
		}
		got := stateOf(t, s)
		if allowed := models[acked:min(acked+2, len(models))]; !slices.ContainsFunc(allowed, func(m state) bool { return cmp.Equal(m, got) }) {
			t.Errorf("operation %d after %d steps: %s", i, acked, cmp.Diff(models[acked], got))
		}
		if err := s.Close(); err != nil {
			t.Errorf("operation %d: close: %v", i, err)
		}
	}
}

// TestCrashWhileOpening takes the power away before each operation of two
// starts, many times, since what is lost is drawn at random.
func TestCrashWhileOpening(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	var (
		mu     sync.Mutex
		clones []*storetest.Disk
	)
	fs := storetest.New()
	snap := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			mu.Lock()
			defer mu.Unlock()
			for range 8 {
				clones = append(clones, fs.Crash(50, rng))
			}
		}
		return nil
	})
	for range 2 {
		s, err := Open(Config{Dir: "db", FS: errorfs.Wrap(fs, snap)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i, clone := range clones {
		s, err := Open(Config{Dir: "db", FS: clone})
		if err != nil {
			t.Fatalf("crash before operation %d: %v", i/8, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("crash before operation %d: close: %v", i/8, err)
		}
	}
}

// Pebble handles batches beyond half a memtable in another way, and empties them; their
// sync is waited for all the same.
func TestLargeBatchIsSynced(t *testing.T) {
	t.Parallel()
	fs := storetest.New()
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for i := range 4 {
		if _, err := s.Outbox().Append(1, "large", make([]byte, 600<<10)); err != nil {
			t.Fatal(err)
		}
		if n := len(entries(t, s.Outbox().Next)); n != i+1 {
			t.Errorf("%d messages can be read of %d", n, i+1)
		}
		if err := s.Apply(pod(i, 700<<10)); err != nil {
			t.Fatal(err)
		}
		after, err := Open(Config{Dir: "db", FS: fs.Crash(0, nil)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := after.Get(pod(i, 0).Upserts[0].Key); err != nil {
			t.Errorf("what was acknowledged was lost with the power: %v", err)
		}
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	}
}
