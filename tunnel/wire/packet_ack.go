package wire

const typePacketAck Type = 40

// maxPacketRanges bounds what one PacketAck says.
const maxPacketRanges = 64

// PacketAck says which packets of a carrier have come. It travels in packets.
type PacketAck struct {
	// Microseconds is how long ago the packet with the highest number came.
	Microseconds uint64
	// Ranges are the numbers, the highest first, without overlap.
	Ranges []PacketRange
}

// PacketRange is packets First to Last, both among them.
type PacketRange struct{ First, Last uint64 }

// Type implements Frame.
func (*PacketAck) Type() Type { return typePacketAck }

func (f *PacketAck) appendPayload(b []byte) []byte {
	b = appendUint(b, f.Microseconds)
	b = appendUint(b, uint64(len(f.Ranges)))
	var above uint64
	for i, r := range f.Ranges {
		if i == 0 {
			b = appendUint(b, r.Last)
		} else {
			b = appendUint(b, above-r.Last)
		}
		b = appendUint(b, r.Last-r.First)
		above = r.First
	}
	return b
}

func (f *PacketAck) parsePayload(d *decoder) {
	f.Microseconds = d.uint()
	n := d.count(2)
	if n > maxPacketRanges {
		d.fail("too many ranges")
		return
	}
	var above uint64
	for i := range n {
		last := d.uint()
		if i > 0 {
			// At least one number between two ranges is missing.
			if last < 2 || last > above {
				d.fail("ranges overlap")
				return
			}
			last = above - last
		}
		length := d.uint()
		if length > last {
			d.fail("range begins below zero")
			return
		}
		above = last - length
		f.Ranges = append(f.Ranges, PacketRange{above, last})
	}
}
