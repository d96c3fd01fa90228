package wire

const typeStreamData Type = 17

// MaxChunk is the most bytes that a sender puts into one StreamData: what waits
// behind a chunk on a pipe that all streams share waits that long. With its header
// it fits one record of TLS.
const MaxChunk = 16<<10 - 64

// StreamData is a piece of one direction of a stream. The same bytes may come
// again, by the same carrier or by another.
type StreamData struct {
	ID uint64
	// Offset is the place of the first byte in the direction.
	Offset uint64
	// Fin says that the direction ends with these bytes.
	Fin bool
	// Bytes are in the Reader's buffer, until its next call.
	Bytes []byte
}

// Type implements Frame.
func (*StreamData) Type() Type { return typeStreamData }

func (f *StreamData) appendPayload(b []byte) []byte {
	b = appendUint(b, f.ID)
	b = appendUint(b, f.Offset)
	b = appendBool(b, f.Fin)
	return append(b, f.Bytes...)
}

func (f *StreamData) parsePayload(d *decoder) {
	f.ID = d.uint()
	f.Offset = d.uint()
	f.Fin = d.bool()
	if len(d.b) > 0 && d.err == nil {
		f.Bytes, d.b = d.b, nil
	}
}
