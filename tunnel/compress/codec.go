package compress

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Name stands for the encoding in HTTP's headers.
const Name = "skerry-zstd-1"

const (
	// MaxBlock is the most that a block decodes to.
	MaxBlock = 64 << 10
	// minBlock is where compression begins to pay: shorter lines go as they are.
	minBlock = 100
	// maxEncoded bounds a record: what does not get smaller goes as it is.
	maxEncoded = MaxBlock

	kindPlain = 0
	kindZstd  = 1
)

// ErrMalformed is for what is no sequence of records.
var ErrMalformed = errors.New("compressed log is malformed")

// Codec has what Writers and Readers share. It may be used concurrently.
type Codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	// buffers of two blocks' length: Writers and Readers have one only while they
	// work.
	buffers sync.Pool
}

// New makes a Codec; one serves a process. It takes memory as it is used.
func New() (*Codec, error) {
	// There are no checksums: the link's own encryption has better ones.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(MaxBlock),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, fmt.Errorf("make encoder: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.IgnoreChecksum(true),
		zstd.WithDecoderMaxWindow(MaxBlock), zstd.WithDecoderMaxMemory(MaxBlock), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make decoder: %w", err)
	}
	return &Codec{enc: enc, dec: dec, buffers: sync.Pool{New: func() any { return new([2 * MaxBlock]byte) }}}, nil
}

func (c *Codec) take() *[2 * MaxBlock]byte {
	if b, ok := c.buffers.Get().(*[2 * MaxBlock]byte); ok {
		return b
	}
	return new([2 * MaxBlock]byte)
}

// Writer writes records.
type Writer struct {
	c *Codec
	w io.Writer
}

// NewWriter makes a Writer to w.
func (c *Codec) NewWriter(w io.Writer) *Writer { return &Writer{c, w} }

// Write writes p in whole records, as few as can be, one Write of the writer
// below for each.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		block := p[:min(len(p), MaxBlock)]
		if err := w.block(block); err != nil {
			return n, err
		}
		n += len(block)
		p = p[len(block):]
	}
	return n, nil
}

func (w *Writer) block(block []byte) error {
	buf := w.c.take()
	defer w.c.buffers.Put(buf)
	const head = 1 + binary.MaxVarintLen32
	kind, body := byte(kindPlain), block
	if len(block) >= minBlock {
		if z := w.c.enc.EncodeAll(block, buf[head:head]); len(z) < len(block) {
			kind, body = kindZstd, z
		}
	}
	// One Write below is one frame of HTTP and, with -f, one packet.
	var prefix [head]byte
	prefix[0] = kind
	size := 1 + binary.PutUvarint(prefix[1:], uint64(len(body)))
	record := append(buf[:0], prefix[:size]...)
	record = append(record, body...) // moves a zstd frame some bytes to the front
	if _, err := w.w.Write(record); err != nil {
		return fmt.Errorf("write a compressed block: %w", err)
	}
	return nil
}

// Reader reads what a Writer wrote.
type Reader struct {
	c *Codec
	r *bufio.Reader

	buf  *[2 * MaxBlock]byte // while there is some left
	left []byte
	err  error
}

// NewReader makes a Reader from r.
func (c *Codec) NewReader(r io.Reader) *Reader { return &Reader{c: c, r: bufio.NewReader(r)} }

// Read gives bytes as soon as a record is complete. The end of the reader below
// is an end only between records.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.err = r.next(); r.err != nil {
			r.release()
		}
	}
	n := copy(p, r.left)
	if r.left = r.left[n:]; len(r.left) == 0 {
		r.release()
	}
	return n, nil
}

func (r *Reader) release() {
	if r.buf != nil {
		r.c.buffers.Put(r.buf)
		r.buf, r.left = nil, nil
	}
}

// next reads a record.
func (r *Reader) next() error {
	kind, err := r.r.ReadByte()
	if err != nil {
		return err //nolint:wrapcheck // io.EOF must stay io.EOF
	}
	size, err := binary.ReadUvarint(r.r)
	switch {
	case err != nil:
		return fmt.Errorf("read the length of a compressed block: %w", cut(err))
	case size == 0 || size > maxEncoded || kind > kindZstd:
		return fmt.Errorf("record of kind %d with %d bytes: %w", kind, size, ErrMalformed)
	}
	r.buf = r.c.take()
	body := r.buf[MaxBlock:][:size]
	if _, err := io.ReadFull(r.r, body); err != nil {
		return fmt.Errorf("read a compressed block: %w", cut(err))
	}
	if r.left = body; kind == kindZstd {
		// A frame that says nothing of its length could have any.
		if r.left, err = r.c.dec.DecodeAll(body, r.buf[:0:MaxBlock]); err != nil {
			return fmt.Errorf("decompress: %w: %w", err, ErrMalformed)
		}
	}
	if len(r.left) == 0 { // a Writer writes none, and Read would go round and round
		return fmt.Errorf("record of no bytes: %w", ErrMalformed)
	}
	return nil
}

// cut makes the end of the reader in a record no end.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
