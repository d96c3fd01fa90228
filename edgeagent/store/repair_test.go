package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/store/storetest"
)

// damagedBase gives a disk with a store whose records are in tables of two
// levels and in the log, and the states that its writes went through.
func damagedBase(t *testing.T, disk vfs.FS) []state {
	t.Helper()
	s := openTest(t, disk)
	states := []state{stateOf(t, s)}
	for i, step := range steps(2 << 10) {
		if err := step(s); err != nil {
			t.Fatal(err)
		}
		states = append(states, stateOf(t, s))
		switch i {
		case 8, 16:
			if err := s.db.Load().Flush(); err != nil {
				t.Fatal(err)
			}
		case 12:
			if err := s.db.Load().Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.SetMeta("desired-synced", []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return states
}

// copyDisk copies the files of a store.
func copyDisk(t *testing.T, from *vfs.MemFS) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	if err := to.MkdirAll("db", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range files(t, from, "db") {
		writeFile(t, to, name, b)
	}
	writeFile(t, to, "db.key", files(t, from, "")["db.key"])
	return to
}

func writeFile(t *testing.T, disk vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := disk.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, strings.NewReader(string(b))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// outcome counts how a damaged store was opened.
type outcome struct{ whole, earlier, repaired int }

// checkDamaged opens a damaged store. Either it is what some prefix of the writes
// made it, or it is a new one that knows that it lacks the objects, with no entry
// in the outbox that was never there.
func checkDamaged(t *testing.T, disk *vfs.MemFS, states []state, what string, out *outcome) {
	t.Helper()
	s, err := Open(Config{Dir: "db", FS: disk})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got := stateOf(t, s)
	_, err = s.Meta("desired-synced")
	list, lerr := disk.List("")
	if lerr != nil {
		t.Fatal(lerr)
	}
	aside := slices.ContainsFunc(list, func(n string) bool { return strings.HasPrefix(n, "db.damaged-") })
	last := states[len(states)-1]
	switch {
	case aside:
		out.repaired++
		if !errors.Is(err, ErrNotFound) || len(got.Objects) > 0 {
			t.Errorf("%s: set aside, and the new store has objects or says that it is complete: %v, %v", what, got.Objects, err)
		}
		for _, m := range got.Messages {
			if !slices.ContainsFunc(states, func(st state) bool { return slices.Contains(st.Messages, m) }) {
				t.Errorf("%s: message %q was never there", what, m)
			}
		}
		if got.LastSeq < last.LastSeq && len(got.Messages) > 0 {
			t.Errorf("%s: seqs go back from %d to %d", what, last.LastSeq, got.LastSeq)
		}
	case cmp.Equal(got, last):
		out.whole++
	case slices.ContainsFunc(states, func(st state) bool { return cmp.Equal(st, got) }):
		out.earlier++
	default:
		t.Errorf("%s: the store is in a state that it never was in: %s", what, cmp.Diff(last, got))
	}
	if _, err := s.Outbox().Append(4, "after", nil); err != nil {
		t.Errorf("%s: Append: %v", what, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("%s: close: %v", what, err)
	}
}

// TestDamage flips bits in, cuts and removes the files of a store.
func TestDamage(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	states := damagedBase(t, base)
	all := files(t, base, "db")
	flips := 24
	switch {
	case *thorough:
		flips = 200
	case testing.Short():
		flips = 8
	}
	for name, b := range all {
		if strings.HasSuffix(name, "/LOCK") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(8, uint64(len(name))))
			var out outcome
			for range min(flips, len(b)) {
				at := rng.IntN(len(b))
				bad := slices.Clone(b)
				bad[at] ^= 1 << rng.IntN(8)
				disk := copyDisk(t, base)
				writeFile(t, disk, name, bad)
				checkDamaged(t, disk, states, fmt.Sprintf("byte %d of %d flipped", at, len(b)), &out)
			}
			for range min(flips, len(b)) / 4 {
				cut := rng.IntN(len(b))
				disk := copyDisk(t, base)
				writeFile(t, disk, name, b[:cut])
				checkDamaged(t, disk, states, fmt.Sprintf("cut at %d of %d", cut, len(b)), &out)
			}
			disk := copyDisk(t, base)
			if err := disk.Remove(name); err != nil {
				t.Fatal(err)
			}
			checkDamaged(t, disk, states, "removed", &out)
			t.Logf("%d bytes: %d whole, %d of an earlier moment, %d repaired", len(b), out.whole, out.earlier, out.repaired)
		})
	}
}

// loseManifest cuts the manifest, so that the next start repairs the store.
func loseManifest(t *testing.T, disk vfs.FS) {
	t.Helper()
	for name, b := range files(t, disk, "db") {
		if strings.Contains(name, "/MANIFEST") {
			writeFile(t, disk, name, b[:len(b)/2])
		}
	}
	if err := syncDir(disk, "db"); err != nil {
		t.Fatal(err)
	}
}

// TestCrashDuringRepair takes the power away before each operation of a repair:
// the next start ends it, or begins it anew, and no report is lost.
func TestCrashDuringRepair(t *testing.T) {
	t.Parallel()
	disk := storetest.New()
	states := damagedBase(t, disk)
	want := states[len(states)-1].Messages
	loseManifest(t, disk)
	rng := rand.New(rand.NewPCG(21, 22))
	var f faults
	var clones []*storetest.Disk
	var one sync.Mutex
	f.set(func(errorfs.Op) error {
		one.Lock()
		defer one.Unlock()
		for _, percent := range []int{0, 50} {
			clones = append(clones, disk.Crash(percent, rng))
		}
		return nil
	})
	s, err := Open(Config{Dir: "db", FS: f.on(disk)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(clones) < 60 {
		t.Fatalf("only %d operations", len(clones)/2)
	}
	for i, clone := range clones {
		s, err := Open(Config{Dir: "db", FS: clone})
		if err != nil {
			t.Fatalf("crash before operation %d: %v", i/2, err)
		}
		if got := messages(t, s); !cmp.Equal(got, want) {
			t.Errorf("crash before operation %d: %s", i/2, cmp.Diff(want, got))
		}
		if got := s.Outbox().Stats().LastSeq; got < rescueSeqGap {
			t.Errorf("crash before operation %d: seqs go on at %d, which may have been given out", i/2, got)
		}
		if err := s.Close(); err != nil {
			t.Errorf("crash before operation %d: close: %v", i/2, err)
		}
	}
}

// TestRepairIsAlone starts a second agent at each operation of a repair.
func TestRepairIsAlone(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	states := damagedBase(t, disk)
	loseManifest(t, disk)
	var f faults
	f.set(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpLock {
			return nil // it has not begun
		}
		if second, err := Open(Config{Dir: "db", FS: disk}); !errors.Is(err, ErrLocked) {
			t.Errorf("second Open before %v of %s: %v, want ErrLocked", op.Kind, op.Path, err)
			if err == nil {
				_ = second.Close()
			}
		}
		return nil
	})
	s, err := Open(Config{Dir: "db", FS: f.on(disk)})
	f.set(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := messages(t, s), states[len(states)-1].Messages; !cmp.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLaterVersions has an agent that was rolled back find what a newer one wrote,
// whole or damaged: it says so, and sets nothing aside, since it can't carry over
// what it does not understand.
func TestLaterVersions(t *testing.T) {
	t.Parallel()
	newer := func(t *testing.T, disk vfs.FS) {
		t.Helper()
		s := openTest(t, disk)
		b := new(pebble.Batch)
		setUint(b, nameFormat, format+1)
		if err := errors.Join(s.writeNow(b), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(disk *vfs.MemFS) error{
		"format": func(*vfs.MemFS) error { return nil },
		"format, damaged": func(disk *vfs.MemFS) error {
			loseManifest(t, disk)
			return nil
		},
		"format, marked as damaged": func(disk *vfs.MemFS) error { return mark(disk, "db") },
		"Pebble": func(disk *vfs.MemFS) error {
			for name := range files(t, disk, "db") {
				if strings.Contains(name, "marker.format-version.") {
					return disk.Rename(name, "db/marker.format-version.000099.999")
				}
			}
			return errors.New("no marker")
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			damagedBase(t, disk)
			if strings.HasPrefix(name, "format") {
				newer(t, disk)
			}
			if err := change(disk); err != nil {
				t.Fatal(err)
			}
			before := files(t, disk, "db")
			for range 2 {
				_, err := Open(Config{Dir: "db", FS: disk})
				if err == nil || !strings.Contains(err.Error(), "run ") || !strings.Contains(err.Error(), "move the directory away") {
					t.Fatalf("Open: %v, want to hear what to do", err)
				}
				if f := new(FormatError); strings.HasPrefix(name, "format") && !errors.As(err, &f) {
					t.Errorf("Open: %v, want a FormatError", err)
				}
			}
			noneAside(t, disk, name)
			for file := range before {
				if !strings.HasSuffix(file, ".sst") {
					continue
				}
				if _, err := disk.Stat(file); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestRescueOutbox loses the manifest: the outbox is carried over whole.
func TestRescueOutbox(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	states := damagedBase(t, base)
	last := states[len(states)-1]
	loseManifest(t, base)
	s := openTest(t, base)
	if got := messages(t, s); !cmp.Equal(got, last.Messages) {
		t.Errorf("outbox: %s", cmp.Diff(last.Messages, got))
	}
	// The index of the keyed lane is there, too: a new value replaces the old one.
	if _, err := s.Outbox().PutKeyed(2, "pods/default/p0", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got := messages(t, s); len(got) != len(last.Messages) {
		t.Errorf("%d messages after a replacement, want %d", len(got), len(last.Messages))
	}
	s = reopen(t, s, base)
	if n := len(messages(t, s)); n != len(last.Messages) {
		t.Errorf("%d messages after reopening, want %d", n, len(last.Messages))
	}
}

// TestDamageInUse finds damage while the store is open: it fails, and the next
// start repairs it, though Pebble would open it.
func TestDamageInUse(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	s := openTest(t, disk)
	if _, err := s.Outbox().Append(4, "e1", []byte("event")); err != nil {
		t.Fatal(err)
	}
	if err := s.seen(fmt.Errorf("block 7: %w", ErrCorrupt)); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if !isClosed(s.Failed()) || !errors.Is(s.Err(), ErrCorrupt) {
		t.Fatalf("store goes on: %v", s.Err())
	}
	s = reopen(t, s, disk)
	if got := messages(t, s); !cmp.Equal(got, []string{"1:4:e1=event"}) {
		t.Errorf("messages = %v", got)
	}
	if got, err := s.Outbox().Append(4, "e2", nil); err != nil || got <= rescueSeqGap {
		t.Errorf("next seq = %d, %v, want one behind all that were given out", got, err)
	}
}

// TestRoomAfterRepair fills the disk of a store that was repaired when it was
// opened: it hears of room as any other does.
func TestRoomAfterRepair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newQuotaFS(testDisk)
		damagedBase(t, disk)
		loseManifest(t, disk)
		s := openQuota(t, disk)
		disk.leave(6 << 20)
		if err := s.Apply(pod(1, 10)); !errors.Is(err, ErrDiskFull) {
			t.Fatalf("Apply on a full disk: %v", err)
		}
		disk.leave(100 << 20)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.WaitRoom(ctx); err != nil {
			t.Errorf("WaitRoom: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDamagedDirsAreBounded damages the store again and again.
func TestDamagedDirsAreBounded(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	for range 5 {
		s := openTest(t, disk)
		s.fail(ErrCorrupt)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_ = openTest(t, disk)
	list, err := disk.List("")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range list {
		if strings.Contains(name, "damaged-") {
			n++
		}
	}
	if n != keepDamaged {
		t.Errorf("%d damaged directories kept, want %d: %v", n, keepDamaged, list)
	}
}
