package wire

const typeWelcome Type = 2

// Welcome is the cloud's answer to Hello. A session that is refused gets none:
// its connection is closed with a Code.
type Welcome struct {
	// Version is the protocol version chosen from the Hello.
	Version uint64
	// Replica names the proxy that holds the session.
	Replica string
	// UnixMilli is the cloud's clock, for edges whose own clock is wrong.
	UnixMilli uint64
	// Features are those of the Hello that the cloud will use.
	Features []string
	// Session names the session, for its next carriers.
	Session [16]byte
	// GraceMilli is how long the cloud keeps a session without a carrier, in ms.
	GraceMilli uint64
	// MaxStreams is how many streams the edge may have open at once.
	MaxStreams uint64
}

// Type implements Frame.
func (*Welcome) Type() Type { return typeWelcome }

func (f *Welcome) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Version)
	b = appendBytes(b, f.Replica)
	b = appendUint(b, f.UnixMilli)
	b = appendStrings(b, f.Features)
	b = append(b, f.Session[:]...)
	b = appendUint(b, f.GraceMilli)
	return appendUint(b, f.MaxStreams)
}

func (f *Welcome) parsePayload(d *decoder) {
	f.Version = d.uint()
	f.Replica = d.string()
	f.UnixMilli = d.uint()
	f.Features = d.strings()
	d.raw(f.Session[:])
	f.GraceMilli = d.uint()
	f.MaxStreams = d.uint()
}
