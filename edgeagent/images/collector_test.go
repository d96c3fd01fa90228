package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// store is a runtime with images of 10 bytes on a disk of 100.
type store struct {
	mu sync.Mutex // guards the following fields

	images     []cri.Image
	containers []cri.Container
	other      uint64 // bytes in use by something else
	broken     string // an image that can't be removed
	wanted     []string
	unknown    bool
	pause      string
	events     []string
}

// change changes it while a Collector runs.
func (s *store) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *store) add(ids ...string) {
	for _, id := range ids {
		s.images = append(s.images, cri.Image{ID: "sha256:" + id, Tags: []string{"docker.io/library/" + id + ":1"}, SizeBytes: 10})
	}
}

func (s *store) ListImages(context.Context) ([]cri.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.images), nil
}

func (s *store) ListContainers(context.Context, map[string]string) ([]cri.Container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.containers, nil
}

func (s *store) RemoveImage(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.broken {
		return errors.New("read-only file system")
	}
	s.images = slices.DeleteFunc(s.images, func(i cri.Image) bool { return i.ID == id })
	return nil
}

func (s *store) ImageFilesystems(context.Context) ([]cri.FilesystemUsage, error) {
	return []cri.FilesystemUsage{{Mountpoint: "/images"}}, nil
}

func (s *store) SandboxImage(context.Context) (string, error) { return s.pause, nil }

func (s *store) disk(path string) (capacity, available uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path != "/images" {
		return 0, 0, fmt.Errorf("asked for %s", path)
	}
	return 100, 100 - s.other - 10*uint64(len(s.images)), nil
}

func (s *store) left() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, i := range s.images {
		out = append(out, strings.TrimPrefix(i.ID, "sha256:"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// collecting runs a Collector over s in virtual time.
func collecting(t *testing.T, s *store, change func(*CollectorConfig), body func(t *testing.T, c *Collector)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := CollectorConfig{
			Runtime: s, Disk: s.disk, HighThreshold: DefaultHighThreshold, LowThreshold: DefaultLowThreshold, MinAge: DefaultMinAge,
			Wanted: func() ([]string, bool) {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.wanted, !s.unknown
			},
			Event: func(kind, reason, message string) {
				s.change(func() { s.events = append(s.events, kind+" "+reason+": "+message) })
			},
		}
		if change != nil {
			change(&cfg)
		}
		c, err := NewCollector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		body(t, c)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestLeastRecentlyUsedFirst(t *testing.T) {
	s := &store{}
	s.add("a", "b", "c", "d")
	s.containers = []cri.Container{{Image: "docker.io/library/a:1"}, {ImageRef: "sha256:b"}, {ImageID: "sha256:c"}}
	collecting(t, s, nil, func(t *testing.T, _ *Collector) {
		t.Helper()
		pass(time.Minute)
		s.change(func() { s.containers = s.containers[1:] }) // a is used no more
		pass(collectEvery)
		s.change(func() { s.containers = s.containers[:1] }) // nor c
		pass(collectEvery)
		s.change(func() { s.containers = nil })
		if got := s.left(); got != "a b c d" {
			t.Fatalf("left %s: there is room", got)
		}
		// d was never used; then a, c, b. To 80 percent: two of them.
		s.change(func() { s.other = 55 })
		pass(collectEvery)
		if got := s.left(); got != "b c" {
			t.Errorf("left %s", got)
		}
		if len(s.events) > 0 {
			t.Error(s.events)
		}
	})
}

func digest(hex string) string { return "sha256:" + strings.Repeat(hex, 32) }

func TestKeptImages(t *testing.T) {
	s := &store{other: 40, pause: "docker.io/library/pause:1", wanted: []string{"wanted:1", "r.io/digest@" + digest("ab"), "both:1@" + digest("cd")}}
	s.add("used", "wanted", "pause", "pinned", "digest", "both")
	s.images[3].Pinned = true
	s.images[4].Tags, s.images[4].Digests = nil, []string{"r.io/digest@" + digest("ab")}
	s.images[5].Tags, s.images[5].Digests = nil, []string{"docker.io/library/both@" + digest("cd")}
	s.containers = []cri.Container{{Image: "sha256:used"}}
	collecting(t, s, nil, func(t *testing.T, c *Collector) {
		t.Helper()
		pass(collectEvery + time.Second)
		s.change(func() { s.add("young") })
		pass(collectEvery - DefaultMinAge/2)
		if got := s.left(); got != "both digest pause pinned used wanted young" {
			t.Errorf("left %s", got)
		}
		if err := c.DeleteUnused(t.Context()); err != nil {
			t.Error(err)
		}
		want := "Warning FreeDiskSpaceFailed: Insufficient free disk space on the node's image filesystem (100% of 100 B used). " +
			"Failed to free sufficient space by deleting unused images (freed 0 bytes). " +
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
		if len(s.events) == 0 || s.events[0] != want {
			t.Errorf("events %q, want %q", s.events, want)
		}
		if !slices.ContainsFunc(s.events, func(e string) bool {
			return strings.HasPrefix(e, "Warning ImageGCFailed: Insufficient free disk space")
		}) {
			t.Errorf("it failed twice: %q", s.events)
		}
	})
}

func TestNothingWhileUnknown(t *testing.T) {
	s := &store{other: 80, unknown: true}
	s.add("a", "b")
	collecting(t, s, nil, func(t *testing.T, c *Collector) {
		t.Helper()
		pass(10 * collectEvery)
		if err := c.DeleteUnused(t.Context()); !errors.Is(err, ErrNotKnown) {
			t.Errorf("got %v", err)
		}
		if got := s.left(); got != "a b" || len(s.events) > 0 {
			t.Errorf("left %s, events %s", got, s.events)
		}
		s.change(func() { s.unknown = false })
		pass(lookAgain)
		if got := s.left(); got != "" {
			t.Errorf("left %s", got)
		}
	})
}

func TestDeleteUnused(t *testing.T) {
	s := &store{broken: "sha256:c"}
	s.add("a", "b", "c", "d")
	s.containers = []cri.Container{{Image: "sha256:a"}}
	collecting(t, s, nil, func(t *testing.T, c *Collector) {
		t.Helper()
		pass(DefaultMinAge)
		err := c.DeleteUnused(t.Context())
		if err == nil || !strings.Contains(err.Error(), "with errors in image deletion: read-only file system") {
			t.Errorf("got %v", err)
		}
		if got := s.left(); got != "a c" {
			t.Errorf("left %s", got)
		}
	})
}

// TestDeleteUnusedAtOnce: what was there before the agent may go at once, whatever
// the thresholds; what has come since may belong to a container that is being made.
func TestDeleteUnusedAtOnce(t *testing.T) {
	for _, high := range []int{DefaultHighThreshold, 100} {
		s := &store{other: 60}
		s.add("a", "b")
		collecting(t, s, func(c *CollectorConfig) { c.HighThreshold, c.MinAge = high, 3*collectEvery }, func(t *testing.T, c *Collector) {
			t.Helper()
			s.change(func() { s.add("c") })
			pass(collectEvery)
			s.change(func() { s.add("d") })
			pass(collectEvery)
			if got := s.left(); high == 100 && got != "a b c d" {
				t.Errorf("left %s: nothing was to go for want of room", got)
			}
			if err := c.DeleteUnused(t.Context()); err != nil {
				t.Error(err)
			}
			if got := s.left(); got != "c d" {
				t.Errorf("high threshold %d: left %s", high, got)
			}
			pass(2 * collectEvery)
			if err := c.DeleteUnused(t.Context()); err != nil {
				t.Error(err)
			}
			if got := s.left(); got != "d" {
				t.Errorf("high threshold %d: left %s", high, got)
			}
		})
	}
}

// TestLowestThresholds: of a disk that has anything on it one percent is full.
func TestLowestThresholds(t *testing.T) {
	s := &store{}
	s.add("a", "b")
	collecting(t, s, func(c *CollectorConfig) {
		c.HighThreshold, c.LowThreshold = 1, 0
		c.Disk = func(string) (capacity, available uint64, err error) { return 1 << 40, 1<<40 - 1<<20, nil }
	}, func(t *testing.T, _ *Collector) {
		t.Helper()
		if got := s.left(); got != "" {
			t.Errorf("left %s", got)
		}
	})
}

func TestMaxAge(t *testing.T) {
	s := &store{}
	s.add("a", "b")
	s.containers = []cri.Container{{Image: "sha256:a"}}
	collecting(t, s, func(c *CollectorConfig) { c.MaxAge, c.HighThreshold = time.Hour, 100 }, func(t *testing.T, _ *Collector) {
		t.Helper()
		pass(time.Hour + time.Second)
		if got := s.left(); got != "a b" {
			t.Errorf("left %s: nobody knows since when b is not used", got)
		}
		s.change(func() { s.containers = nil })
		pass(collectEvery)
		if got := s.left(); got != "a" {
			t.Errorf("left %s", got)
		}
		pass(time.Hour)
		if got := s.left(); got != "" {
			t.Errorf("left %s", got)
		}
	})
}

func TestThresholds(t *testing.T) {
	for _, tt := range []struct{ high, low int }{{80, 85}, {101, 80}, {85, -1}} {
		cfg := CollectorConfig{Runtime: &store{}, Wanted: func() ([]string, bool) { return nil, true }, HighThreshold: tt.high, LowThreshold: tt.low}
		if _, err := NewCollector(cfg); err == nil {
			t.Errorf("%v: no error", tt)
		}
	}
}

func TestFormatSize(t *testing.T) {
	got := []string{formatSize(1), formatSize(1023), formatSize(1536), formatSize(10 << 20), formatSize(5 << 30), formatSize(3000 << 40)}
	if d := cmp.Diff([]string{"1 B", "1023 B", "1.5 KiB", "10.0 MiB", "5.0 GiB", "3000.0 TiB"}, got); d != "" {
		t.Error(d)
	}
}
