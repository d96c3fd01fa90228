package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

func newCodec(tb testing.TB) *Codec {
	tb.Helper()
	c, err := New()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// logText is like what a service says.
func logText(size int) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	paths := []string{"/api/v1/orders", "/api/v1/users", "/healthz", "/metrics"}
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "2026-11-23T06:%02d:%02d.%03dZ INFO request done method=GET path=%s/%d status=200 duration=%dms remote=10.0.%d.%d\n",
			i/60%60, i%60, r.IntN(1000), paths[r.IntN(len(paths))], r.IntN(100000), r.IntN(300), r.IntN(4), r.IntN(256))
	}
	return b.Bytes()[:size]
}

func noise(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	c := newCodec(t)
	for name, text := range map[string][]byte{
		"nothing": {}, "byte": {1}, "line": []byte("hello\n"), "long line": logText(500), "block": logText(MaxBlock), "more": logText(3*MaxBlock + 17),
		"noise": noise(MaxBlock), "zeros": make([]byte, 5*MaxBlock),
	} {
		t.Run(name, func(t *testing.T) {
			var wire bytes.Buffer
			if n, err := c.NewWriter(&wire).Write(text); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
			if extra := wire.Len() - len(text); extra > 4*(len(text)/MaxBlock+1) {
				t.Errorf("%d bytes became %d", len(text), wire.Len())
			}
			encoded := wire.Bytes()
			got, err := io.ReadAll(c.NewReader(iotest.OneByteReader(bytes.NewReader(encoded))))
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
			// What is cut off does not look whole, unless between records.
			for i := 1; i < min(len(encoded), 300); i++ {
				got, err := io.ReadAll(c.NewReader(bytes.NewReader(encoded[:i])))
				if !errors.Is(err, io.ErrUnexpectedEOF) && len(text) <= MaxBlock {
					t.Fatalf("after %d of %d bytes: %v", i, len(encoded), err)
				}
				if !bytes.HasPrefix(text, got) {
					t.Fatalf("after %d bytes something else came", i)
				}
			}
		})
	}
}

func TestGolden(t *testing.T) {
	c := newCodec(t)
	var wire bytes.Buffer
	w := c.NewWriter(&wire)
	_, _ = w.Write([]byte("hi\n"))
	if got, want := fmt.Sprintf("%x", wire.Bytes()), "000368690a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	wire.Reset()
	_, _ = w.Write(bytes.Repeat([]byte("a"), 200))
	if b := wire.Bytes(); b[0] != kindZstd || int(b[1]) != len(b)-2 || !bytes.Equal(b[2:6], []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		t.Errorf("got %x", b)
	}
}

// TestNothingIsHeldBack: what was written can be read before more is.
func TestNothingIsHeldBack(t *testing.T) {
	c := newCodec(t)
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() {
		w := c.NewWriter(pw)
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "%d %s\n", i, strings.Repeat("long", 100))
		}
		select {} // the pipe stays open
	}()
	r := c.NewReader(pr)
	for i := range 3 {
		want := fmt.Sprintf("%d %s\n", i, strings.Repeat("long", 100))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

// TestBombs: what an edge sends takes no more memory than two blocks.
func TestBombs(t *testing.T) {
	c := newCodec(t)
	zeros := c.enc.EncodeAll(make([]byte, MaxBlock+1), nil)
	for name, wire := range map[string][]byte{
		"too long when decoded": append([]byte{kindZstd, byte(len(zeros))}, zeros...),
		"too long a record":     {kindPlain, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"too long a number":     append([]byte{kindPlain}, bytes.Repeat([]byte{0xff}, 20)...),
		"another kind":          {2, 1, 0},
		"no zstd":               {kindZstd, 3, 1, 2, 3},
	} {
		got, err := io.ReadAll(c.NewReader(bytes.NewReader(wire)))
		if err == nil || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestMemoryOfManyLogs: a hundred logs that wait hold next to nothing, and those
// that are at work at once share the tables.
func TestMemoryOfManyLogs(t *testing.T) {
	c := newCodec(t)
	text := logText(32 << 10)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const logs = 100
	before := heap()
	writers, readers := make([]*Writer, logs), make([]*Reader, logs)
	var wg sync.WaitGroup
	for i := range logs {
		pr, pw := io.Pipe()
		writers[i], readers[i] = c.NewWriter(pw), c.NewReader(pr)
		wg.Go(func() {
			if _, err := writers[i].Write(text); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := io.ReadFull(readers[i], make([]byte, len(text))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	after := heap()
	t.Logf("%d KB for %d logs at both ends", (after-before)>>10, logs)
	if after-before > 8<<20 {
		t.Errorf("%d bytes for %d logs", after-before, logs)
	}
	runtime.KeepAlive(writers)
	runtime.KeepAlive(readers)
}

func FuzzReader(f *testing.F) {
	c := newCodec(f)
	for _, text := range [][]byte{[]byte("hi\n"), logText(300), logText(MaxBlock + 1)} {
		var wire bytes.Buffer
		_, _ = c.NewWriter(&wire).Write(text)
		f.Add(wire.Bytes())
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, err := io.ReadAll(c.NewReader(bytes.NewReader(wire)))
		if err == nil && len(got) > (len(wire)/2+1)*MaxBlock {
			t.Errorf("%d bytes of %d", len(got), len(wire))
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	c := newCodec(b)
	for name, text := range map[string][]byte{"text": logText(32 << 10), "noise": noise(32 << 10), "line": logText(120)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var wire bytes.Buffer
			w := c.NewWriter(&wire)
			for b.Loop() {
				wire.Reset()
				if _, err := w.Write(text); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(text))/float64(wire.Len()), "ratio")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	c := newCodec(b)
	text := logText(32 << 10)
	var wire bytes.Buffer
	if _, err := c.NewWriter(&wire).Write(text); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.Copy(io.Discard, c.NewReader(bytes.NewReader(wire.Bytes()))); err != nil {
			b.Fatal(err)
		}
	}
}

// Records that hold nothing would cost a reader work and memory that nobody waits for.
func TestEmptyRecords(t *testing.T) {
	c := newCodec(t)
	empty := c.enc.EncodeAll(nil, nil)
	if len(empty) == 0 { // a frame of no bytes, written by hand
		empty = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00}
	}
	for name, record := range map[string][]byte{
		"plain": {kindPlain, 0}, "zstd without a frame": {kindZstd, 0}, "zstd": append([]byte{kindZstd, byte(len(empty))}, empty...),
	} {
		r := c.NewReader(bytes.NewReader(bytes.Repeat(record, 1000)))
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: read %d bytes, %v", name, n, err)
		}
		if r.buf != nil {
			t.Errorf("%s: a buffer was kept", name)
		}
	}
}
