package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func delivery(id string, state string, values ...string) Delivery {
	d := Delivery{Source: "device/u", ID: id, Private: map[string][]byte{"device/u/state": []byte(state)}}
	for _, v := range values {
		d.Entries = append(d.Entries, Message{Subject: 11, Key: "devices/n/d", Value: []byte(v)})
	}
	return d
}

// told gives the values and seqs of all that is in the outbox.
func told(t *testing.T, s *Store) (values []string, seqs []uint64) {
	t.Helper()
	for _, m := range entries(t, s.Outbox().Next) {
		values, seqs = append(values, string(m.Value)), append(seqs, m.Seq)
	}
	return values, seqs
}

func TestDelivery(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Delivery{
		delivery("1", "one", "a", "b"), delivery("1", "other", "a", "b"), // again
		delivery("2", "two"), delivery("3", "three", "c"),
	} {
		if err := s.Outbox().AppendAll(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Outbox().Append(4, "events/n/e", []byte("event")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(Config{Dir: "db", FS: fs}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Outbox().AppendAll(delivery("3", "again", "c")); err != nil {
		t.Fatal(err)
	}
	values, seqs := told(t, s)
	if got := fmt.Sprint(values); got != "[a b c event]" {
		t.Errorf("entries %s", got)
	}
	for i := 1; i < len(seqs); i++ {
		if seqs[i] <= seqs[i-1] {
			t.Errorf("seqs %v", seqs)
		}
	}
	if state, err := s.GetPrivate("device/u/state"); err != nil || string(state) != "three" {
		t.Errorf("state %q, %v", state, err)
	}
	if err := s.Outbox().AppendAll(delivery("4", "")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetPrivate("device/u/state"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a state that was removed: %v", err)
	}
	if err := s.Outbox().AppendAll(Delivery{}); err == nil {
		t.Error("a delivery without a source is taken")
	}
	if err := s.Forget("device/u", "device/u/state"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Meta(deliveredPrefix + "device/u"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is kept of a source that was forgotten: %v", err)
	}
}

// TestDeliveryCrash cuts the power after each delivery: of each, entries and state are both
// there, or neither.
func TestDeliveryCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := Open(Config{Dir: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := range 20 {
		if err := s.Outbox().AppendAll(delivery(fmt.Sprint(n), fmt.Sprint(n), fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		crashed, err := Open(Config{Dir: "db", FS: fs.CrashClone(vfs.CrashCloneCfg{})})
		if err != nil {
			t.Fatal(err)
		}
		values, _ := told(t, crashed)
		state, err := crashed.GetPrivate("device/u/state")
		if err != nil || len(values) != n+1 || values[n] != fmt.Sprint(n) || string(state) != fmt.Sprint(n) {
			t.Errorf("after delivery %d: %v, state %q, %v", n, values, state, err)
		}
		if err := crashed.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBulkTakesNoRoomFromOthers: each kind loses its own oldest, in a lane that both are
// in, and is counted so over a restart.
func TestBulkTakesNoRoomFromOthers(t *testing.T) {
	fs := vfs.NewMem()
	cfg := Config{Dir: "db", FS: fs, MaxOutboxBytes: 8 << 10, MaxBulkBytes: 32 << 10, BulkSubject: 11}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	value := make([]byte, 1000)
	for i := range 100 {
		d := Delivery{Source: "device/u", ID: fmt.Sprint(i), Entries: []Message{{Subject: 11, Key: "devices/n/d", Value: value}}}
		if err := s.Outbox().AppendAll(d); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			if _, err := s.Outbox().Append(4, "events/n/e", value[:100]); err != nil {
				t.Fatal(err)
			}
		}
		if b := s.Outbox().Stats().BulkBytes; b > cfg.MaxBulkBytes {
			t.Fatalf("%d bytes", b)
		}
	}
	count := func() (events, bulk int) {
		for _, m := range entries(t, s.Outbox().Next) {
			if m.Subject == 11 {
				bulk++
			} else {
				events++
			}
		}
		return events, bulk
	}
	if events, bulk := count(); events != 5 || bulk < 24 || bulk > 32 {
		t.Errorf("%d events and %d of bulk", events, bulk)
	}
	for range 100 {
		if _, err := s.Outbox().Append(4, "events/n/e", value[:100]); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Outbox().Stats()
	if events, bulk := count(); events < 50 || events > 80 || bulk < 24 {
		t.Errorf("%d events and %d of bulk", events, bulk)
	}
	if err := s.Outbox().AppendAll(Delivery{Source: "device/u", ID: "x", Entries: []Message{{Subject: 11, Value: make([]byte, 17<<10)}}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than half: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if after := s.Outbox().Stats(); after != before {
		t.Errorf("after a restart %+v, before %+v", after, before)
	}
	reasons := map[string]uint64{}
	for _, d := range s.Outbox().Drops() {
		reasons[d.Reason] = d.Count
	}
	if reasons[DropBulk] < 60 || reasons[DropBytes] < 20 || len(reasons) != 2 {
		t.Errorf("dropped %v", reasons)
	}
}
