package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// rotated is a log of three parts, one of them compressed, and the newest file.
func rotated(t *testing.T) string {
	t.Helper()
	path := file(t, at(7)+" stdout F seven\n"+at(8)+" stdout F eight\n")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := fmt.Fprintf(w, "%s stdout F one\n%s stderr F two\n", at(1), at(2)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		".20260102-030402.gz": z.String(),
		".20260102-030404":    at(3) + " stdout F three\n" + at(4) + " stdout F four\n",
		".20260102-030406":    at(5) + " stdout F five\n" + at(6) + " stdout P six and ",
		".20260102-030406.gz": "being written",
		".other":              "none of it\n",
	} {
		if name == ".20260102-030406.gz" {
			name = ".20260102-030406.tmp"
		}
		if err := os.WriteFile(path+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestReadParts(t *testing.T) {
	path := rotated(t)
	whole := "one\ntwo\nthree\nfour\nfive\nsix and seven\neight\n"
	for _, tt := range []struct {
		name, want string
		o          Options
	}{
		{"all", whole, Options{Stream: StreamAll}},
		{"one stream", "two\n", Options{Stream: StreamStderr}},
		{"tail within the newest file", "eight\n", Options{Stream: StreamAll, TailLines: new(int64(1))}},
		{"tail over two files", "five\nsix and seven\neight\n", Options{Stream: StreamAll, TailLines: new(int64(4))}},
		{"tail into the compressed part", "two\nthree\nfour\nfive\nsix and seven\neight\n", Options{Stream: StreamAll, TailLines: new(int64(7))}},
		{"tail beyond the start", whole, Options{Stream: StreamAll, TailLines: new(int64(100))}},
		{"limit within a part", "one\ntw", Options{Stream: StreamAll, LimitBytes: new(int64(6))}},
		{"since", "eight\n", Options{Stream: StreamAll, Since: time.Date(2026, 1, 2, 3, 4, 8, 0, time.UTC)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := Read(t.Context(), &got, path, tt.o); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestDamagedParts: what a power loss has spoilt hides nothing else.
func TestDamagedParts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(gz []byte) []byte
		want  string
	}{
		{"empty", func([]byte) []byte { return nil }, ""},
		{"zeros", func(gz []byte) []byte { return make([]byte, len(gz)) }, ""},
		{"cut short", func(gz []byte) []byte { return gz[:len(gz)-10] }, "one\ntwo\n"},
		{"bad sum", func(gz []byte) []byte { return append(gz[:len(gz)-8], make([]byte, 8)...) }, "one\ntwo\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := rotated(t)
			gz, err := os.ReadFile(path + ".20260102-030402.gz")
			if err == nil {
				err = os.WriteFile(path+".20260102-030402.gz", tt.spoil(gz), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range []Options{{Stream: StreamAll}, {Stream: StreamAll, TailLines: new(int64(100))}} {
				var got bytes.Buffer
				if err := Read(t.Context(), &got, path, o); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tt.want+"three\nfour\nfive\nsix and seven\neight\n", got.String()); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			}
		})
	}
}

// TestFollowSlowly has the log rotated several times while the follower's caller
// takes nothing: not a line may be missing or come twice.
func TestFollowSlowly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	line := func(i int) string { return fmt.Sprintf("line %d %s", i, strings.Repeat("x", 100)) }
	n := 0
	write := func(lines int) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range lines {
			if _, err := fmt.Fprintf(f, "%s stdout F %s\n", stamp, line(n)); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	write(1000) // more than the follower's buffer
	out := make(chunks)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Read(ctx, out, path, Options{Stream: StreamAll, Follow: true}) }()
	var got strings.Builder
	got.WriteString(<-out) // it is in the middle of the first file, and waits
	for i := range 4 {
		part := fmt.Sprintf("%s.20260102-03040%d", path, i)
		if err := os.Rename(path, part); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			pack(t, part)
		}
		write(1000)
	}
	for strings.Count(got.String(), "\n") < n {
		select {
		case s := <-out:
			got.WriteString(s)
		case <-time.After(10 * time.Second):
			t.Fatalf("%d lines of %d", strings.Count(got.String(), "\n"), n)
		}
	}
	for i, have := range strings.Split(strings.TrimSuffix(got.String(), "\n"), "\n") {
		if have != line(i) {
			t.Fatalf("line %d is %.20q", i, have)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// pack compresses a part as logrotate does.
func pack(t *testing.T, part string) {
	t.Helper()
	raw, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(part)
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), os.WriteFile(part+".gz", z.Bytes(), 0o600),
		os.Chtimes(part+".gz", info.ModTime(), info.ModTime()), os.Remove(part)); err != nil {
		t.Fatal(err)
	}
}
