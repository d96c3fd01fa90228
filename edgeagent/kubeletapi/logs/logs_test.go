package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const stamp = "2026-01-02T03:04:05.000000006Z"

func at(sec int) string {
	return time.Date(2026, 1, 2, 3, 4, sec, 6, time.UTC).Format(time.RFC3339Nano)
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	mixed := at(1) + " stdout F one\n" +
		at(2) + " stderr F two\n" +
		"no record at all\n" +
		at(3) + " stdout P three, \n" +
		at(4) + " stdout P and more, \n" +
		at(5) + " stdout F end\n" +
		at(6) + " stderr F \n" +
		at(7) + " stdout F:later-tag last\n"
	since := time.Date(2026, 1, 2, 3, 4, 4, 0, time.UTC)
	tests := []struct {
		name, file string
		o          Options
		want       string
	}{
		{"all", mixed, Options{Stream: StreamAll}, "one\ntwo\nthree, and more, end\n\nlast\n"},
		{"stdout", mixed, Options{Stream: StreamStdout}, "one\nthree, and more, end\nlast\n"},
		{"stderr", mixed, Options{Stream: StreamStderr}, "two\n\n"},
		{"empty", "", Options{Stream: StreamAll}, ""},
		{"tail 0", mixed, Options{Stream: StreamAll, TailLines: new(int64(0))}, ""},
		{"tail 1", mixed, Options{Stream: StreamAll, TailLines: new(int64(1))}, "last\n"},
		{"tail 2", mixed, Options{Stream: StreamAll, TailLines: new(int64(2))}, "\nlast\n"},
		{"tail counts a line of three records once", mixed, Options{Stream: StreamAll, TailLines: new(int64(3))}, "three, and more, end\n\nlast\n"},
		{"tail passes over what is malformed", mixed, Options{Stream: StreamAll, TailLines: new(int64(4))}, "two\nthree, and more, end\n\nlast\n"},
		{"tail beyond the start", mixed, Options{Stream: StreamAll, TailLines: new(int64(1000))}, "one\ntwo\nthree, and more, end\n\nlast\n"},
		{"since hides a line by its first record", mixed, Options{Stream: StreamAll, Since: since}, "\nlast\n"},
		{"since after tail", mixed, Options{Stream: StreamAll, Since: since, TailLines: new(int64(3))}, "\nlast\n"},
		{
			"timestamps", mixed,
			Options{Stream: StreamAll, Timestamps: true, TailLines: new(int64(3))},
			"2026-01-02T03:04:03.000000006Z three, and more, end\n2026-01-02T03:04:06.000000006Z \n2026-01-02T03:04:07.000000006Z last\n",
		},
		{"limit", mixed, Options{Stream: StreamAll, LimitBytes: new(int64(5))}, "one\nt"},
		{"limit at the end of a line", mixed, Options{Stream: StreamAll, LimitBytes: new(int64(4))}, "one\n"},
		{"limit counts only what is shown", mixed, Options{Stream: StreamStderr, LimitBytes: new(int64(4))}, "two\n"},
		{"limit cuts a timestamp", mixed, Options{Stream: StreamAll, Timestamps: true, LimitBytes: new(int64(6))}, "2026-0"},
		{"limit beyond the end", mixed, Options{Stream: StreamAll, LimitBytes: new(int64(1 << 40))}, "one\ntwo\nthree, and more, end\n\nlast\n"},
		{"limit ends a follow", mixed, Options{Stream: StreamAll, Follow: true, LimitBytes: new(int64(7))}, "one\ntwo"},
		{"last record without a newline", stamp + " stdout F cut", Options{Stream: StreamAll}, "cut"},
		{"tail of a record without a newline", stamp + " stdout F a\n" + stamp + " stdout F cut", Options{Stream: StreamAll, TailLines: new(int64(1))}, "cut"},
		{"open partial line at the end", stamp + " stdout F a\n" + stamp + " stdout P b\n", Options{Stream: StreamAll, TailLines: new(int64(1))}, "b"},
		{"header cut at the end", stamp + " stdo", Options{Stream: StreamAll}, ""},
		{"wrong stream", stamp + " stdlog F x\n" + stamp + " stdout F y\n", Options{Stream: StreamAll}, "y\n"},
		{"wrong time", "yesterday stdout F x\n" + stamp + " stdout F y\n", Options{Stream: StreamAll}, "y\n"},
		{"endless header", strings.Repeat("z", 5000) + " stdout F x\n" + stamp + " stdout F y\n", Options{Stream: StreamAll}, "y\n"},
		{"carriage returns and spaces stay", stamp + " stdout F  a b \r\n", Options{Stream: StreamAll}, " a b \r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got bytes.Buffer
			if err := Read(t.Context(), &got, file(t, tt.file), tt.o); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestTail compares the walk back with counting from the front, over files much
// larger than its block, with lines shorter and longer than it.
func TestTail(t *testing.T) {
	var b strings.Builder
	var lines []string
	for i := range 3000 {
		line := fmt.Sprintf("%d %s", i, strings.Repeat("x", i%97))
		if i%1000 == 500 {
			line += strings.Repeat("long", tailBlock/3)
		}
		lines = append(lines, line)
		for len(line) > 16<<10 {
			fmt.Fprintf(&b, "%s stdout P %s\n", stamp, line[:16<<10])
			line = line[16<<10:]
		}
		if i%3 == 0 {
			b.WriteString("malformed\n")
		}
		fmt.Fprintf(&b, "%s stdout F %s\n", stamp, line)
	}
	path := file(t, b.String())
	for _, n := range []int{1, 2, 10, 499, 500, 999, 1500, 2499, 2500, 2501, 2999, 3000, 3001} {
		var got bytes.Buffer
		if err := Read(t.Context(), &got, path, Options{Stream: StreamAll, TailLines: new(int64(n))}); err != nil {
			t.Fatal(err)
		}
		want := strings.Join(lines[max(len(lines)-n, 0):], "\n") + "\n"
		if got.String() != want {
			t.Errorf("tail %d: %d bytes, want %d", n, got.Len(), len(want))
		}
	}
}

// TestBoundedMemory prints a record of 64 MB: what is allocated must not grow with it.
func TestBoundedMemory(t *testing.T) {
	path := file(t, stamp+" stdout F ")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	r := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			if err := Read(b.Context(), discard{}, path, Options{Stream: StreamAll, TailLines: new(int64(1))}); err != nil {
				b.Fatal(err)
			}
		}
	})
	if got := r.AllocedBytesPerOp(); got > 1<<20 {
		t.Errorf("%d bytes allocated for one read", got)
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func TestReadMissing(t *testing.T) {
	err := Read(t.Context(), &bytes.Buffer{}, filepath.Join(t.TempDir(), "0.log"), Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

// following is a Read with Follow over a file that the test writes.
type following struct {
	t       *testing.T
	path    string
	f       *os.File
	lines   chan string
	done    chan error
	cancel  context.CancelFunc
	running atomic.Bool
}

type chunks chan string

func (c chunks) Write(b []byte) (int, error) {
	c <- string(b)
	return len(b), nil
}

func follow(t *testing.T, o Options) *following {
	t.Helper()
	f := &following{t: t, path: filepath.Join(t.TempDir(), "0.log"), lines: make(chan string, 1000), done: make(chan error, 1)}
	f.create()
	f.running.Store(true)
	o.Follow, o.Running = true, f.running.Load
	ctx, cancel := context.WithCancel(t.Context())
	f.cancel = cancel
	go func() { f.done <- Read(ctx, chunks(f.lines), f.path, o) }()
	t.Cleanup(func() {
		cancel()
		if f.done != nil {
			<-f.done
		}
		_ = f.f.Close()
	})
	return f
}

func (f *following) create() {
	f.t.Helper()
	var err error
	if f.f, err = os.Create(f.path); err != nil {
		f.t.Fatal(err)
	}
}

func (f *following) write(s string) {
	f.t.Helper()
	if _, err := f.f.WriteString(s); err != nil {
		f.t.Fatal(err)
	}
}

// expect waits until want has come.
func (f *following) expect(want string) {
	f.t.Helper()
	got := ""
	for len(got) < len(want) {
		select {
		case s := <-f.lines:
			got += s
		case err := <-f.done:
			f.done = nil
			f.t.Fatalf("ended with %v after %q, want %q", err, got, want)
		case <-time.After(10 * time.Second):
			f.t.Fatalf("got %q, want %q", got, want)
		}
	}
	if got != want {
		f.t.Fatalf("got %q, want %q", got, want)
	}
}

func (f *following) end() error {
	f.t.Helper()
	select {
	case err := <-f.done:
		f.done = nil
		return err
	case <-time.After(10 * time.Second):
		f.t.Fatal("does not end")
		return nil
	}
}

func TestFollow(t *testing.T) {
	f := follow(t, Options{Stream: StreamAll})
	f.write(stamp + " stdout F one\n")
	f.expect("one\n")
	// A header in two pieces, and content that comes before its newline.
	f.write(stamp + " std")
	f.write("err F tw")
	f.expect("tw")
	f.write("o\n")
	f.expect("o\n")

	// Rotation as kubelet and containerd do it: rename, late writes, new file.
	if err := os.Rename(f.path, f.path+".20260102-030405"); err != nil {
		t.Fatal(err)
	}
	old := f.f
	f.write(stamp + " stdout F late\n")
	f.expect("late\n")
	f.create()
	if _, err := old.WriteString(stamp + " stdout P later, \n"); err != nil {
		t.Fatal(err)
	}
	old.Close()
	f.write(stamp + " stdout F new\n")
	f.expect("later, new\n")

	// Truncation in place.
	if err := f.f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	f.write(stamp + " stdout F t\n")
	f.expect("t\n")

	// The container ends: what it wrote last is printed, then the follow ends.
	f.write(stamp + " stdout F last\n")
	f.running.Store(false)
	f.expect("last\n")
	if err := f.end(); err != nil {
		t.Error(err)
	}
}

func TestFollowRotatedAtTheEnd(t *testing.T) {
	f := follow(t, Options{Stream: StreamAll})
	f.write(stamp + " stdout F one\n")
	f.expect("one\n")
	if err := os.Rename(f.path, f.path+".1"); err != nil {
		t.Fatal(err)
	}
	tmp := f.path + ".tmp"
	if err := os.WriteFile(tmp, []byte(stamp+" stdout F two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, f.path); err != nil {
		t.Fatal(err)
	}
	f.running.Store(false)
	f.expect("two\n")
	if err := f.end(); err != nil {
		t.Error(err)
	}
}

func TestFollowTail(t *testing.T) {
	path := file(t, stamp+" stdout F one\n"+stamp+" stdout F two\n")
	out := make(chunks, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Read(ctx, out, path, Options{Stream: StreamAll, Follow: true, TailLines: new(int64(1))})
	}()
	if got := <-out; got != "two\n" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v, want canceled", err)
	}
}

// TestFollowWithoutInotify is the poll that stands in when no watch can be had.
func TestFollowWithoutInotify(t *testing.T) {
	w := newWatcher(filepath.Join(t.TempDir(), "missing"))
	defer w.close()
	if w.fs != nil {
		t.Fatal("watches a directory that is not there")
	}
	if err := w.wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// events records what a parser said, with content joined.
type events struct{ s []string }

func (e *events) begin(h header) error {
	e.s = append(e.s, fmt.Sprintf("%s %d %t|", h.time.Format(time.RFC3339Nano), h.stream, h.partial))
	return nil
}

func (e *events) content(b []byte) error {
	e.s[len(e.s)-1] += string(b)
	return nil
}

func (e *events) end() error {
	e.s[len(e.s)-1] += "\n"
	return nil
}

// FuzzParser holds the parser to what a plain split into lines gives, however
// its input is cut into pieces.
func FuzzParser(f *testing.F) {
	f.Add([]byte(stamp+" stdout F a\n"+stamp+" stderr P b\n"), uint8(1))
	f.Add([]byte(stamp+" stdout  \n\n \n"+stamp+" stdout P:x:y \n"), uint8(7))
	f.Add([]byte(strings.Repeat(stamp, 20)+"\n"+stamp+" stdout F end"), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		var whole, pieces, split events
		var p, q parser
		if err := p.feed(b, &whole); err != nil {
			t.Fatal(err)
		}
		for rest := b; len(rest) > 0; {
			n := min(int(cut)%64+1, len(rest))
			if err := q.feed(rest[:n], &pieces); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if cap(p.head) > 2*maxHeader || cap(q.head) > 2*maxHeader {
			t.Fatalf("header buffer grew to %d and %d", cap(p.head), cap(q.head))
		}
		for line := range bytes.SplitAfterSeq(b, []byte{'\n'}) {
			h, n, err := parseHeader(line)
			if err != nil {
				continue
			}
			_ = split.begin(h)
			_ = split.content(bytes.TrimSuffix(line[n:], []byte{'\n'}))
			if bytes.HasSuffix(line, []byte{'\n'}) {
				_ = split.end()
			}
		}
		if d := cmp.Diff(split.s, whole.s); d != "" {
			t.Errorf("in one piece (-want +got):\n%s", d)
		}
		if d := cmp.Diff(split.s, pieces.s); d != "" {
			t.Errorf("in pieces of %d (-want +got):\n%s", cut%64+1, d)
		}
	})
}
