package store

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

func TestNextKeyed(t *testing.T) {
	t.Parallel()
	s, err := Open(Config{Dir: "db", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o := s.Outbox()
	must := func(seq uint64, err error) uint64 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	keyed := func() (keys []string) {
		t.Helper()
		for _, m := range entries(t, o.NextKeyed) {
			keys = append(keys, m.Key+"="+string(m.Value))
		}
		return keys
	}
	if got := keyed(); got != nil {
		t.Errorf("an empty outbox gives %v", got)
	}
	must(o.Append(4, "event", nil))
	must(o.PutKeyed(2, "a", []byte("1")))
	must(o.Append(4, "event", nil))
	b := must(o.PutKeyed(2, "b", []byte("1")))
	must(o.PutKeyed(3, "b", []byte("other subject")))
	must(o.PutKeyed(2, "a", []byte("2")))
	must(o.Append(4, "event", nil))
	if diff := cmp.Diff([]string{"b=1", "b=other subject", "a=2"}, keyed()); diff != "" {
		t.Errorf("keyed lane (-want +got):\n%s", diff)
	}
	if err := o.Trim(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b=other subject", "a=2"}, keyed()); diff != "" {
		t.Errorf("keyed lane after Trim (-want +got):\n%s", diff)
	}
	// On a full disk what is trimmed stays in the index until there is room.
	o.mu.Lock()
	for seq := range uint64(100) {
		o.trimmed[seq] = struct{}{}
	}
	o.mu.Unlock()
	must(o.Append(4, "event", nil))
	if got := keyed(); got != nil {
		t.Errorf("keyed lane on a full disk gives %v, which was trimmed", got)
	}
}
