package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// tarOf is an archive of files by name.
func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range files {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))})
		if _, werr := w.Write([]byte(content)); errors.Join(err, werr) != nil {
			t.Fatal(err, werr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func docker(tags ...string) map[string]string {
	return map[string]string{
		"layer.tar":     strings.Repeat("x", 100_000),
		"manifest.json": fmt.Sprintf(`[{"Config":"c","RepoTags":["%s"]}]`, strings.Join(tags, `","`)),
	}
}

func TestArchiveNames(t *testing.T) {
	oci := map[string]string{
		"oci-layout": `{}`,
		"./index.json": `{"manifests":[{"annotations":{"io.containerd.image.name":"r.io/a:1","org.opencontainers.image.ref.name":"1"}},
			{"annotations":{"org.opencontainers.image.ref.name":"busybox:2"}},{"annotations":{"org.opencontainers.image.ref.name":"3"}}]}`,
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
		err   string
	}{
		{"docker", docker("busybox:1", "r.io/x/y:2"), []string{"docker.io/library/busybox:1", "r.io/x/y:2"}, ""},
		{"oci", oci, []string{"docker.io/library/busybox:2", "r.io/a:1"}, ""},
		{"no names", docker(""), nil, ""},
		{"another tar", map[string]string{"a": "b"}, nil, "names no image"},
		{"bad index", map[string]string{"index.json": "{"}, nil, "index.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "no names" {
				tt.files["manifest.json"], tt.err = `[{"RepoTags":null}]`, "names no image"
			}
			raw := tarOf(t, tt.files)
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			if _, err := w.Write(raw); errors.Join(err, w.Close()) != nil {
				t.Fatal(err)
			}
			for ext, content := range map[string][]byte{".tar": raw, ".tar.gz": z.Bytes(), ".tgz": z.Bytes()} {
				file := filepath.Join(t.TempDir(), "i"+ext)
				if err := os.WriteFile(file, content, 0o600); err != nil {
					t.Fatal(err)
				}
				got, err := archiveNames(t.Context(), file)
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Errorf("%s: error %v, want %q", ext, err, tt.err)
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("%s: %s", ext, d)
				}
			}
		})
	}
}

// shelf is a folder, and a runtime that takes archives.
type shelf struct {
	dir string

	mu       sync.Mutex // guards the following fields
	have     []cri.Image
	imported []string
	fail     error
	changes  int
}

func (s *shelf) put(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "images", name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// agent runs a Folder, as of a new agent.
func (s *shelf) agent(t *testing.T, body func(t *testing.T, f *Folder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f, err := NewFolder(FolderConfig{
			Dir: filepath.Join(s.dir, "images"), Record: filepath.Join(s.dir, "record"),
			Images: func(context.Context) ([]cri.Image, error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.have, nil
			},
			Import: func(_ context.Context, file string) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.imported = append(s.imported, filepath.Base(file))
				if s.fail != nil {
					return s.fail
				}
				s.have = append(s.have, cri.Image{Tags: []string{"docker.io/library/" + strings.TrimSuffix(filepath.Base(file), ".tar") + ":1"}})
				return nil
			},
			Changed: func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.changes++
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		synctest.Wait()
		body(t, f)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (s *shelf) expect(t *testing.T, imported ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.imported, imported) {
		t.Errorf("imported %v, want %v", s.imported, imported)
	}
	s.imported = nil
}

func TestFolder(t *testing.T) {
	s := &shelf{dir: t.TempDir()}
	a, b := tarOf(t, docker("a:1")), tarOf(t, docker("b:1"))
	s.agent(t, func(t *testing.T, f *Folder) {
		t.Helper()
		s.put(t, "a.tar", a[:1000]) // it is being copied
		s.put(t, "README", nil)
		pass(lookEvery)
		s.put(t, "a.tar", a)
		pass(lookEvery)
		s.expect(t)
		pass(lookEvery)
		s.expect(t, "a.tar")
		s.mu.Lock()
		changes := s.changes
		s.mu.Unlock()
		if got := f.Names(); !slices.Equal(got, []string{"docker.io/library/a:1"}) || changes != 1 {
			t.Errorf("names %v after %d changes", got, changes)
		}
		pass(10 * lookEvery)
		s.expect(t)
	})
	s.put(t, "b.tar", b)
	s.agent(t, func(t *testing.T, f *Folder) {
		t.Helper()
		pass(2 * lookEvery)
		s.expect(t, "b.tar") // a is noted
		if err := os.Remove(filepath.Join(s.dir, "images", "a.tar")); err != nil {
			t.Fatal(err)
		}
		pass(2 * lookEvery)
		if got := f.Names(); !slices.Equal(got, []string{"docker.io/library/b:1"}) {
			t.Errorf("names %v", got)
		}
	})
	s.have = nil // the runtime has lost all
	s.agent(t, func(t *testing.T, _ *Folder) {
		t.Helper()
		pass(2 * lookEvery)
		s.expect(t, "b.tar")
	})
	for _, record := range []string{`{"b.tar":`, `null`} {
		if err := os.WriteFile(filepath.Join(s.dir, "record"), []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
		s.agent(t, func(t *testing.T, _ *Folder) {
			t.Helper()
			pass(2 * lookEvery)
			s.expect(t, "b.tar")
		})
	}
}

// TestFolderUnreadable: a folder or file that can't be read has not gone, and its
// images stay.
func TestFolderUnreadable(t *testing.T) {
	s := &shelf{dir: t.TempDir()}
	s.agent(t, func(t *testing.T, f *Folder) {
		t.Helper()
		s.put(t, "a.tar", tarOf(t, docker("a:1")))
		pass(2 * lookEvery)
		s.expect(t, "a.tar")
		folder := filepath.Join(s.dir, "images")
		for _, path := range []string{folder, filepath.Join(folder, "a.tar")} {
			// A link to itself gives an error that is not "does not exist".
			if err := errors.Join(os.Rename(path, folder+".aside"), os.Symlink(path, path)); err != nil {
				t.Fatal(err)
			}
			pass(2 * lookEvery)
			if got := f.Names(); !slices.Equal(got, []string{"docker.io/library/a:1"}) {
				t.Errorf("without %s: names %v", path, got)
			}
			if err := errors.Join(os.Remove(path), os.Rename(folder+".aside", path)); err != nil {
				t.Fatal(err)
			}
			pass(2 * lookEvery)
			s.expect(t)
		}
	})
}

func TestFolderRetries(t *testing.T) {
	s := &shelf{dir: t.TempDir(), fail: errors.New("no room")}
	s.agent(t, func(t *testing.T, f *Folder) {
		t.Helper()
		s.put(t, "bad.tar", []byte("no tar"))
		s.put(t, "good.tar", tarOf(t, docker("a:1")))
		pass(2 * lookEvery)
		s.expect(t, "good.tar")
		// What it names is known: nothing is unpacked for that again.
		good := filepath.Join(s.dir, "images", "good.tar")
		info, err := os.Stat(good)
		if err = errors.Join(err, os.WriteFile(good, make([]byte, info.Size()), 0o600), os.Chtimes(good, info.ModTime(), info.ModTime())); err != nil {
			t.Fatal(err)
		}
		pass(retryAfter + lookEvery)
		s.expect(t, "good.tar")
		pass(retryAfter + lookEvery)
		s.expect(t) // it waits longer each time
		pass(retryAfter)
		s.expect(t, "good.tar")
		s.mu.Lock()
		s.fail = fmt.Errorf("%w: none", ErrNoProgram)
		s.mu.Unlock()
		pass(4*retryAfter + lookEvery)
		s.expect(t, "good.tar")
		pass(retryAfter + lookEvery)
		s.expect(t, "good.tar") // nothing to wait for
		s.mu.Lock()
		s.fail = nil
		s.mu.Unlock()
		pass(retryAfter + lookEvery)
		s.expect(t, "good.tar")
		pass(2 * retryMax)
		s.expect(t)
		if got := f.Names(); !slices.Equal(got, []string{"docker.io/library/a:1"}) {
			t.Errorf("names %v", got)
		}
	})
}

// TestFolderOfAnybody: who may write here would choose what a name means.
func TestFolderOfAnybody(t *testing.T) {
	s := &shelf{dir: t.TempDir()}
	folder := filepath.Join(s.dir, "images")
	s.agent(t, func(t *testing.T, _ *Folder) {
		t.Helper()
		s.put(t, "a.tar", tarOf(t, docker("a:1")))
		for _, path := range []string{folder, filepath.Join(folder, "a.tar")} {
			if err := os.Chmod(path, 0o777); err != nil {
				t.Fatal(err)
			}
			pass(3 * lookEvery)
			s.expect(t)
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		pass(2 * lookEvery)
		s.expect(t, "a.tar")
	})
}

// TestArchiveNamesUntilTheEnd: a large archive doesn't hold up who ends.
func TestArchiveNamesUntilTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"i.tar", "i.tgz"} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, tarOf(t, docker("a:1")), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := archiveNames(ctx, file); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestImporter(t *testing.T) {
	for _, tt := range []struct{ runtime, have, want string }{
		{"containerd", "ctr", "/bin/ctr --address /run/c.sock --namespace k8s.io images import f.tar"},
		{"containerd", "k3s", "/bin/k3s ctr --address /run/c.sock --namespace k8s.io images import f.tar"},
		{"cri-o", "podman", "/bin/podman load --quiet --input f.tar"},
		{"containerd", "podman", ""},
		{"cri-o", "ctr", ""},
	} {
		argv, err := Importer{Runtime: tt.runtime, Socket: "unix:///run/c.sock"}.command("f.tar", func(name string) (string, error) {
			if name == tt.have {
				return "/bin/" + name, nil
			}
			return "", errors.New("not found")
		})
		if got := strings.Join(argv, " "); got != tt.want || errors.Is(err, ErrNoProgram) != (tt.want == "") {
			t.Errorf("%s with %s: %q, %v", tt.runtime, tt.have, got, err)
		}
	}
}
