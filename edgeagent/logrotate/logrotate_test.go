package logrotate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writer is a container that writes to its log, and the runtime that begins new files.
type writer struct {
	t    *testing.T
	path string
	f    *os.File
	fail error
	kill func() // called when a new file is asked for, before it is made
}

func newWriter(t *testing.T) *writer {
	t.Helper()
	w := &writer{t: t, path: filepath.Join(t.TempDir(), "0.log")}
	if err := w.reopen(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.f.Close() })
	return w
}

func (w *writer) reopen(context.Context, string) error {
	if w.kill != nil {
		w.kill()
	}
	if w.fail != nil {
		return w.fail
	}
	if w.f != nil {
		_ = w.f.Close()
	}
	var err error
	w.f, err = os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	return err
}

func (w *writer) write(s string) {
	w.t.Helper()
	if _, err := w.f.WriteString(s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) files() string {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(w.path))
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// all is what parts and log hold, in order.
func (w *writer) all() string {
	w.t.Helper()
	parts, err := Parts(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	var out strings.Builder
	for _, p := range parts {
		f, err := p.Open()
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := io.Copy(&out, f); err != nil {
			w.t.Fatal(err)
		}
		_ = f.Close()
	}
	b, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	out.Write(b)
	return out.String()
}

func (w *writer) rotator(running bool) *Rotator {
	w.t.Helper()
	r, err := New(Config{
		Logs:    func() []Log { return []Log{{ContainerID: "c", Path: w.path, Running: running}} },
		Reopen:  w.reopen,
		MaxSize: 10, MaxFiles: 4,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestRotate(t *testing.T) {
	w := newWriter(t)
	synctest.Test(t, func(t *testing.T) { // time begins on 2000-01-01
		r := w.rotator(true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		step := func(text, files, kept string) {
			t.Helper()
			w.write(text)
			<-time.After(every)
			synctest.Wait()
			if d := cmp.Diff(files, w.files()); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(kept, w.all()); d != "" {
				t.Error(d)
			}
		}
		step("small\n", "0.log", "small\n")
		step("one\n", "0.log 0.log.20000101-000020", "small\none\n")
		step("two two two\n", "0.log 0.log.20000101-000020.gz 0.log.20000101-000030", "small\none\ntwo two two\n")
		step("three three\n", "0.log 0.log.20000101-000020.gz 0.log.20000101-000030.gz 0.log.20000101-000040", "small\none\ntwo two two\nthree three\n")
		step("four four four\n", "0.log 0.log.20000101-000030.gz 0.log.20000101-000040.gz 0.log.20000101-000050", "two two two\nthree three\nfour four four\n")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := Remove(w.path); err != nil {
		t.Fatal(err)
	}
	if got := w.files(); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestKilled ends the agent between any two steps of a rotation. Nothing is lost,
// and the next rotation leaves the same files as if nothing had happened.
func TestKilled(t *testing.T) {
	long := strings.Repeat("x", 10) + "\n"
	for _, tt := range []struct {
		name  string
		left  func(w *writer) // what the agent before has done to the log "a" with a part "p"
		files string
	}{
		{"nothing", func(*writer) {}, "0.log 0.log.19990101-000000.gz 0.log.20000101-000000"},
		{"while compressing", func(w *writer) {
			w.t.Helper()
			if err := os.WriteFile(w.path+".19990101-000000.tmp", []byte("half"), 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, "0.log 0.log.19990101-000000.gz 0.log.20000101-000000"},
		{"before the uncompressed part was removed", func(w *writer) {
			w.t.Helper()
			parts, err := Parts(w.path)
			if err != nil {
				w.t.Fatal(err)
			}
			raw, err := os.ReadFile(parts[0].path)
			if err = errors.Join(err, parts[0].pack(), os.WriteFile(parts[0].path, raw, 0o600)); err != nil {
				w.t.Fatal(err)
			}
		}, "0.log 0.log.19990101-000000.gz 0.log.20000101-000000"},
		{"by power loss, and the compressed part is empty", func(w *writer) {
			w.t.Helper()
			if err := os.WriteFile(w.path+".19990101-000000.gz", nil, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, "0.log 0.log.19990101-000000.gz 0.log.20000101-000000"},
		{"before the runtime was asked", func(w *writer) {
			w.t.Helper()
			if err := os.Rename(w.path, w.path+".19990202-000000"); err != nil {
				w.t.Fatal(err)
			}
		}, "0.log 0.log.19990101-000000 0.log.19990202-000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWriter(t)
			w.write(long)
			if err := os.Rename(w.path, w.path+".19990101-000000"); err != nil {
				t.Fatal(err)
			}
			if err := w.reopen(t.Context(), "c"); err != nil {
				t.Fatal(err)
			}
			w.write("and " + long)
			tt.left(w)
			synctest.Test(t, func(t *testing.T) { w.rotator(true).round(t.Context()) })
			if d := cmp.Diff(tt.files, w.files()); d != "" {
				t.Error(d)
			}
			if got, want := w.all(), long+"and "+long; got != want {
				t.Errorf("kept %q, want %q", got, want)
			}
		})
	}
}

func TestContainerEndsMeanwhile(t *testing.T) {
	w := newWriter(t)
	w.write("a line that is long\n")
	w.fail = errors.New("container is not running")
	w.rotator(true).round(t.Context())
	if got := w.files(); got != "0.log" {
		t.Errorf("files %s", got)
	}
	// The agent was killed as well: the name is given back at the next look.
	if err := os.Rename(w.path, w.path+".20000101-000000"); err != nil {
		t.Fatal(err)
	}
	w.rotator(false).round(t.Context())
	if got := w.files(); got != "0.log" {
		t.Errorf("files %s", got)
	}
}

func TestClockSetBack(t *testing.T) {
	for _, tt := range []struct{ now, last, want string }{
		{"20260102-030405", "", "20260102-030405"},
		{"20260102-030405", "20260102-030404", "20260102-030405"},
		{"20260102-030405", "20260102-030405", "20260102-030406"},
		{"19700101-000010", "20260102-235959", "20260103-000000"},
	} {
		now, err := time.Parse(stampFormat, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := nextStamp(now, tt.last); got != tt.want {
			t.Errorf("%s after %s: %s, want %s", tt.now, tt.last, got, tt.want)
		}
	}
}

func TestConfig(t *testing.T) {
	ok := Config{Logs: func() []Log { return nil }, Reopen: func(context.Context, string) error { return nil }}
	for name, change := range map[string]func(*Config){
		"no logs": func(c *Config) { c.Logs = nil }, "one file": func(c *Config) { c.MaxFiles = 1 },
	} {
		cfg := ok
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ok.MaxSize = -1
	r, err := New(ok)
	if err != nil || r.Run(t.Context()) != nil {
		t.Error(fmt.Errorf("never to rotate is no error: %w", err))
	}
}
