package dictionary

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func pair(tb testing.TB) (*Encoder, *Decoder) {
	tb.Helper()
	e, err := NewEncoder()
	if err != nil {
		tb.Fatal(err)
	}
	d, err := NewDecoder()
	if err != nil {
		tb.Fatal(err)
	}
	return e, d
}

func TestRoundTrip(t *testing.T) {
	e, d := pair(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 63, 64, 1000, 100_000, 512 << 10, 512<<10 + 1, 1 << 20, MaxDecoded} {
		for name, value := range map[string][]byte{"text": bytes.Repeat([]byte("registry.example.com/"), n/21+1)[:n], "noise": noise(rng, n)} {
			encoding, encoded := e.Encode(value)
			back, err := d.Decode(encoding, encoded)
			if err != nil || !bytes.Equal(back, value) {
				t.Errorf("%d bytes of %s, encoding %d: %v", n, name, encoding, err)
			}
			if len(encoded) > n {
				t.Errorf("%d bytes of %s grew to %d", n, name, len(encoded))
			}
		}
	}
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestHostile: what a stranger sends must cost an edge little memory.
func TestHostile(t *testing.T) {
	_, d := pair(t)
	compress := func(n int, opts ...zstd.EOption) []byte {
		z, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return z.EncodeAll(make([]byte, n), nil)
	}
	var stream bytes.Buffer // without a size in its header
	z, err := zstd.NewWriter(&stream, zstd.WithWindowSize(128<<10))
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := z.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing":                    {},
		"noise":                      []byte("this is not zstd"),
		"one byte too much":          compress(MaxDecoded+1, zstd.WithWindowSize(maxWindow)),
		"a bomb with its size":       compress(64<<20, zstd.WithWindowSize(maxWindow)),
		"a bomb without":             stream.Bytes(),
		"a large window":             compress(3<<20, zstd.WithWindowSize(8<<20)),
		"one block as large":         compress(3<<20, zstd.WithSingleSegment(true)),
		"a dictionary of another id": compress(1000, zstd.WithEncoderDictRaw(77, []byte("another dictionary"))),
		"a header alone":             {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if out, err := d.Decode(Zstd1, b); err == nil {
			t.Errorf("%s: gave %d bytes", name, len(out))
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > MaxDecoded+MaxDecoded/2 {
			t.Errorf("%s: %d bytes were allocated", name, got)
		}
	}
	if _, err := d.Decode(2, nil); !errors.Is(err, ErrEncoding) {
		t.Errorf("unknown encoding: got %v, want ErrEncoding", err)
	}
}

func FuzzDecode(f *testing.F) {
	e, d := pair(f)
	for _, s := range []string{"", "x", "registry.example.com/web-server:latest registry.example.com/web-server:latest"} {
		_, encoded := e.Encode([]byte(s))
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := d.Decode(Zstd1, b); err == nil && len(out) > MaxDecoded {
			t.Errorf("%d bytes came out", len(out))
		}
		encoding, encoded := e.Encode(b)
		if back, err := d.Decode(encoding, encoded); err != nil || !bytes.Equal(back, b) {
			t.Errorf("round trip: %v", err)
		}
	})
}
