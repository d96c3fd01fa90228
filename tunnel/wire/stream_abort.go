package wire

const typeStreamAbort Type = 19

// StreamAbort ends one direction of a stream before its end; what has not come
// yet will not come.
type StreamAbort struct {
	ID   uint64
	Code Code
}

// Type implements Frame.
func (*StreamAbort) Type() Type { return typeStreamAbort }

func (f *StreamAbort) appendPayload(b []byte) []byte {
	b = appendUint(b, f.ID)
	return appendUint(b, uint64(f.Code))
}

func (f *StreamAbort) parsePayload(d *decoder) {
	f.ID = d.uint()
	f.Code = Code(d.uint())
}
