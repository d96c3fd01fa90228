package staticpods

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// faultyFS fails operations, by "OP NAME", with what a disk says.
type faultyFS struct {
	fs.FS
	fails map[string]error
}

func (f faultyFS) fail(op, name string) error {
	if err := f.fails[op+" "+name]; err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (f faultyFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.fail("stat", name); err != nil {
		return nil, err
	}
	return fs.Stat(f.FS, name)
}

func (f faultyFS) ReadFile(name string) ([]byte, error) {
	if err := f.fail("read", name); err != nil {
		return nil, err
	}
	return fs.ReadFile(f.FS, name)
}

func (f faultyFS) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(f.FS, name)
	if ferr := f.fail("list", name); ferr != nil {
		return list[:min(1, len(list))], ferr
	}
	return list, err
}

// A disk that can't be read says nothing about the pods on it: those that run, run
// on, it is told once, and tried again.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yaml", good)
	write("b.yaml", strings.ReplaceAll(good, "web", "two"))
	disk := faultyFS{os.DirFS(dir), map[string]error{}}
	var log bytes.Buffer
	s := newSource(Config{Dir: dir, NodeName: "n", Wake: func(string) {}, Log: slog.New(slog.NewTextHandler(&log, nil))}, disk)
	s.poll()
	for _, fault := range []string{"stat .", "list .", "stat a.yaml", "read a.yaml"} {
		for _, why := range []error{syscall.EIO, syscall.EACCES} {
			t.Run(fault+" "+why.Error(), func(t *testing.T) {
				log.Reset()
				disk.fails[fault] = why
				write("a.yaml", strings.Replace(good, "nginx", "nginx:"+strings.ReplaceAll(fault+string(why.Error()[0]), " ", "-"), 1))
				for range 3 {
					if keys := s.poll(); len(keys) > 0 || len(s.Pods()) != 2 {
						t.Errorf("changed %v, %d pods", keys, len(s.Pods()))
					}
				}
				if n := strings.Count(log.String(), "level=ERROR"); n != 1 || len(s.Problems()) != 1 {
					t.Errorf("told %d times: %s; problems %q", n, log.String(), s.Problems())
				}
				delete(disk.fails, fault)
				if keys := s.poll(); !slices.Equal(keys, []string{"pods/default/web-n"}) || len(s.Problems()) != 0 {
					t.Errorf("readable again: changed %v, problems %q", keys, s.Problems())
				}
			})
		}
	}
	// What is not there is gone, also between the look and the read.
	disk.fails["read a.yaml"] = fs.ErrNotExist
	write("a.yaml", good)
	if s.poll(); len(s.Problems()) != 0 || len(s.Pods()) != 2 {
		t.Errorf("about to go: problems %q, %d pods", s.Problems(), len(s.Pods()))
	}
	disk.fails["stat a.yaml"] = fs.ErrNotExist
	if keys := s.poll(); len(keys) != 1 || len(s.Problems()) != 0 || len(s.Pods()) != 1 {
		t.Errorf("gone: changed %v, problems %q, %d pods", keys, s.Problems(), len(s.Pods()))
	}
}

// An agent that starts on a disk that can't be read does not know all its pods, and
// says so, lest those that run are taken for pods that nobody wants.
func TestFaultsAtStart(t *testing.T) {
	for _, fault := range []string{"stat .", "list .", "stat a.yaml", "read a.yaml"} {
		t.Run(fault, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"a.yaml": good, "b.yaml": strings.ReplaceAll(good, "web", "two")} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			disk := faultyFS{os.DirFS(dir), map[string]error{fault: syscall.EIO}}
			s := newSource(Config{Dir: dir, NodeName: "n", Wake: func(string) {}, Log: slog.New(slog.DiscardHandler)}, disk)
			cloud := &corev1.Pod{}
			cloud.Name = "cloud"
			o := Objects{Objects: desiredFake{list: []*corev1.Pod{cloud}}, Source: s}
			s.poll()
			list, err := o.Pods()
			if !errors.Is(err, ErrUnread) || !errors.Is(err, syscall.EIO) || !slices.Contains(list, cloud) {
				t.Errorf("%d pods, %v", len(list), err)
			}
			if strings.HasSuffix(fault, ".yaml") && len(list) != 2 {
				t.Errorf("%d pods, want that of the other file too", len(list))
			}
			clear(disk.fails)
			s.poll()
			if list, err = o.Pods(); err != nil || len(list) != 3 {
				t.Errorf("readable again: %d pods, %v", len(list), err)
			}
		})
	}
}

// A folder that is refused when an agent starts says as little about its pods as one
// that can't be read: an agent before may have started them.
func TestRefusedAtStart(t *testing.T) {
	for name, tt := range map[string]struct{ refuse, mend func(dir string) error }{
		"writable by others": {
			func(dir string) error { return os.Chmod(dir, 0o775) },
			func(dir string) error { return os.Chmod(dir, 0o700) },
		},
		"too many files": {
			func(dir string) error {
				for i := range maxFiles {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("x%d.yaml", i)), []byte("{"), 0o600); err != nil {
						return err
					}
				}
				return nil
			},
			func(dir string) error { return os.Remove(filepath.Join(dir, "x0.yaml")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(good), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := tt.refuse(dir); err != nil {
				t.Fatal(err)
			}
			s, err := New(Config{Dir: dir, NodeName: "n"})
			if err != nil {
				t.Fatal(err)
			}
			o := Objects{Objects: desiredFake{}, Source: s}
			if list, err := o.Pods(); !errors.Is(err, ErrUnread) || len(list) != 0 {
				t.Errorf("refused: %d pods, %v", len(list), err)
			}
			if err := tt.mend(dir); err != nil {
				t.Fatal(err)
			}
			s.poll()
			if list, err := o.Pods(); err != nil || len(list) != 1 {
				t.Errorf("mended: %d pods, %v", len(list), err)
			}
			if err := tt.refuse(dir); err != nil {
				t.Fatal(err)
			}
			s.poll()
			if list, err := o.Pods(); err != nil || len(list) != 1 {
				t.Errorf("refused later: %d pods, %v", len(list), err)
			}
		})
	}
}
