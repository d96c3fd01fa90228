package tunnel

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A direction under way for long keeps its bytes, and does so in one place.
func TestSenderKeepsBytesInPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var d sender
	d.room, d.limit = 1<<20, 1<<62
	var want []byte // from base on
	written := byte(0)
	step := func() {
		p := make([]byte, r.IntN(20<<10))
		for i := range p {
			written++
			p[i] = written
		}
		p = p[:min(len(p), d.space())]
		written -= byte(cap(p) - len(p))
		d.write(p)
		want = append(want, p...)
		for {
			c, ok := d.chunk(1<<14, true)
			if !ok {
				break
			}
			if !bytes.Equal(c.Bytes, want[c.Offset-d.base:][:len(c.Bytes)]) {
				t.Fatalf("bytes at %d differ", c.Offset)
			}
		}
		n := r.IntN(len(want) + 1)
		if len(want) > 256<<10 || r.IntN(8) > 0 {
			n /= 8 // mostly there is something left
		}
		if !d.acked(d.base+uint64(n), 0) {
			t.Fatal("not acknowledged")
		}
		want = want[n:]
		if r.IntN(50) == 0 {
			d.rewind()
		}
		if cap(d.all) > 2*(d.room+20<<10) {
			t.Fatalf("%d bytes for %d", cap(d.all), len(d.buf))
		}
	}
	for range 5000 {
		step()
	}
	if !bytes.Equal(d.buf, want) {
		t.Error("bytes differ")
	}
}

// BenchmarkSender is a direction with 256 KiB under way.
func BenchmarkSender(b *testing.B) {
	const under, piece = 256 << 10, 16 << 10
	var d sender
	d.room, d.limit = 1<<20, 1<<62
	p := make([]byte, piece)
	b.SetBytes(piece)
	b.ReportAllocs()
	for b.Loop() {
		d.write(p)
		_, _ = d.chunk(1<<14, true)
		if len(d.buf) > under {
			d.acked(d.base+piece, 0)
		}
	}
}
