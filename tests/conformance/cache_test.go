package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Of the images those that were used last stay, whatever they are called, and
// nothing else in the cache is touched.
func TestRemoveOld(t *testing.T) {
	cache := t.TempDir()
	for i, name := range []string{"images-c", "images-a", "images-e", "images-b", "images-d", "agnhost-1", "part-images-x"} {
		dir := filepath.Join(cache, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(int64(1000-i), 0)
		if err := os.Chtimes(dir, when, when); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := removeOld(cache); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{"agnhost-1", "images-a", "images-c", "images-e", "part-images-x"}
	if d := cmp.Diff(want, left); d != "" {
		t.Error(d)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		unlock, err := lock(t.Context(), path)
		if err == nil {
			unlock()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("two have it locked: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
}
