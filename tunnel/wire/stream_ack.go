package wire

const typeStreamAck Type = 18

// StreamAck says how far the receiver of one direction of a stream has come.
// Each tells all; of two, the one with more is the later.
type StreamAck struct {
	ID uint64
	// Received is how many bytes of the direction have come without a gap.
	Received uint64
	// Limit is up to which offset the peer may send.
	Limit uint64
	// Done says that the receiver needs nothing more of the direction: it has come
	// whole (CodeOK), or nobody reads it any longer.
	Done bool
	Code Code
}

// Type implements Frame.
func (*StreamAck) Type() Type { return typeStreamAck }

func (f *StreamAck) appendPayload(b []byte) []byte {
	b = appendUint(b, f.ID)
	b = appendUint(b, f.Received)
	b = appendUint(b, f.Limit)
	b = appendBool(b, f.Done)
	return appendUint(b, uint64(f.Code))
}

func (f *StreamAck) parsePayload(d *decoder) {
	f.ID = d.uint()
	f.Received = d.uint()
	f.Limit = d.uint()
	f.Done = d.bool()
	f.Code = Code(d.uint())
}
