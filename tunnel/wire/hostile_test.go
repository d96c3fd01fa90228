package wire

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/quic-go/quic-go/quicvarint"
)

// TestListsCostWhatTheyAre: a frame of the smallest items there can be, and one that
// says it has more than its bytes could hold.
func TestListsCostWhatTheyAre(t *testing.T) {
	const size = 60 << 10
	for _, tt := range []struct {
		name   string
		before []byte // what comes before the list
		typ    Type
		least  int // bytes of an item
	}{
		{"have", []byte{0}, typeHave, 2},
		{"progress", nil, typeProgress, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frame := func(n int) []byte {
				b := quicvarint.Append(bytes.Clone(tt.before), uint64(n))
				b = append(b, make([]byte, size)...)
				head := quicvarint.Append(quicvarint.Append(nil, uint64(tt.typ)), uint64(len(b)))
				return append(head, b...)
			}
			n := size / tt.least
			whole := frame(n)
			took := allocated(func() {
				if _, err := reader(whole).Next(); err != nil {
					t.Error(err)
				}
			})
			// The frame itself, the reader's buffers, and structs of up to 40 bytes.
			if most := uint64(n*48 + 3*size); took > most {
				t.Errorf("%d items of %d bytes cost %d bytes, want at most %d", n, tt.least, took, most)
			}
			more := frame(n + 1)
			took = allocated(func() {
				if _, err := reader(more).Next(); !errors.Is(err, ErrMalformed) {
					t.Errorf("one item more than there is room for: got %v, want ErrMalformed", err)
				}
			})
			if took > 4*size {
				t.Errorf("one item more than there is room for costs %d bytes", took)
			}
		})
	}
}

// allocated gives how many bytes f asks for.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
