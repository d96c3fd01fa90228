package codec

import (
	"encoding/binary"
	"fmt"

	"github.com/gopcua/opcua/ua"
)

const (
	// maxDepth is how deep Variants, DataValues, structures and diagnostics may
	// nest. Part 6, 5.1.7 asks for 100 at most from an encoder.
	maxDepth = 100
	// maxElements bounds what one message makes of arrays in Variants, whose
	// elements cost more in memory than on the wire.
	maxElements = 1 << 20
	// maxArray is gopcua's own bound of one array in a Variant.
	maxArray = 0xffff
)

// walker goes over a message and takes nothing.
type walker struct {
	b        []byte
	at       int
	elements int
	err      error
}

func (w *walker) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%w at byte %d: %s", ErrMalformed, w.at, fmt.Sprintf(format, args...))
	}
}

func (w *walker) skip(n int) {
	if w.err != nil {
		return
	}
	if n < 0 || n > len(w.b)-w.at {
		w.fail("%d bytes wanted, %d left", n, len(w.b)-w.at)
		return
	}
	w.at += n
}

func (w *walker) byte() byte {
	at := w.at
	w.skip(1)
	if w.err != nil {
		return 0
	}
	return w.b[at]
}

func (w *walker) uint32() uint32 {
	at := w.at
	w.skip(4)
	if w.err != nil {
		return 0
	}
	return binary.LittleEndian.Uint32(w.b[at:])
}

// bytes skips a String or ByteString: a length, -1 for null, and so many bytes.
func (w *walker) bytes() {
	if n := w.uint32(); n != 0xffffffff {
		if n > uint32(len(w.b)) {
			w.fail("%d bytes of text", n)
			return
		}
		w.skip(int(n))
	}
}

// length reads how many elements of at least one byte follow.
func (w *walker) length() int {
	n := w.uint32()
	if w.err != nil || n == 0xffffffff {
		return 0
	}
	if int64(n) > int64(len(w.b)-w.at) {
		w.fail("array of %d in %d bytes", n, len(w.b)-w.at)
		return 0
	}
	w.count(int(n))
	return int(n)
}

func (w *walker) count(n int) {
	w.elements += n
	if w.elements > maxElements {
		w.fail("more than %d elements", maxElements)
	}
}

// nodeID skips a NodeId and gives its first byte, whose upper bits an
// ExpandedNodeId uses (Part 6, 5.2.2.9).
func (w *walker) nodeID() byte {
	mask := w.byte()
	switch mask & 0xf {
	case 0:
		w.skip(1)
	case 1:
		w.skip(3)
	case 2:
		w.skip(6)
	case 3, 5:
		w.skip(2)
		w.bytes()
	case 4:
		w.skip(18)
	default:
		w.fail("NodeId of kind %d", mask&0xf)
	}
	return mask
}

func (w *walker) expandedNodeID() {
	mask := w.nodeID()
	if mask&0x80 != 0 {
		w.bytes()
	}
	if mask&0x40 != 0 {
		w.skip(4)
	}
}

func (w *walker) localizedText() {
	mask := w.byte()
	if mask&1 != 0 {
		w.bytes()
	}
	if mask&2 != 0 {
		w.bytes()
	}
}

func (w *walker) diagnosticInfo(depth int) {
	for ; w.err == nil; depth++ {
		if depth > maxDepth {
			w.fail("nested deeper than %d", maxDepth)
			return
		}
		mask := w.byte()
		for _, bit := range []byte{1, 2, 8, 4} { // four numbers
			if mask&bit != 0 {
				w.skip(4)
			}
		}
		if mask&0x10 != 0 {
			w.bytes()
		}
		if mask&0x20 != 0 {
			w.skip(4)
		}
		if mask&0x40 == 0 {
			return
		}
	}
}

func (w *walker) dataValue(depth int) {
	mask := w.byte()
	if mask&1 != 0 {
		w.variant(depth + 1)
	}
	for _, f := range [...]struct {
		bit  byte
		size int
	}{{2, 4}, {4, 8}, {0x10, 2}, {8, 8}, {0x20, 2}} {
		if mask&f.bit != 0 {
			w.skip(f.size)
		}
	}
}

// fixed gives the size of the built-in types that have one (Part 6, 5.1.2).
var fixed = [...]int{1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8, 14: 16, 19: 4, 25: 0} //nolint:gochecknoglobals // a constant table

// Size is how many bytes a value of a built-in type takes, 0 where that depends on
// the value.
func Size(t ua.TypeID) int {
	if int(t) < len(fixed) {
		return fixed[t]
	}
	return 0
}

func (w *walker) variant(depth int) {
	if depth > maxDepth {
		w.fail("nested deeper than %d", maxDepth)
		return
	}
	mask := w.byte()
	kind := mask & 0x3f
	if kind == 0 {
		return
	}
	if kind > 25 {
		w.fail("built-in type %d", kind)
		return
	}
	if mask&0x80 == 0 {
		w.builtin(kind, depth)
		return
	}
	n := int32(w.uint32())
	if n < -1 || n > maxArray {
		w.fail("array of %d", n)
		return
	}
	w.count(int(max(n, 0)))
	if size := fixed[kind]; size > 0 {
		w.skip(int(max(n, 0)) * size)
	} else {
		for i := int32(0); i < n && w.err == nil; i++ {
			w.builtin(kind, depth)
		}
	}
	if mask&0x40 != 0 {
		w.dimensions(max(n, 0))
	}
}

// dimensions must multiply to n: gopcua's product wraps.
func (w *walker) dimensions(n int32) {
	dims := w.uint32()
	if w.err != nil || dims > 16 {
		w.fail("%d dimensions", dims)
		return
	}
	product := int64(1)
	for range dims {
		d := w.uint32()
		if product *= int64(d); d == 0 || product > maxArray {
			w.fail("dimension of %d", d)
			return
		}
	}
	if dims > 0 && product != int64(n) {
		w.fail("dimensions for %d elements, not %d", product, n)
	}
}

func (w *walker) builtin(kind byte, depth int) {
	switch kind {
	case 12, 15, 16:
		w.bytes()
	case 17:
		w.nodeID()
	case 18:
		w.expandedNodeID()
	case 20:
		w.skip(2)
		w.bytes()
	case 21:
		w.localizedText()
	case 22:
		w.extensionObject(depth + 1)
	case 23:
		w.dataValue(depth + 1)
	case 24:
		w.variant(depth + 1)
	case 25:
		w.diagnosticInfo(depth + 1)
	default:
		w.skip(fixed[kind])
	}
}
