package wire

const typeGoAway Type = 21

// GoAway tells an edge that the cloud's process stops: it dials a new session,
// opens nothing more on this one, and what runs may run on for a while.
type GoAway struct {
	// Milliseconds are how long it may.
	Milliseconds uint64
	// Text is for humans.
	Text string
}

// Type implements Frame.
func (*GoAway) Type() Type { return typeGoAway }

func (f *GoAway) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Milliseconds)
	return appendBytes(b, f.Text)
}

func (f *GoAway) parsePayload(d *decoder) {
	f.Milliseconds = d.uint()
	f.Text = d.string()
}
