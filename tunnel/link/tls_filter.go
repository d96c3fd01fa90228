package link

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxFrame bounds the payload of a frame. A session's frames are much shorter; a
// longer one means that the two sides have lost each other.
const maxFrame = 64 << 10

// errBroken means that the peer's bytes are not frames.
var errBroken = errors.New("broken frame")

// filter reads a sequence of frames, takes out those of the carrier and passes
// the others on as they are, but for the length of their header's numbers.
type filter struct {
	in   *bufio.Reader
	take func(wire.Frame) error // a frame of the carrier; an error is the reader's

	header []byte // of the present frame, what was not passed on yet
	left   uint64 // of the present frame, payload bytes to pass on
}

func newFilter(in io.Reader, take func(wire.Frame) error) *filter {
	return &filter{in: bufio.NewReader(in), take: take}
}

// Read implements io.Reader. It returns io.EOF between two frames only.
func (f *filter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(f.header) == 0 && f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.header)
	f.header = f.header[n:]
	if n > 0 && f.in.Buffered() == 0 {
		return n, nil // the payload may take long to come
	}
	end := min(len(p), n+int(f.left))
	if n == end {
		return n, nil
	}
	m, err := f.in.Read(p[n:end])
	f.left -= uint64(m)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n + m, err
}

// next reads the next header, and the whole frame if it is for the carrier.
func (f *filter) next() error {
	h, err := wire.ReadHeader(f.in)
	if err != nil {
		return err
	}
	if h.Length > maxFrame {
		return fmt.Errorf("%w: type %d has %d bytes, bound %d", errBroken, h.Type, h.Length, maxFrame)
	}
	head := h.Append(f.header[:0])
	switch h.Type {
	case (*wire.Ping)(nil).Type(), (*wire.Pong)(nil).Type(), (*wire.Goodbye)(nil).Type():
	default:
		f.header, f.left = head, h.Length
		return nil
	}
	whole := make([]byte, len(head)+int(h.Length))
	if _, err := io.ReadFull(f.in, whole[copy(whole, head):]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	own, err := wire.NewReader(bytes.NewReader(whole), maxFrame).Next()
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return f.take(own)
}
