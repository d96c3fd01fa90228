package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/gopcua/opcua/ua"
)

const frameHeader = 8 // type, chunk kind, size

// frame is one chunk as it lies on the wire, its header included.
type frame []byte

func (f frame) kind() string { return string(f[:3]) }
func (f frame) chunk() byte  { return f[3] }

// readFrame reads one chunk of at most limit bytes. It gets a buffer of its own,
// since decoded values point into it.
func readFrame(r io.Reader, limit uint32) (frame, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(h[4:])
	if size < frameHeader || size > limit {
		return nil, fmt.Errorf("chunk of %d bytes, at most %d agreed", size, limit)
	}
	f := make(frame, size)
	copy(f, h[:])
	if _, err := io.ReadFull(r, f[frameHeader:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if f.kind() == "ERR" {
		return nil, errorFrame(f)
	}
	return f, nil
}

// errorFrame is what an ERR says (Part 6, 7.1.2.5).
func errorFrame(f frame) error {
	if len(f) < frameHeader+4 {
		return errors.New("error of the server, without a code")
	}
	b := ua.NewBuffer(f[frameHeader:])
	code := ua.StatusCode(b.ReadUint32())
	reason := b.ReadString()
	if b.Error() != nil || len(reason) > 4096 {
		reason = ""
	}
	return fmt.Errorf("the server ended the connection: %w: %s", code, reason)
}

// limits is what both sides take (Part 6, 7.1.2.3-4).
type limits struct {
	receive, send uint32 // bytes of a chunk
	message       uint32 // bytes of a request, 0 unbounded
	chunks        uint32 // of a request, 0 unbounded
}

// hello agrees on limits.
func hello(rw io.ReadWriter, url string, maxMessage uint32) (limits, error) {
	b := ua.NewBuffer(nil)
	b.Write([]byte("HELF\x00\x00\x00\x00"))
	b.WriteUint32(0)
	b.WriteUint32(bufferSize)
	b.WriteUint32(bufferSize)
	b.WriteUint32(maxMessage)
	b.WriteUint32(0)
	b.WriteString(url)
	f := frame(b.Bytes())
	binary.LittleEndian.PutUint32(f[4:], uint32(len(f)))
	if _, err := rw.Write(f); err != nil {
		return limits{}, err
	}
	f, err := readFrame(rw, bufferSize)
	if err != nil {
		return limits{}, err
	}
	if f.kind() != "ACK" || len(f) < frameHeader+20 {
		return limits{}, fmt.Errorf("%q where an acknowledgement was due: not an OPC UA server?", f.kind())
	}
	n := func(i int) uint32 { return binary.LittleEndian.Uint32(f[frameHeader+4*i:]) }
	l := limits{receive: min(n(2), bufferSize), send: min(n(1), bufferSize), message: n(3), chunks: n(4)}
	if l.receive < leastBuffer || l.send < leastBuffer {
		return limits{}, fmt.Errorf("the server offers buffers of %d and %d bytes, less than %d", l.receive, l.send, leastBuffer)
	}
	return l, nil
}
