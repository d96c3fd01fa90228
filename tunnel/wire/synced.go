package wire

const typeSynced Type = 6

// Synced says that with Seq the edge holds all that it should: what the Have
// frames named and no Delete took away is wanted still.
type Synced struct {
	Seq uint64
}

// Type implements Frame.
func (*Synced) Type() Type { return typeSynced }

func (f *Synced) appendPayload(b []byte) []byte { return appendUint(b, f.Seq) }

func (f *Synced) parsePayload(d *decoder) { f.Seq = d.uint() }
