package wire

const typeError Type = 15

// Error is the last frame of a request that failed. It is a Go error too.
type Error struct {
	Code Code
	// Text is for people, and complete without the code.
	Text string
}

// Type implements Frame.
func (*Error) Type() Type { return typeError }

func (f *Error) appendPayload(b []byte) []byte {
	b = appendUint(b, uint64(f.Code))
	return appendBytes(b, f.Text)
}

func (f *Error) parsePayload(d *decoder) {
	f.Code = Code(d.uint())
	f.Text = d.string()
}

// Error implements error.
func (f *Error) Error() string {
	if f.Text == "" {
		return f.Code.String()
	}
	return f.Text
}

// Is makes errors.Is compare codes.
func (f *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == f.Code
}
