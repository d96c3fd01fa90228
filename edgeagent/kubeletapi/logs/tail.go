package logs

import (
	"bytes"
	"fmt"
	"io"
)

// tailBlock is how much is read at once on the way back through a file.
const tailBlock = 64 << 10

// tailOffset tells where the last n lines of a file begin, and how many of them it
// does not have: it walks back over records until it meets the end of the line
// before. The beginning of a long line may be cut off where records of the other
// stream lie in between.
func tailOffset(f io.ReaderAt, size, n int64) (offset, missing int64, err error) {
	if n <= 0 {
		return size, 0, nil
	}
	t := tail{size: size, want: n, start: size}
	// The block overlaps the one after it by a header, so that a record's header
	// is in memory when its start is found.
	buf := make([]byte, tailBlock+maxHeader)
	for end := size; end > 0; {
		from := max(end-tailBlock, 0)
		b := buf[:min(size-from, end-from+maxHeader)]
		if _, err := io.ReadFull(io.NewSectionReader(f, from, int64(len(b))), b); err != nil {
			return 0, 0, fmt.Errorf("read back at %d: %w", from, err)
		}
		for i := end - from; i > 0; {
			i = int64(bytes.LastIndexByte(b[:i], '\n'))
			if i < 0 {
				break
			}
			if t.record(from+i+1, b[i+1:]) {
				return t.start, 0, nil
			}
		}
		end = from
		if from == 0 {
			t.record(0, b)
		}
	}
	return t.start, t.want, nil
}

// tail counts lines on the way back.
type tail struct {
	size, want int64
	start      int64   // where the earliest record of a counted line begins
	seen       [2]bool // a later record of the stream was met
}

// record takes the record that starts at off with the bytes b, of which there
// is a header's worth. It reports whether the walk is over.
func (t *tail) record(off int64, b []byte) bool {
	if off >= t.size {
		return false // the file's last newline
	}
	h, _, err := parseHeader(b)
	if err != nil {
		return false
	}
	if h.partial && t.seen[h.stream] {
		t.start = off // of a line that is counted already
		return false
	}
	if t.want == 0 {
		return true
	}
	t.want--
	t.seen[h.stream] = true
	t.start = off
	return false
}
