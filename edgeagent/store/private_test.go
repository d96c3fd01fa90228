package store

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/store/storetest"
)

// TestPrivate: what is private outlives a crash, is nowhere in the clear, is no object that
// the cloud would hear of, and is gone when it is deleted or when its key is.
func TestPrivate(t *testing.T) {
	disk := storetest.New()
	open := func() *Store {
		t.Helper()
		s, err := Open(Config{Dir: "db", FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	all := func(s *Store) map[string]string {
		t.Helper()
		got := map[string]string{}
		if err := s.Private(func(name string, value []byte) { got[name] = string(value) }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	s := open()
	for name, value := range map[string]string{"a": "one " + canary, "b": "two", "c": "three"} {
		if err := s.SetPrivate(name, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetPrivate("b", []byte("other")); err != nil {
		t.Fatal(err)
	}
	if err := s.DeletePrivate("c", "none"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPrivate("", nil); err == nil {
		t.Error("no name is a name")
	}
	want := map[string]string{"a": "one " + canary, "b": "other"}
	if d := cmp.Diff(want, all(s)); d != "" {
		t.Errorf("stored (-want +got):\n%s", d)
	}
	if err := s.Versions("", func(e Entry) bool { t.Errorf("%s is an object", e.Key); return true }); err != nil {
		t.Error(err)
	}
	crashed := disk.Crash(0, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	disk = crashed
	for name, b := range files(t, disk, "db") {
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s has it in the clear", name)
		}
	}
	s = open()
	if d := cmp.Diff(want, all(s)); d != "" {
		t.Errorf("after a crash (-want +got):\n%s", d)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Remove("db.key"); err != nil {
		t.Fatal(err)
	}
	s = open()
	if d := cmp.Diff(map[string]string{}, all(s)); d != "" {
		t.Errorf("without the key (-want +got):\n%s", d)
	}
	if err := s.SetPrivate("a", []byte("anew")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"a": "anew"}, all(s)); d != "" {
		t.Errorf("with another key (-want +got):\n%s", d)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
