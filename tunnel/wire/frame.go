package wire

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/quic-go/quic-go/quicvarint"
)

// Errors of decoders. Both mean that the peer broke the protocol.
var (
	ErrTooLarge  = errors.New("frame exceeds the bound of this stream")
	ErrMalformed = errors.New("malformed frame")
)

// Type tells frames apart.
type Type uint64

// Frame is one message. Its zero value is a valid frame.
type Frame interface {
	// Type is the number on the wire.
	Type() Type
	appendPayload(b []byte) []byte
	parsePayload(d *decoder)
}

// newFrame gives an empty frame of type t, or nil when this build does not know t.
func newFrame(t Type) Frame { //nolint:ireturn // a decoder's result is an interface by nature
	switch t {
	case typeHello:
		return &Hello{}
	case typeWelcome:
		return &Welcome{}
	case typeHave:
		return &Have{}
	case typeUpsert:
		return &Upsert{}
	case typeDelete:
		return &Delete{}
	case typeSynced:
		return &Synced{}
	case typeAck:
		return &Ack{}
	case typeReport:
		return &Report{}
	case typeReportAck:
		return &ReportAck{}
	case typeExecRequest:
		return &ExecRequest{}
	case typeData:
		return &Data{}
	case typeResize:
		return &Resize{}
	case typeCloseInput:
		return &CloseInput{}
	case typeExit:
		return &Exit{}
	case typeError:
		return &Error{}
	case typeStreamOpen:
		return &StreamOpen{}
	case typeStreamData:
		return &StreamData{}
	case typeStreamAck:
		return &StreamAck{}
	case typeStreamAbort:
		return &StreamAbort{}
	case typeResume:
		return &Resume{}
	case typeGoAway:
		return &GoAway{}
	case typePing:
		return &Ping{}
	case typePong:
		return &Pong{}
	case typeGoodbye:
		return &Goodbye{}
	case typeDigest:
		return &Digest{}
	case typeWant:
		return &Want{}
	case typeProgress:
		return &Progress{}
	case typeOutbox:
		return &Outbox{}
	case typeResend:
		return &Resend{}
	case typeForwardRequest:
		return &ForwardRequest{}
	case typePacketAck:
		return &PacketAck{}
	case typePacketProbe:
		return &PacketProbe{}
	}
	return nil
}

// Append appends f, with its type and length, to b.
func Append(b []byte, f Frame) []byte {
	b = quicvarint.Append(b, uint64(f.Type()))
	// Two bytes of length serve nearly every frame; longer ones move the payload once.
	const guess = 2
	start := len(b)
	b = append(b, make([]byte, guess)...)
	b = f.appendPayload(b)
	n := uint64(len(b) - start - guess)
	if need := quicvarint.Len(n); need > guess {
		b = append(b, make([]byte, need-guess)...)
		copy(b[start+need:], b[start+guess:])
		quicvarint.AppendWithLen(b[:start], n, need)
		return b
	}
	quicvarint.AppendWithLen(b[:start], n, guess)
	return b
}

// Write writes f to w in one call of w.Write.
func Write(w io.Writer, f Frame) error {
	if _, err := w.Write(Append(nil, f)); err != nil {
		return fmt.Errorf("write %T: %w", f, err)
	}
	return nil
}

// byteReader is what a Reader needs; *bufio.Reader has it.
type byteReader interface {
	io.Reader
	io.ByteReader
}

const (
	// keptBuffer is how much a Reader may hold while it waits for a frame: there is one
	// for each stream of each edge. Larger buffers are shared.
	keptBuffer = 512
	// sharedBuffer holds any chunk of a stream.
	sharedBuffer = MaxChunk + 64
)

// buffers are those of sharedBuffer bytes that no Reader has.
var buffers = sync.Pool{New: func() any { return new([sharedBuffer]byte) }} //nolint:gochecknoglobals // a pool serves best whom it need not be handed to

// Reader reads frames one after another.
type Reader struct {
	r      byteReader
	max    uint64
	buf    []byte              // its own
	shared *[sharedBuffer]byte // nil between frames
}

// NewReader reads frames of at most maxPayload bytes from r. A bufio.Reader is
// the usual r: a header is read byte by byte.
func NewReader(r byteReader, maxPayload int) *Reader {
	return &Reader{r: r, max: uint64(max(maxPayload, 0))}
}

// payload reads n bytes. What it holds grows only as they come: a header alone claims
// nothing.
func (r *Reader) payload(n int) ([]byte, error) {
	if n <= keptBuffer {
		if cap(r.buf) < n {
			r.buf = make([]byte, n)
		}
		b := r.buf[:n]
		_, err := io.ReadFull(r.r, b)
		return b, noEOF(err)
	}
	first, err := r.r.ReadByte()
	if err != nil {
		return nil, noEOF(err)
	}
	if n <= sharedBuffer {
		r.shared, _ = buffers.Get().(*[sharedBuffer]byte)
		b := r.shared[:n]
		b[0] = first
		_, err := io.ReadFull(r.r, b[1:])
		return b, noEOF(err)
	}
	b := make([]byte, 1, sharedBuffer)
	b[0] = first
	for len(b) < n {
		if len(b) == cap(b) {
			b = slices.Grow(b, min(len(b), n-len(b)))
		}
		have := len(b)
		b = b[:min(cap(b), n)]
		if _, err := io.ReadFull(r.r, b[have:]); err != nil {
			return nil, noEOF(err)
		}
	}
	return b, nil
}

// release gives back what the last frame's bytes were in.
func (r *Reader) release() {
	if r.shared != nil {
		buffers.Put(r.shared)
		r.shared = nil
	}
}

// Next returns the next frame whose type is known. Byte slices inside it are
// valid until the following call. It returns io.EOF when the stream ends
// between frames, io.ErrUnexpectedEOF when it ends inside one, and ErrTooLarge
// or ErrMalformed when the peer broke the protocol.
func (r *Reader) Next() (Frame, error) {
	r.release()
	for {
		t, err := quicvarint.Read(r.r)
		if err != nil {
			return nil, err
		}
		n, err := quicvarint.Read(r.r)
		if err != nil {
			return nil, noEOF(err)
		}
		if n > r.max {
			return nil, fmt.Errorf("frame type %d of %d bytes, bound %d: %w", t, n, r.max, ErrTooLarge)
		}
		f := newFrame(Type(t))
		if f == nil {
			if _, err := io.CopyN(io.Discard, r.r, int64(n)); err != nil {
				return nil, noEOF(err)
			}
			continue
		}
		b, err := r.payload(int(n))
		if err != nil {
			return nil, err
		}
		d := decoder{b: b}
		f.parsePayload(&d)
		if d.err != nil {
			return nil, fmt.Errorf("parse %T: %w", f, d.err)
		}
		return f, nil
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func appendUint(b []byte, v uint64) []byte { return quicvarint.Append(b, v) }

func appendBytes[T ~string | ~[]byte](b []byte, v T) []byte {
	b = quicvarint.Append(b, uint64(len(v)))
	return append(b, v...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendStrings(b []byte, v []string) []byte {
	b = quicvarint.Append(b, uint64(len(v)))
	for _, s := range v {
		b = appendBytes(b, s)
	}
	return b
}

// decoder takes fields off the front of a payload. After the first fault every
// method returns zero values and err says what was wrong.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n, err := quicvarint.Parse(d.b)
	if err != nil {
		d.fail("number is cut short")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes returns a slice of the payload itself.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail("bytes are cut short")
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string {
	v := d.bytes()
	if !utf8.Valid(v) {
		d.fail("text is not UTF-8")
		return ""
	}
	return string(v)
}

// raw takes exactly len(p) bytes into p.
func (d *decoder) raw(p []byte) {
	if len(d.b) < len(p) {
		d.fail("bytes are cut short")
		return
	}
	d.b = d.b[copy(p, d.b):]
}

func (d *decoder) bool() bool {
	var p [1]byte
	d.raw(p[:])
	if p[0] > 1 {
		d.fail("truth value is neither 0 nor 1")
	}
	return p[0] == 1
}

// count reads the length of a list whose items take at least so many bytes each.
func (d *decoder) count(least int) int {
	n := d.uint()
	if n > uint64(len(d.b)/least) {
		d.fail("list is cut short")
		return 0
	}
	return int(n)
}

func (d *decoder) strings() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	v := make([]string, 0, min(n, 64))
	for range n {
		v = append(v, d.string())
		if d.err != nil {
			return nil
		}
	}
	return v
}
