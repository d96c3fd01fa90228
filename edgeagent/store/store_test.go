package store

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

func openTest(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func reopen(t *testing.T, s *Store, fs vfs.FS) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openTest(t, fs)
}

// entries reads a lane of the outbox, or both, by its Next or NextKeyed.
func entries(t *testing.T, next func(after uint64) (Message, bool, error)) (list []Message) {
	t.Helper()
	for after := uint64(0); ; {
		m, ok, err := next(after)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return list
		}
		list, after = append(list, m), m.Seq
	}
}

func messages(t *testing.T, s *Store) (got []string) {
	t.Helper()
	for _, m := range entries(t, s.Outbox().Next) {
		got = append(got, fmt.Sprintf("%d:%d:%s=%s", m.Seq, m.Subject, m.Key, m.Value))
	}
	return got
}

func TestObjects(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := openTest(t, fs)
	big := bytes.Repeat([]byte("x"), 3<<20) // larger than the memtable
	if err := s.Apply(Batch{Upserts: []Object{
		{Key: "pods/default/a", Version: "u/1", Value: []byte("A")},
		{Key: "pods/default/b", Version: "u/2"},
		{Key: "configmaps/default/a", Version: "u/3", Value: big},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(Batch{
		Upserts: []Object{{Key: "pods/default/a", Version: "u/4", Value: []byte("A2")}},
		Deletes: []string{"pods/default/b", "pods/none/none"},
	}); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, fs)

	got, err := s.Get("pods/default/a")
	if want := (Object{Key: "pods/default/a", Version: "u/4", Value: []byte("A2")}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Get = %v, %v, want %v", got, err, want)
	}
	if _, err := s.Get("pods/default/b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a deleted object: %v, want ErrNotFound", err)
	}
	var versions []Entry
	if err := s.Versions("", func(e Entry) bool { versions = append(versions, e); return true }); err != nil {
		t.Fatal(err)
	}
	if want := []Entry{{"configmaps/default/a", "u/3"}, {"pods/default/a", "u/4"}}; !cmp.Equal(versions, want) {
		t.Errorf("Versions = %v, want %v", versions, want)
	}
	var keys []string
	if err := s.List("pods/", func(o Object) bool { keys = append(keys, o.Key); return true }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"pods/default/a"}; !cmp.Equal(keys, want) {
		t.Errorf("List = %v, want %v", keys, want)
	}
	if o, err := s.Get("configmaps/default/a"); err != nil || !bytes.Equal(o.Value, big) {
		t.Errorf("large value: %d bytes, %v", len(o.Value), err)
	}
}

func TestMeta(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := openTest(t, fs)
	if _, err := s.Meta("boot"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Meta before SetMeta: %v, want ErrNotFound", err)
	}
	if err := s.SetMeta("boot", []byte("1")); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, fs)
	if got, err := s.Meta("boot"); err != nil || string(got) != "1" {
		t.Errorf("Meta = %q, %v", got, err)
	}
}

func TestOutboxLanes(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := openTest(t, fs)
	o := s.Outbox()
	put := func(subject uint64, key, value string) uint64 {
		t.Helper()
		seq, err := o.PutKeyed(subject, key, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	first := put(2, "pods/default/a", "pending")
	put(1, "", "node")
	if _, err := o.Append(4, "e1", []byte("event")); err != nil {
		t.Fatal(err)
	}
	put(2, "pods/default/a", "running")
	want := []string{"2:1:=node", "3:4:e1=event", "4:2:pods/default/a=running"}
	if got := messages(t, s); !cmp.Equal(got, want) {
		t.Errorf("messages = %v, want %v", got, want)
	}

	// The acknowledgement of the value that was replaced leaves the newer one.
	if err := o.Trim(first); err != nil {
		t.Fatal(err)
	}
	if got := messages(t, s); !cmp.Equal(got, want) {
		t.Errorf("after the ack of a replaced value: %v, want %v", got, want)
	}
	if err := o.Trim(2, 3, 4, 4, 99); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, fs)
	o = s.Outbox()
	if got := put(2, "pods/default/a", "done"); got != 5 {
		t.Errorf("seq after everything was trimmed and the store reopened = %d, want 5", got)
	}
	if got, want := o.Stats(), (OutboxStats{LastSeq: 5, Entries: 1}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

func TestOutboxDropsOldest(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, err := Open(Config{Dir: "db", FS: fs, MaxOutboxBytes: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	o := s.Outbox()
	if _, err := o.PutKeyed(1, "", []byte("node")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Append(4, "big", make([]byte, 2<<10)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Append beyond the bound: %v, want ErrTooLarge", err)
	}
	const n = 100
	for i := range n {
		if _, err := o.Append(4, fmt.Sprintf("e%d", i), make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		if b := o.Stats().SequencedBytes; b > 8<<10 {
			t.Fatalf("lane holds %d bytes, bound %d", b, 8<<10)
		}
	}
	st := o.Stats()
	if st.Dropped < 2 || int(st.Dropped)+st.Entries-1 != n+1 {
		t.Errorf("dropped %d and kept %d of %d", st.Dropped, st.Entries-1, n)
	}
	drops := o.Drops()
	for i := range drops {
		if drops[i].First.IsZero() || drops[i].Last.Before(drops[i].First) {
			t.Errorf("%s: from %v to %v", drops[i].Reason, drops[i].First, drops[i].Last)
		}
		drops[i].First, drops[i].Last, drops[i].Bytes = time.Time{}, time.Time{}, 0
	}
	if want := []Drop{{Reason: DropBytes, Count: st.Dropped - 1}, {Reason: DropSize, Count: 1}}; !cmp.Equal(drops, want) {
		t.Errorf("Drops = %v, want %v", drops, want)
	}
	got := messages(t, s)
	if got[0] != "1:1:=node" {
		t.Errorf("first message is %q: the keyed lane must not be dropped", got[0])
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := openTest(t, fs).Outbox().Stats(); got != st {
		t.Errorf("stats after reopening %+v, before %+v", got, st)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{}); err == nil {
		t.Error("Open without Dir succeeded")
	}
	dir := t.TempDir()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
	b := new(pebble.Batch)
	setUint(b, nameFormat, 7)
	if err := s.writeNow(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var format *FormatError
	if _, err := Open(Config{Dir: dir}); !errors.As(err, &format) || format.Have != 7 {
		t.Errorf("Open of a newer format: %v, want FormatError", err)
	}
	if err := s.Apply(Batch{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Apply after Close: %v, want ErrClosed", err)
	}
}

func TestOpenDamagedManifest(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := openTest(t, fs)
	if err := s.Apply(Batch{Upserts: []Object{{Key: "pods/default/a", Value: make([]byte, 1<<20)}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Outbox().Append(4, "e1", []byte("event")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if len(name) > 8 && name[:8] == "MANIFEST" {
			f, err := fs.Create(fs.PathJoin("db", name), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("this is no manifest at all, and long enough")); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = openTest(t, fs)
	if _, err := s.Get("pods/default/a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get from the new store: %v, want ErrNotFound", err)
	}
	if got := messages(t, s); !cmp.Equal(got, []string{"1:4:e1=event"}) {
		t.Errorf("outbox of the new store has %v", got)
	}
}
