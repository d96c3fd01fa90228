package store

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
)

// faults decides what becomes of each operation that writes.
type faults struct {
	mu sync.Mutex // guards the following field
	f  func(op errorfs.Op) error
}

func (f *faults) set(fn func(op errorfs.Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.f = fn
}

// on gives disk with these faults. f.f may block, so it runs without the lock.
func (f *faults) on(disk vfs.FS) vfs.FS {
	return errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		f.mu.Lock()
		fn := f.f
		f.mu.Unlock()
		if fn == nil {
			return nil
		}
		return fn(op)
	}))
}

// within runs f, and tells when it takes longer than it may.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s takes longer than %v", what, limit)
	}
}

func newLog(op errorfs.Op) bool {
	return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
}

// eventually waits for a thing in real time, for as long as that takes: while
// Pebble opens it holds a mutex, which stops virtual time.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for !f() {
		<-time.After(50 * time.Millisecond)
	}
}

// TestOpeningWaits has a disk without inodes, or at its quota, from the i-th
// operation of a start on, for every i: there are free bytes, and yet nothing can
// be made. What waits for room is let alone: nothing is set aside, no second
// database is opened, and when there is room the store is what it was.
func TestOpeningWaits(t *testing.T) {
	t.Parallel()
	for what, fresh := range map[string]bool{"first start": true, "restart": false} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			n := openingWaits(t, fresh, math.MaxInt)
			if n < 10 {
				t.Fatalf("a start has only %d operations that need room", n)
			}
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { openingWaits(t, fresh, i) })
			}
			wg.Wait()
		})
	}
}

// openingWaits gives the number of operations that need room.
func openingWaits(t *testing.T, fresh bool, i int) (n int) {
	t.Helper()
	what := fmt.Sprintf("full from operation %d on", i)
	disk := newQuotaFS(testDisk)
	var want state
	if !fresh {
		s := openQuota(t, disk)
		for _, step := range steps(10) {
			if err := step(s); err != nil {
				t.Fatal(err)
			}
		}
		want = stateOf(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var f faults
	var mu sync.Mutex
	f.set(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpRemove, errorfs.OpFileSync, errorfs.OpFileClose:
			return nil
		default:
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; n > i {
			return syscall.ENOSPC
		}
		return nil
	})
	fs := f.on(disk)
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil && (errors.Is(err, ErrCorrupt) || !errors.Is(err, ErrDiskFull)) {
		t.Errorf("%s: Open: %v", what, err)
	}
	if s != nil {
		if got := stateOf(t, s); !fresh && !cmp.Equal(got, want) {
			t.Errorf("%s: %s", what, cmp.Diff(want, got))
		}
		if _, err := Open(Config{Dir: "db", FS: disk}); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: second Open: %v, want ErrLocked", what, err)
		}
	}
	f.set(nil)
	if s != nil {
		eventually(t, func() bool { return s.Apply(Batch{Deletes: []string{"pods/none"}}) == nil })
		if err := s.Close(); err != nil && !errors.Is(err, errHangs) { // on a machine that is busy
			t.Errorf("%s: Close: %v", what, err)
		}
	}
	// What was left to itself ends when there is room.
	var again *Store
	eventually(t, func() bool {
		if again, err = Open(Config{Dir: "db", FS: disk}); err != nil && !errors.Is(err, ErrLocked) {
			t.Fatalf("%s: Open with room again: %v", what, err)
		}
		return err == nil
	})
	if got := stateOf(t, again); !cmp.Equal(got, want) {
		t.Errorf("%s, opened again: %s", what, cmp.Diff(want, got))
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	noneAside(t, disk, what)
	return n
}

func noneAside(t *testing.T, disk vfs.FS, what string) {
	t.Helper()
	list, err := disk.List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if strings.Contains(name, "damaged") || strings.HasSuffix(name, ".new") {
			t.Errorf("%s: %s is there", what, name)
		}
	}
}

// TestStuckWrite has Pebble wait for room inside a write, on a disk that reports
// free bytes. Everything else goes on, or says so soon.
func TestStuckWrite(t *testing.T) {
	t.Parallel()
	for _, closing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { stuckWrite(t, closing) })
	}
}

func stuckWrite(t *testing.T, closing bool) {
	t.Helper()
	disk := newQuotaFS(testDisk)
	var f faults
	s, err := Open(Config{Dir: "db", FS: f.on(disk)})
	if err != nil {
		t.Fatal(err)
	}
	seq, err := s.Outbox().PutKeyed(2, "p", []byte("status"))
	if err != nil {
		t.Fatal(err)
	}
	f.set(func(op errorfs.Op) error {
		if newLog(op) {
			return syscall.ENOSPC
		}
		return nil
	})
	const soon = 5 * time.Second
	for i := 0; err == nil; i++ {
		within(t, soon, "Apply", func() { err = s.Apply(pod(i, 400<<10)) })
	}
	if !errors.Is(err, ErrDiskFull) {
		t.Fatalf("Apply: %v, want ErrDiskFull", err)
	}
	o := s.Outbox()
	within(t, soon, "Err", func() { err = s.Err() })
	if err != nil {
		t.Errorf("store failed: %v", err)
	}
	for what, write := range map[string]func() error{
		"Apply":    func() error { return s.Apply(pod(0, 1)) },
		"PutKeyed": func() error { _, err := o.PutKeyed(2, "q", nil); return err },
		"Append":   func() error { _, err := o.Append(2, "q", nil); return err },
		"SetMeta":  func() error { return s.SetMeta("m", nil) },
	} {
		within(t, soon, what, func() { err = write() })
		if !errors.Is(err, ErrDiskFull) {
			t.Errorf("%s: %v, want ErrDiskFull", what, err)
		}
	}
	within(t, soon, "Stats", func() {
		if st := o.Stats(); st.Entries != 1 || st.Dropped != 1 {
			t.Errorf("Stats = %+v, want one entry, and one that was not taken", st)
		}
	})
	within(t, soon, "Drops", func() { o.Drops() })
	within(t, soon, "messages", func() {
		if got := messages(t, s); len(got) != 1 {
			t.Errorf("outbox: %v", got)
		}
	})
	within(t, soon, "Trim", func() { err = o.Trim(seq) })
	if err != nil {
		t.Errorf("Trim: %v, want it remembered", err)
	}
	within(t, soon, "messages", func() {
		if got := messages(t, s); len(got) != 0 {
			t.Errorf("outbox after Trim: %v", got)
		}
	})
	if closing {
		within(t, soon, "Close", func() { err = s.Close() })
		if !errors.Is(err, ErrDiskFull) {
			t.Errorf("Close while a write waits: %v, want ErrDiskFull", err)
		}
		if _, err := Open(Config{Dir: "db", FS: disk}); !errors.Is(err, ErrLocked) {
			t.Errorf("Open while the former store waits for room: %v, want ErrLocked", err)
		}
	}
	f.set(nil)
	time.Sleep(10 * time.Second) //nolint:forbidigo // virtual
	if !closing {
		if err := s.Apply(pod(99, 10)); err != nil {
			t.Errorf("Apply with room again: %v", err)
		}
		if st := o.Stats(); st.Entries != 0 || st.Dropped != 1 {
			t.Errorf("Stats = %+v, want nothing that was trimmed", st)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	// With room what was left to itself has ended, and the lock is free.
	s = openQuota(t, disk)
	if _, err := s.Get(pod(0, 1).Upserts[0].Key); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCloseIsBounded has the disk hang, or answer with an error, from the i-th
// operation of some writes on: Close comes back.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]bool{"hangs": true, "errors": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := 0; ; i++ {
				if i > 1000 {
					t.Fatal("no run without a fault")
				}
				reached := false
				synctest.Test(t, func(t *testing.T) { reached = closeOnDeadDisk(t, hang, i) })
				if !reached {
					t.Logf("%d operations", i)
					return
				}
			}
		})
	}
}

func closeOnDeadDisk(t *testing.T, hang bool, i int) (reached bool) {
	t.Helper()
	disk := vfs.NewMem()
	var f faults
	s, err := Open(Config{Dir: "db", FS: f.on(disk)})
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	var mu sync.Mutex
	n := 0
	f.set(func(errorfs.Op) error {
		mu.Lock()
		n++
		mine := n > i
		reached = reached || mine
		mu.Unlock()
		switch {
		case !mine:
		case hang:
			<-release
		default:
			return syscall.EIO
		}
		return nil
	})
	done := make(chan struct{})
	go func() { // small values: a fault in the background ends the process
		defer close(done)
		for _, step := range steps(10) {
			if step(s) != nil {
				return
			}
		}
		_ = s.Outbox().Trim(1, 2, 3)
	}()
	time.Sleep(time.Minute) //nolint:forbidigo // virtual
	within(t, time.Second, "Err", func() { _ = s.Err() })
	within(t, time.Second, "Stats", func() { s.Outbox().Stats() })
	within(t, 2*closeGrace, "Close", func() { err = s.Close() })
	told := err != nil || !errors.Is(s.Err(), ErrClosed)
	within(t, time.Second, "Close once more", func() { _ = s.Close() })
	f.set(nil)
	close(release)
	<-done
	time.Sleep(time.Minute) //nolint:forbidigo // virtual
	mu.Lock()
	defer mu.Unlock()
	if reached && !told {
		t.Errorf("dead from operation %d on: nobody was told", i)
	}
	return reached
}

// TestDamageOnFullDisk finds damage on a disk that takes nothing: it is told at
// once, and the mark is made as soon as there is room for it.
func TestDamageOnFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newQuotaFS(testDisk)
		var f faults
		s, err := Open(Config{Dir: "db", FS: f.on(disk)})
		if err != nil {
			t.Fatal(err)
		}
		f.set(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpCreate {
				return syscall.ENOSPC
			}
			return nil
		})
		within(t, time.Millisecond, "seen", func() { _ = s.seen(fmt.Errorf("block 7: %w", ErrCorrupt)) })
		within(t, time.Millisecond, "Failed", func() { <-s.Failed() })
		within(t, time.Millisecond, "Err", func() { err = s.Err() })
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("Err = %v", err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		f.set(nil)
		time.Sleep(time.Second) //nolint:forbidigo // virtual
		within(t, time.Minute, "Close", func() { err = s.Close() })
		if err != nil {
			t.Fatal(err)
		}
		if !disk.exists("db/" + damagedName) {
			t.Error("the directory is not marked as damaged")
		}
	})
}

// TestReclaimPanic has Pebble panic while deleted objects give back their room:
// the store fails, since Pebble's locks may be held for good. It leaves a database
// behind, so it can't run in virtual time.
func TestReclaimPanic(t *testing.T) {
	t.Parallel()
	disk := newQuotaFS(testDisk)
	var f faults
	s, err := Open(Config{Dir: "db", FS: f.on(disk)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(pod(1, 1000)); err != nil {
		t.Fatal(err)
	}
	disk.leave(6 << 20)
	if err := s.Apply(pod(2, 1000)); !errors.Is(err, ErrDiskFull) {
		t.Fatal(err)
	}
	f.set(func(op errorfs.Op) error {
		if newLog(op) {
			return syscall.EIO
		}
		return nil
	})
	if err := s.Apply(Batch{Deletes: []string{pod(1, 0).Upserts[0].Key}}); err != nil {
		t.Fatal(err)
	}
	<-s.Failed()
	if err := s.Err(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Err = %v", err)
	}
	if s.Apply(Batch{Deletes: []string{"pods/x"}}) == nil {
		t.Error("a store whose Pebble has panicked takes writes")
	}
	_ = s.Close()
	// Whatever Pebble still does, it does alone.
	if _, err := Open(Config{Dir: "db", FS: disk}); !errors.Is(err, ErrLocked) {
		t.Errorf("Open beside a database that panicked: %v, want ErrLocked", err)
	}
}

// TestReadWhileOpened reads a store that could only be read, while the database
// that writes has been opened beside it and has removed tables.
func TestReadWhileOpened(t *testing.T) {
	t.Parallel()
	disk := newQuotaFS(testDisk)
	s := openQuota(t, disk)
	if err := s.Apply(pod(0, 10)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// More tables than Pebble holds open, all of which it wants to rewrite.
	const tables = 80
	manyTables(t, disk, tables)
	if err := disk.Remove("db.reserve"); err != nil {
		t.Fatal(err)
	}
	disk.leave(0)
	var f faults
	s, err := Open(Config{Dir: "db", FS: f.on(disk)})
	if err != nil {
		t.Fatal(err)
	}
	opening := make(chan struct{})
	var once sync.Once
	f.set(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "dbtmp") { // the last file of a start
			once.Do(func() { close(opening) })
			return syscall.EDQUOT
		}
		return nil
	})
	disk.leave(100 << 20)
	<-opening
	<-time.After(2 * stuckGrace) // until it is left to itself
	f.set(nil)
	// The one that writes is open for up to two seconds before the store takes it.
	eventually(t, func() bool {
		n := 0
		if err := s.List("", func(Object) bool { n++; return true }); err != nil || n != tables+1 {
			t.Fatalf("%d objects, %v", n, err)
		}
		return s.Apply(Batch{Deletes: []string{"pods/none"}}) == nil
	})
	if s.Err() != nil {
		t.Errorf("store failed: %v", s.Err())
	}
	if err := s.Close(); err != nil && !errors.Is(err, errHangs) {
		t.Fatal(err)
	}
}

// manyTables adds n objects to a store that is closed, each in a table of its own.
func manyTables(t *testing.T, disk vfs.FS, n int) {
	t.Helper()
	cfg, err := Config{Dir: "db", FS: disk}.fill()
	if err != nil {
		t.Fatal(err)
	}
	opts := options(disk, cfg.Log, nil)
	opts.DisableAutomaticCompactions = true
	db, err := pebble.Open("db", opts)
	if err != nil {
		t.Fatal(err)
	}
	st := &Store{cfg: cfg, log: cfg.Log}
	st.db.Store(db)
	v, err := st.uint(nameDigest)
	if err != nil {
		t.Fatal(err)
	}
	sum := digest(v)
	for i := range n {
		b := new(pebble.Batch)
		key := fmt.Sprintf("pods/many/p%04d", i)
		set(b, dbKey(kindVersion, key), []byte("v"))
		set(b, dbKey(kindObject, key), append(appendString(nil, "v"), "value"...))
		sum.flip(key, "v")
		sum.write(b)
		if err := errors.Join(db.Apply(b, pebble.Sync), db.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
