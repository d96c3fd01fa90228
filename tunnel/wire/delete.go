package wire

const typeDelete Type = 5

// Delete takes one object out of the edge's desired state. An edge that does
// not hold the key acknowledges all the same.
type Delete struct {
	Seq uint64
	Key string
}

// Type implements Frame.
func (*Delete) Type() Type { return typeDelete }

func (f *Delete) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Seq)
	return appendBytes(b, f.Key)
}

func (f *Delete) parsePayload(d *decoder) {
	f.Seq = d.uint()
	f.Key = d.string()
}
