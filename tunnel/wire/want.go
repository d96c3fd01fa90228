package wire

const typeWant Type = 28

// Want asks for all that is in some buckets of the edge's Digest. The edge
// answers with Have.
type Want struct {
	// Buckets are numbers of buckets.
	Buckets []uint64
}

// Type implements Frame.
func (*Want) Type() Type { return typeWant }

func (f *Want) appendPayload(b []byte) []byte {
	b = appendUint(b, uint64(len(f.Buckets)))
	for _, n := range f.Buckets {
		b = appendUint(b, n)
	}
	return b
}

func (f *Want) parsePayload(d *decoder) {
	n := d.count(1)
	if n > MaxBuckets {
		d.fail("too many buckets")
		return
	}
	for range n {
		f.Buckets = append(f.Buckets, d.uint())
	}
	if d.err != nil {
		f.Buckets = nil
	}
}
