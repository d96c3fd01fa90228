package wire

const typeResize Type = 12

// Resize tells a command with a terminal its new size, in characters.
type Resize struct {
	Width, Height uint64
}

// Type implements Frame.
func (*Resize) Type() Type { return typeResize }

func (f *Resize) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Width)
	return appendUint(b, f.Height)
}

func (f *Resize) parsePayload(d *decoder) {
	f.Width = d.uint()
	f.Height = d.uint()
}
