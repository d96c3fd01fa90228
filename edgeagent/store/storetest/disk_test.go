package storetest

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The power may go at any moment, while a file is reused, too.
func TestCrashWhileFilesAreReused(t *testing.T) {
	disk := New()
	f, err := disk.Create("a", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("old log")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 3000 {
			disk.Crash(0, nil)
		}
	})
	for range 3000 {
		f, err := disk.ReuseForWrite("a", "a", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("new")); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if b := read(t, disk, "a"); b != "new log" {
		t.Errorf("the file is %q", b)
	}
}

func read(t *testing.T, fs vfs.FS, name string) string {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 100)
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		t.Fatal(err)
	}
	return string(b[:n])
}
