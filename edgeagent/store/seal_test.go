package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/store/storetest"
)

// canary is what must not be found on the disk. Snappy keeps it as it is.
const canary = "hunter2-correct-horse-battery-staple"

func secretObjects() []Object {
	return []Object{
		{Key: "secrets/default/db", Version: "u1/1", Value: []byte("password=" + canary)},
		{Key: "tokens/default/web/0123", Version: "u2/9", Value: []byte("eyJ" + canary)},
		{Key: "configmaps/default/c", Version: "u3/1", Value: []byte("not a secret")},
	}
}

// openFormat1 makes a store as the first version of the agent left it.
func openFormat1(t *testing.T, disk vfs.FS, objects []Object) {
	t.Helper()
	cfg, err := Config{Dir: "db", FS: disk}.fill()
	if err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open("db", options(disk, cfg.Log, nil))
	if err != nil {
		t.Fatal(err)
	}
	b := new(pebble.Batch)
	setUint(b, nameFormat, 1)
	setUint(b, nameSeq, 7)
	setUint(b, nameDropped, 3)
	for _, o := range objects {
		set(b, dbKey(kindVersion, o.Key), []byte(o.Version))
		set(b, dbKey(kindObject, o.Key), append(appendString(nil, o.Version), o.Value...))
	}
	set(b, outboxKey(7), encodeMessage(laneSequenced, 0, Message{Subject: 4, Key: "e1", Value: []byte("event")}))
	if err := db.Apply(b, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// files reads all files under dir.
func files(t *testing.T, disk vfs.FS, dir string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	names, err := disk.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := disk.PathJoin(dir, name)
		f, err := disk.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile: no longer in use
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); err == nil {
			all[path] = b
		}
		_ = f.Close()
	}
	return all
}

func findCanary(t *testing.T, disk vfs.FS, when string) {
	t.Helper()
	for name, b := range files(t, disk, "db") {
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s: %s has a secret in the clear", when, name)
		}
	}
}

// deleted waits until the database has deleted the files that it needs no more, which it
// does beside everything else.
func deleted(t *testing.T, s *Store) {
	t.Helper()
	for m := s.db.Load().Metrics(); m.Table.ObsoleteCount+m.Table.ZombieCount > 0; m = s.db.Load().Metrics() {
		select {
		case <-t.Context().Done():
			t.Fatalf("%d tables are never deleted", m.Table.ObsoleteCount+m.Table.ZombieCount)
		case <-time.After(time.Millisecond):
		}
	}
}

func wantObjects(t *testing.T, s *Store, want []Object) {
	t.Helper()
	for _, w := range want {
		if got, err := s.Get(w.Key); err != nil || !cmp.Equal(got, w) {
			t.Errorf("Get(%s) = %v, %v, want %v", w.Key, got, err, w)
		}
	}
	n := 0
	if err := s.List("", func(Object) bool { n++; return true }); err != nil || n != len(want) {
		t.Errorf("List gave %d objects, %v, want %d", n, err, len(want))
	}
}

func TestNoSecretOnDiskOrInLogs(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	var logs bytes.Buffer
	cfg := Config{Dir: "db", FS: disk, Log: slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(Batch{Upserts: secretObjects()}); err != nil {
		t.Fatal(err)
	}
	findCanary(t, disk, "in the log")
	if err := s.db.Load().Flush(); err != nil {
		t.Fatal(err)
	}
	findCanary(t, disk, "in a table")
	if err := s.Apply(Batch{Upserts: secretObjects()[:1], Deletes: []string{"tokens/default/web/0123"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Load().Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	findCanary(t, disk, "compacted")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The key must not be there either.
	key := files(t, disk, "")["db.key"]
	digits := bytes.TrimPrefix(bytes.TrimSpace(key), []byte(keyHeader))
	if len(digits) != 2*(keySize+4) {
		t.Fatalf("key file is %q", key)
	}
	for name, b := range files(t, disk, "db") {
		if bytes.Contains(b, digits[:16]) {
			t.Errorf("%s has the key", name)
		}
	}
	for _, word := range []string{canary, string(digits[:16])} {
		if strings.Contains(logs.String(), word) {
			t.Errorf("logs have %q", word)
		}
	}
	if !strings.Contains(logs.String(), "made the key") {
		t.Error("logs do not say that a key was made")
	}
}

func TestSealBindsKeyAndVersion(t *testing.T) {
	t.Parallel()
	s, err := newSealer(bytes.Repeat([]byte{1}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSealer(bytes.Repeat([]byte{2}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.seal(nil, "secrets/a/b", "v1", []byte("x"))
	if got, err := s.unseal("secrets/a/b", "v1", sealed); err != nil || string(got) != "x" {
		t.Fatalf("unseal = %q, %v", got, err)
	}
	if again := s.seal(nil, "secrets/a/b", "v1", []byte("x")); bytes.Equal(again, sealed) {
		t.Error("the same value is sealed to the same bytes")
	}
	for name, f := range map[string]func() ([]byte, error){
		"other object":  func() ([]byte, error) { return s.unseal("secrets/a/c", "v1", sealed) },
		"other version": func() ([]byte, error) { return s.unseal("secrets/a/b", "v2", sealed) },
		"moved border":  func() ([]byte, error) { return s.unseal("secrets/a/bv", "1", sealed) },
	} {
		if _, err := f(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	if _, err := other.unseal("secrets/a/b", "v1", sealed); !errors.Is(err, errOtherKey) {
		t.Errorf("other key: %v, want errOtherKey", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := s.unseal("secrets/a/b", "v1", bad); err == nil {
			t.Errorf("flipped byte %d is not noticed", i)
		}
		if _, err := s.unseal("secrets/a/b", "v1", sealed[:i]); err == nil {
			t.Errorf("cut at %d is not noticed", i)
		}
	}
}

func TestMigrateFormat1(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	openFormat1(t, disk, secretObjects())
	found := false
	for _, b := range files(t, disk, "db") {
		found = found || bytes.Contains(b, []byte(canary))
	}
	if !found {
		t.Fatal("a store of format 1 has no secret in the clear: the test shows nothing")
	}
	s := openTest(t, disk)
	deleted(t, s)
	findCanary(t, disk, "migrated and open")
	wantObjects(t, s, secretObjects())
	if got := messages(t, s); !cmp.Equal(got, []string{"7:4:e1=event"}) {
		t.Errorf("messages = %v", got)
	}
	if got, want := s.Outbox().Stats(), (OutboxStats{LastSeq: 7, Entries: 1, SequencedBytes: 10, Dropped: 3}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
	s = reopen(t, s, disk)
	findCanary(t, disk, "opened again")
	wantObjects(t, s, secretObjects())
}

// TestMigrateCrash takes the power away before each operation of the migration.
func TestMigrateCrash(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	disk := storetest.New()
	openFormat1(t, disk, secretObjects())
	var clones []*storetest.Disk
	snap := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			for _, percent := range []int{0, 50} {
				clones = append(clones, disk.Crash(percent, rng))
			}
		}
		return nil
	})
	var one serial
	s, err := Open(Config{Dir: "db", FS: errorfs.Wrap(disk, one.wrap(snap))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(clones) < 40 {
		t.Fatalf("only %d operations", len(clones)/2)
	}
	for i, clone := range clones {
		s := openTest(t, clone)
		wantObjects(t, s, secretObjects())
		if err := s.Close(); err != nil { // which waits for files that are being deleted
			t.Error(err)
		}
		findCanary(t, clone, fmt.Sprintf("crash before operation %d", i/2))
		if list, err := clone.List(""); err != nil || strings.Contains(strings.Join(list, " "), "damaged") {
			t.Errorf("crash before operation %d: %v, %v", i/2, list, err)
		}
	}
}

func TestLostKey(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	s := openTest(t, disk)
	if err := s.Apply(Batch{Upserts: secretObjects()}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Rename("db.key", "kept"); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, disk)
	// The edge says that it holds no secrets, so the cloud sends them.
	wantObjects(t, s, secretObjects()[2:])
	newer := Object{Key: "secrets/default/db", Version: "u1/2", Value: []byte("newer")}
	if err := s.Apply(Batch{Upserts: []Object{newer}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Rename("kept", "db.key"); err != nil {
		t.Fatal(err)
	}
	// With the former key what it sealed is back, but for what is out of date.
	s = openTest(t, disk)
	wantObjects(t, s, secretObjects()[1:])
	if err := s.Apply(Batch{Upserts: []Object{newer}}); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, disk)
	wantObjects(t, s, []Object{newer, secretObjects()[1], secretObjects()[2]})
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := KeyFile{Path: filepath.Join(dir, "db.key")}
	key, err := f.Key()
	if err != nil {
		t.Fatal(err)
	}
	mode := func() fs.FileMode {
		t.Helper()
		st, err := os.Stat(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode()
	}
	if got := mode(); got != 0o600 {
		t.Errorf("mode of a new key = %v", got)
	}
	if err := os.Chmod(f.Path, 0o644); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	again, err := f.Key()
	if err != nil || !bytes.Equal(again, key) {
		t.Errorf("second Key = %x, %v, want %x", again, err, key)
	}
	if got := mode(); got != 0o600 {
		t.Errorf("mode of a key that others could read = %v after Key", got)
	}
	whole, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole[:len(whole)-1] {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x05 // a digit stays a digit or does not
		if got, err := parseKey(bad); err == nil && bytes.Equal(got, key) && bytes.ToLower(bad)[i] != whole[i] {
			t.Errorf("damage at byte %d is not noticed", i)
		}
		if _, err := parseKey(whole[:i]); err == nil {
			t.Errorf("key cut at %d is taken", i)
		}
	}
	// A torn file: no key that is trusted, and evidence kept.
	if err := os.WriteFile(f.Path, whole[:30], 0o600); err != nil {
		t.Fatal(err)
	}
	fresh, err := f.Key()
	if err != nil || bytes.Equal(fresh, key) {
		t.Errorf("Key of a damaged file = %x, %v", fresh, err)
	}
	if b, err := os.ReadFile(f.Path + ".damaged"); err != nil || !bytes.Equal(b, whole[:30]) {
		t.Errorf("damaged key was not set aside: %q, %v", b, err)
	}
}

// lockedKey is a key that can't be had now.
type lockedKey struct{}

func (lockedKey) Key() ([]byte, error) { return nil, errors.New("the TPM is in lockout") }

type shortKey struct{}

func (shortKey) Key() ([]byte, error) { return []byte("short"), nil }

func TestKeySource(t *testing.T) {
	t.Parallel()
	for _, source := range []KeySource{lockedKey{}, shortKey{}} {
		_, err := Open(Config{Dir: "db", FS: vfs.NewMem(), Key: source})
		if !errors.Is(err, ErrKey) {
			t.Errorf("%T: %v, want ErrKey", source, err)
		}
	}
}
