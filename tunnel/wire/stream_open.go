package wire

const typeStreamOpen Type = 16

// StreamOpen makes a stream known to the peer.
type StreamOpen struct {
	// ID is odd for streams that the edge opens, even for the cloud's; each side
	// counts up by two.
	ID   uint64
	Kind Kind
	// Limit is how many bytes the peer may send before it hears more.
	Limit uint64
}

// Type implements Frame.
func (*StreamOpen) Type() Type { return typeStreamOpen }

func (f *StreamOpen) appendPayload(b []byte) []byte {
	b = appendUint(b, f.ID)
	b = appendUint(b, uint64(f.Kind))
	return appendUint(b, f.Limit)
}

func (f *StreamOpen) parsePayload(d *decoder) {
	f.ID = d.uint()
	f.Kind = Kind(d.uint())
	f.Limit = d.uint()
}
