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
	// Value is the object as Kubernetes protobuf, in the encoding that follows.
	Value []byte
	// Encoding is one of package tunnel/dictionary; zero is the object itself.
	Encoding uint64
}

// Type implements Frame.
func (*Upsert) Type() Type { return typeUpsert }

func (f *Upsert) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Seq)
	b = appendBytes(b, f.Key)
	b = appendBytes(b, f.Version)
	b = appendBytes(b, f.Value)
	return appendUint(b, f.Encoding)
}

func (f *Upsert) parsePayload(d *decoder) {
	f.Seq = d.uint()
	f.Key = d.string()
	f.Version = d.string()
	f.Value = d.bytes()
	f.Encoding = d.uint()
}
