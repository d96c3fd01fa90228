package wire

const typeResume Type = 20

// Resume follows Hello and Welcome when a session goes on over another carrier.
type Resume struct {
	// Streams are all that this side knows and has not finished.
	Streams []StreamAck
}

// Type implements Frame.
func (*Resume) Type() Type { return typeResume }

func (f *Resume) appendPayload(b []byte) []byte {
	b = appendUint(b, uint64(len(f.Streams)))
	for i := range f.Streams {
		b = f.Streams[i].appendPayload(b)
	}
	return b
}

func (f *Resume) parsePayload(d *decoder) {
	for range d.count(5) {
		var s StreamAck
		s.parsePayload(d)
		f.Streams = append(f.Streams, s)
		if d.err != nil {
			return
		}
	}
}
