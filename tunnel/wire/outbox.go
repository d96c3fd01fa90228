package wire

const typeOutbox Type = 30

// Outbox comes before the first Report of a stream: it says whose seqs the reports
// have.
type Outbox struct {
	// ID was drawn at random when the edge's store was made. Seqs of one outbox rise
	// for as long as it lives; those of two say nothing of one another.
	ID [8]byte
}

// Type implements Frame.
func (*Outbox) Type() Type { return typeOutbox }

func (f *Outbox) appendPayload(b []byte) []byte { return append(b, f.ID[:]...) }

func (f *Outbox) parsePayload(d *decoder) { d.raw(f.ID[:]) }
