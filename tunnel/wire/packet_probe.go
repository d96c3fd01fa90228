package wire

const typePacketProbe Type = 41

// PacketProbe asks for an acknowledgement of the packet that it is in, whose size it
// makes up.
type PacketProbe struct {
	// Padding says nothing.
	Padding []byte
}

// Type implements Frame.
func (*PacketProbe) Type() Type { return typePacketProbe }

func (f *PacketProbe) appendPayload(b []byte) []byte { return append(b, f.Padding...) }

func (f *PacketProbe) parsePayload(d *decoder) {
	if len(d.b) > 0 && d.err == nil {
		f.Padding, d.b = d.b, nil
	}
}
