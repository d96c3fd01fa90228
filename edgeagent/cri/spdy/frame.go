package spdy

import "encoding/binary"

// Types of control frames (section 2.6).
const (
	synStream = 1
	rstStream = 3
)

const (
	headerSize = 8
	flagFin    = 0x01
	version    = 3
	// maxData is what the 24 bits of a length can say.
	maxData = 1<<24 - 1
)

// zlibHeader opens the one zlib stream of all headers of a connection: deflate with
// a window of 32 KiB, and the Adler-32 of the dictionary that SPDY/3 prescribes. A
// stored block never refers to the dictionary, so it need not be here.
const zlibHeader = "\x78\xbb\xe3\xc6\xa7\xc2"

// header is the start of a frame: of data when control is false.
type header struct {
	control bool
	kind    uint16 // of a control frame
	stream  uint32 // of data
	flags   byte
	size    int // of what follows, in bytes
}

func parseHeader(b [headerSize]byte) header {
	h := header{flags: b[4], size: int(b[5])<<16 | int(b[6])<<8 | int(b[7])}
	if b[0]&0x80 != 0 {
		h.control, h.kind = true, binary.BigEndian.Uint16(b[2:])
	} else {
		h.stream = binary.BigEndian.Uint32(b[:])
	}
	return h
}

// appendData appends the start of a data frame.
func appendData(b []byte, stream uint32, flags byte, size int) []byte {
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, flags, byte(size>>16), byte(size>>8), byte(size))
}

// appendSynStream appends the frame that opens a stream, with one header. The
// first of a connection begins the zlib stream.
func appendSynStream(b []byte, stream uint32, name, value string, first bool) []byte {
	block := binary.BigEndian.AppendUint32(nil, 1) // one pair
	for _, s := range []string{name, value} {
		block = binary.BigEndian.AppendUint32(block, uint32(len(s)))
		block = append(block, s...)
	}
	var packed []byte
	if first {
		packed = append(packed, zlibHeader...)
	}
	packed = appendStored(packed, block)
	packed = appendStored(packed, nil) // an empty one has all before it delivered, as of a sync flush
	size := 10 + len(packed)
	b = append(b, 0x80, version, 0, synStream, 0, byte(size>>16), byte(size>>8), byte(size))
	b = binary.BigEndian.AppendUint32(b, stream)
	b = append(b, 0, 0, 0, 0, 0, 0) // no other stream that it belongs to, highest priority, no slot
	return append(b, packed...)
}

// appendStored appends a deflate block that is stored (RFC 1951, 3.2.4).
func appendStored(b, data []byte) []byte {
	b = append(b, 0) // not the last one
	b = binary.LittleEndian.AppendUint16(b, uint16(len(data)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(data)))
	return append(b, data...)
}
