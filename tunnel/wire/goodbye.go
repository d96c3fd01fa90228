package wire

const typeGoodbye Type = 26

// Goodbye is the last frame of a carrier that can't end with a code by itself.
type Goodbye struct {
	Code Code
	// Text is for people.
	Text string
}

// Type implements Frame.
func (*Goodbye) Type() Type { return typeGoodbye }

func (f *Goodbye) appendPayload(b []byte) []byte {
	b = appendUint(b, uint64(f.Code))
	return appendBytes(b, f.Text)
}

func (f *Goodbye) parsePayload(d *decoder) {
	f.Code = Code(d.uint())
	f.Text = d.string()
}
