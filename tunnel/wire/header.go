package wire

import (
	"io"

	"github.com/quic-go/quic-go/quicvarint"
)

// Header is what stands before a frame's payload.
type Header struct {
	Type   Type
	Length uint64
}

// ReadHeader reads a header, for those who pass frames on. It returns io.EOF
// when there is nothing at all, and io.ErrUnexpectedEOF inside a header.
func ReadHeader(r io.ByteReader) (Header, error) {
	t, err := readUint(r)
	if err != nil {
		return Header{}, err
	}
	n, err := readUint(r)
	if err != nil {
		return Header{}, noEOF(err)
	}
	return Header{Type: Type(t), Length: n}, nil
}

// Append appends the header to b.
func (h Header) Append(b []byte) []byte {
	b = quicvarint.Append(b, uint64(h.Type))
	return quicvarint.Append(b, h.Length)
}

// readUint is quicvarint.Read, but io.EOF means that not one byte was there.
func readUint(r io.ByteReader) (uint64, error) {
	b, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	v := uint64(b & 0x3f)
	for range 1<<(b>>6) - 1 {
		if b, err = r.ReadByte(); err != nil {
			return 0, noEOF(err)
		}
		v = v<<8 | uint64(b)
	}
	return v, nil
}
