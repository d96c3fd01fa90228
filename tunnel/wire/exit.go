package wire

const typeExit Type = 14

// Exit is the last frame of a command that ran.
type Exit struct {
	// Code is the command's exit code, 0 to 255.
	Code uint64
}

// Type implements Frame.
func (*Exit) Type() Type { return typeExit }

func (f *Exit) appendPayload(b []byte) []byte { return appendUint(b, f.Code) }

func (f *Exit) parsePayload(d *decoder) { f.Code = d.uint() }
