package wire

const typeUpsert Type = 4

// Upsert puts one object into the edge's desired state.
type Upsert struct {
	// Seq rises by one with each Upsert and Delete of a stream, from 1.
	Seq uint64
	// Key is where the object belongs, such as "pods/default/web-0".
	Key string
	// Version is opaque to the edge; it comes back in Have.
	Version string
	// Value is the object as Kubernetes protobuf.
	Value []byte
}

// Type implements Frame.
func (*Upsert) Type() Type { return typeUpsert }

func (f *Upsert) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Seq)
	b = appendBytes(b, f.Key)
	b = appendBytes(b, f.Version)
	return appendBytes(b, f.Value)
}

func (f *Upsert) parsePayload(d *decoder) {
	f.Seq = d.uint()
	f.Key = d.string()
	f.Version = d.string()
	f.Value = d.bytes()
}
