package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
)

const testDisk = 128 << 20

func pod(i, size int) Batch {
	value := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{byte(i)})
	_, _ = rng.Read(value) // so that no compression helps
	return Batch{Upserts: []Object{{Key: fmt.Sprintf("pods/default/p%04d", i), Version: "v", Value: value}}}
}

func openQuota(t *testing.T, disk *quotaFS) *Store {
	t.Helper()
	s, err := Open(Config{Dir: "db", FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newQuotaFS(testDisk)
		s := openQuota(t, disk)
		if full, _ := s.Full(); full || !disk.exists("db.reserve") {
			t.Fatalf("new store: full %v, reserve %v", full, disk.exists("db.reserve"))
		}
		if err := s.Apply(pod(0, 1000)); err != nil {
			t.Fatal(err)
		}
		became := s.FullChanged()
		disk.leave(7 << 20)
		start := time.Now()
		if err := s.Apply(pod(1, 1000)); !errors.Is(err, ErrDiskFull) {
			t.Errorf("Apply on a full disk: %v, want ErrDiskFull", err)
		}
		if _, err := s.Outbox().Append(4, "e", []byte("event")); !errors.Is(err, ErrDiskFull) {
			t.Errorf("Append on a full disk: %v, want ErrDiskFull", err)
		}
		if full, since := s.Full(); !full || !since.Equal(start) || !isClosed(became) {
			t.Errorf("Full = %v since %v, want true since %v, channel closed %v", full, since, start, isClosed(became))
		}
		if s.Err() != nil || isClosed(s.Failed()) {
			t.Errorf("a full disk failed the store: %v", s.Err())
		}
		// The cloud hears of it, what is delivered goes, and so do objects.
		seq, err := s.Outbox().PutKeyed(1, "", []byte("node: disk is full"))
		if err != nil {
			t.Errorf("PutKeyed on a full disk: %v", err)
		}
		if err := s.Outbox().Trim(seq); err != nil {
			t.Errorf("Trim on a full disk: %v", err)
		}
		if err := s.Apply(Batch{Deletes: []string{"pods/default/p0000"}}); err != nil {
			t.Errorf("delete on a full disk: %v", err)
		}
		// A little room is not enough, so that it does not go back and forth.
		disk.leave(9 << 20)
		time.Sleep(time.Minute) //nolint:forbidigo // virtual
		if full, _ := s.Full(); !full {
			t.Error("not full with 9 MiB free, want hysteresis up to 16 MiB")
		}
		disk.leave(20 << 20)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		before := time.Now()
		if err := s.WaitRoom(ctx); err != nil {
			t.Fatalf("WaitRoom: %v", err)
		}
		if d := time.Since(before); d > spacePoll {
			t.Errorf("room was seen after %v, want %v at most", d, spacePoll)
		}
		if err := s.Apply(pod(1, 1000)); err != nil {
			t.Errorf("Apply with room again: %v", err)
		}
		if _, err := s.Outbox().Append(4, "e", []byte("event")); err != nil {
			t.Error(err)
		}
		drops := s.Outbox().Drops()
		if len(drops) != 1 || drops[0].Reason != DropDisk || drops[0].Count != 1 {
			t.Errorf("Drops = %+v, want one for the disk", drops)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := disk.failures(); n > 0 {
			t.Errorf("%d operations found no room: refusing came too late", n)
		}
		s = openQuota(t, disk)
		if got := s.Outbox().Drops(); len(got) != 1 || got[0].Count != 1 {
			t.Errorf("Drops after reopening = %+v", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDiskFilledByOthers has others fill the disk to its last byte between any two
// writes: Pebble meets its end, waits, and goes on. Nothing that was acknowledged
// is lost and the store never fails.
func TestDiskFilledByOthers(t *testing.T) {
	t.Parallel()
	eachSeed(t, 4, func(t *testing.T, seed uint64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) { fillByOthers(t, seed) })
	})
}

func fillByOthers(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	disk := newQuotaFS(testDisk)
	s := openQuota(t, disk)
	want := map[string]int{}
	refused, gone := 0, 0
	for i := range 400 {
		switch rng.IntN(8) {
		case 0:
			disk.leave(0)
			gone++
		case 1:
			disk.leave(uint64(rng.IntN(24 << 20)))
		case 2:
			disk.leave(100 << 20)
			time.Sleep(10 * time.Second) //nolint:forbidigo // virtual
		}
		b := pod(rng.IntN(50), 1+rng.IntN(100<<10))
		err := s.Apply(b)
		switch {
		case err == nil:
			want[b.Upserts[0].Key] = len(b.Upserts[0].Value)
		case errors.Is(err, ErrDiskFull):
			refused++
			if strings.Contains(err.Error(), "may be stored") {
				want[b.Upserts[0].Key] = -1 // not known
			}
		default:
			t.Fatalf("seed %d, write %d: %v", seed, i, err)
		}
		if _, err := s.Outbox().PutKeyed(2, fmt.Sprint("pods/", i%5), []byte("status")); err != nil && !errors.Is(err, ErrDiskFull) {
			t.Fatalf("seed %d, status %d: %v", seed, i, err)
		}
		if s.Err() != nil {
			t.Fatalf("seed %d, write %d: store failed: %v", seed, i, s.Err())
		}
	}
	disk.leave(100 << 20)
	if err := s.WaitRoom(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(pod(99, 10)); err != nil {
		t.Fatalf("seed %d: Apply with room again: %v", seed, err)
	}
	want["pods/default/p0099"] = 10
	for range 2 {
		for key, size := range want {
			if o, err := s.Get(key); size >= 0 && (err != nil || len(o.Value) != size) {
				t.Errorf("seed %d: Get(%s) = %d bytes, %v, want %d", seed, key, len(o.Value), err, size)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openQuota(t, disk)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if refused == 0 || gone == 0 {
		t.Errorf("seed %d: %d refused, %d times full: the test shows nothing", seed, refused, gone)
	}
}

// TestFullAtEveryWrite has the disk full for some seconds from the i-th operation
// of some writes on, for every i, those of flushes and compactions included, while
// it says that it has room. Every write is repeated until it is taken: then it is
// there, and nothing else is.
func TestFullAtEveryWrite(t *testing.T) {
	t.Parallel()
	want := models(t, crashUnit)
	last := contents(want[len(want)-1])
	n := 0
	synctest.Test(t, func(t *testing.T) { n = fullFrom(t, math.MaxInt, last) })
	if n < 50 {
		t.Fatalf("only %d operations", n)
	}
	stride := 7
	if *thorough {
		stride = 1
	}
	for i := 0; i < n; i += stride {
		synctest.Test(t, func(t *testing.T) { fullFrom(t, i, last) })
	}
}

// contents is a state without seqs, and without what is there twice.
func contents(st state) []string {
	all := slices.Clone(st.Objects)
	for _, m := range st.Messages {
		_, rest, _ := strings.Cut(m, ":")
		all = append(all, rest)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func fullFrom(t *testing.T, i int, want []string) (n int) {
	t.Helper()
	disk := newQuotaFS(testDisk)
	var f faults
	s, err := Open(Config{Dir: "db", FS: f.on(disk)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var until time.Time
	f.set(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpRemove, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileClose:
			return nil
		default:
		}
		mu.Lock()
		defer mu.Unlock()
		if n++; n <= i {
			return nil
		}
		if until.IsZero() {
			until = time.Now().Add(5 * time.Second)
		}
		if time.Now().Before(until) {
			return syscall.ENOSPC
		}
		return nil
	})
	for k, step := range steps(crashUnit) {
		for err = ErrDiskFull; errors.Is(err, ErrDiskFull); time.Sleep(300 * time.Millisecond) { //nolint:forbidigo // virtual
			// Rewriting may wait for room with a mutex of Pebble's. A writer would wait for
			// that mutex then, which is no harm, but stops virtual time.
			if !s.reclaimer.busy() {
				err = step(s)
			}
		}
		if err != nil {
			t.Fatalf("full from operation %d on, step %d: %v", i, k, err)
		}
	}
	time.Sleep(30 * time.Second) //nolint:forbidigo // virtual
	if s.Err() != nil {
		t.Errorf("full from operation %d on: %v", i, s.Err())
	}
	f.set(nil)
	for range 2 {
		if got := contents(stateOf(t, s)); !cmp.Equal(got, want) {
			t.Errorf("full from operation %d on: %s", i, cmp.Diff(want, got))
		}
		if err := s.Close(); err != nil {
			t.Fatalf("full from operation %d on: %v", i, err)
		}
		s = openQuota(t, disk)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	noneAside(t, disk, fmt.Sprintf("full from operation %d on", i))
	return n
}

func (r *reclaimer) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// TestTornReserve has power loss leave a reserve that holds nothing.
func TestTornReserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newQuotaFS(testDisk)
		if err := openQuota(t, disk).Close(); err != nil {
			t.Fatal(err)
		}
		writeFile(t, disk, "db.reserve", nil)
		s := openQuota(t, disk)
		if info, err := disk.Stat("db.reserve"); err != nil || info.Size() < 4<<20 {
			t.Errorf("reserve has %d bytes, %v", info.Size(), err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOpenOnFullDisk restarts the agent while not a byte is left: the reserve is
// given up, once, and after that the store is read until there is room.
func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newQuotaFS(testDisk)
		s := openQuota(t, disk)
		if err := s.Apply(pod(1, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(Batch{Upserts: secretObjects()}); err != nil {
			t.Fatal(err)
		}
		seq, err := s.Outbox().PutKeyed(2, "p1", []byte("running"))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		disk.leave(0)
		s = openQuota(t, disk)
		if disk.exists("db.reserve") {
			t.Error("reserve is still there")
		}
		if full, _ := s.Full(); !full {
			t.Error("opened on a full disk and not full")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		disk.leave(0)
		for range 3 {
			s = openQuota(t, disk)
			if o, err := s.Get("pods/default/p0001"); err != nil || len(o.Value) != 1000 {
				t.Errorf("Get while it can only be read: %d bytes, %v", len(o.Value), err)
			}
			if _, err := s.Get("secrets/default/db"); err != nil {
				t.Errorf("Get of a secret while it can only be read: %v", err)
			}
			if err := s.Apply(pod(2, 10)); !errors.Is(err, ErrDiskFull) {
				t.Errorf("Apply: %v, want ErrDiskFull", err)
			}
			if _, err := s.Outbox().PutKeyed(2, "p1", nil); !errors.Is(err, ErrDiskFull) {
				t.Errorf("PutKeyed: %v, want ErrDiskFull", err)
			}
			if got := messages(t, s); !cmp.Equal(got, []string{"1:2:p1=running"}) {
				t.Errorf("outbox: %v", got)
			}
			if err := s.Outbox().Trim(seq); err != nil {
				t.Errorf("Trim: %v", err)
			}
			if got := messages(t, s); got != nil {
				t.Errorf("outbox after Trim: %v", got)
			}
			if s.Err() != nil {
				t.Fatal(s.Err())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s = openQuota(t, disk)
		if err := s.Outbox().Trim(seq); err != nil {
			t.Fatal(err)
		}
		disk.leave(64 << 20)
		if err := s.WaitRoom(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(pod(2, 10)); err != nil {
			t.Errorf("Apply with room again: %v", err)
		}
		if st := s.Outbox().Stats(); st.Entries != 0 {
			t.Errorf("outbox with room again, after Trim without: %+v", st)
		}
		if !disk.exists("db.reserve") {
			t.Error("reserve was not made again")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openQuota(t, disk)
		wantObjects(t, s, append(secretObjects(), pod(1, 1000).Upserts[0], pod(2, 10).Upserts[0]))
		if got := messages(t, s); got != nil {
			t.Errorf("what was acknowledged while nothing could be written is back: %v", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTmpfs fills a real file system, and starts on it again and again. Each step
// is a process, as with an agent that is restarted.
func TestTmpfs(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("SKERRY_STORE_TMPFS"); dir != "" {
		onTmpfs(t, dir, os.Getenv("SKERRY_STORE_STEP"))
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting a file system takes root")
	}
	// A private mount namespace goes when the process that has it ends.
	dir := t.TempDir()
	script := `mount -t tmpfs -o size=32m skerry "$SKERRY_STORE_TMPFS" || { echo can not mount; exit 1; }
for step in fill start start start recover; do
	SKERRY_STORE_STEP=$step "$0" -test.run='^TestTmpfs$' -test.v -test.timeout=60s || exit 1
done`
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "--propagation", "private", "sh", "-c", script, os.Args[0])
	cmd.Env = append(os.Environ(), "SKERRY_STORE_TMPFS="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil && (strings.Contains(string(out), "can not mount") || strings.Contains(string(out), "unshare")) {
		t.Skipf("this machine lets nobody mount: %s", out)
	}
	if err != nil || strings.Count(string(out), "--- PASS") != 5 {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "objects") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func onTmpfs(t *testing.T, dir, step string) {
	t.Helper()
	s, err := Open(Config{Dir: filepath.Join(dir, "db"), Log: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		// What waits for room at the end of the process would wait on.
		if err := s.Close(); err != nil && (!errors.Is(err, ErrDiskFull) || step == "recover") {
			t.Error(err)
		}
	}()
	stored := 0
	if err := s.List("pods/", func(o Object) bool { stored++; return len(o.Value) == 512<<10 }); err != nil {
		t.Fatal(err)
	}
	count := filepath.Join(filepath.Dir(dir), "count") // not on the disk that is full
	if step != "fill" {
		b, err := os.ReadFile(count)
		if want := strings.TrimSpace(string(b)); err != nil || want != fmt.Sprint(stored) {
			t.Fatalf("%d objects are there, %s were stored, %v", stored, want, err)
		}
	}
	switch step {
	case "fill":
		for ; err == nil && stored < 100; stored++ {
			err = s.Apply(pod(stored, 512<<10))
		}
		stored--
		if !errors.Is(err, ErrDiskFull) || stored < 10 {
			t.Fatalf("after %d objects: %v, want ErrDiskFull", stored, err)
		}
		t.Logf("%d objects of 512 KiB were taken on 32 MiB", stored)
		if err := os.WriteFile(count, fmt.Append(nil, stored), 0o600); err != nil {
			t.Fatal(err)
		}
		fillDisk(t, dir)
		_, err = s.Outbox().PutKeyed(1, "", []byte("node: disk is full"))
		if err != nil && !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
	case "start":
		fillDisk(t, dir) // what starting may have made room for
		if err := s.Apply(pod(100, 1000)); !errors.Is(err, ErrDiskFull) {
			t.Fatalf("Apply on a full disk: %v", err)
		}
	case "recover":
		for i := range 8 {
			if err := os.RemoveAll(filepath.Join(dir, fmt.Sprint("ballast", i))); err != nil {
				t.Fatal(err)
			}
		}
		recoverRoom(t, s, stored)
	}
	if s.Err() != nil {
		t.Fatalf("store failed: %v", s.Err())
	}
}

// recoverRoom deletes objects until the store takes one again.
func recoverRoom(t *testing.T, s *Store, stored int) {
	t.Helper()
	for k := range stored {
		ctx, cancel := context.WithTimeout(t.Context(), spacePoll)
		_ = s.WaitRoom(ctx)
		cancel()
		err := s.Apply(pod(200, 1000))
		if err == nil {
			return
		}
		b := Batch{}
		for i := range 8 {
			b.Deletes = append(b.Deletes, pod(8*k+i, 0).Upserts[0].Key)
		}
		if err := errors.Join(err, s.Apply(b)); !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
	}
	t.Fatal("with room again the store takes nothing")
}

// fillDisk writes until nothing more fits, as a container's log would.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	var f *os.File
	err := os.ErrExist
	for i := 0; errors.Is(err, os.ErrExist); i++ {
		f, err = os.OpenFile(filepath.Join(dir, fmt.Sprint("ballast", i)), os.O_EXCL|os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.CopyBuffer(f, zeros{}, make([]byte, 4096))
	if !isFull(err) {
		t.Fatalf("filling the disk ended after %d bytes with %v", n, err)
	}
	_ = f.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
