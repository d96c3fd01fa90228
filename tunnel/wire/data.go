package wire

const typeData Type = 11

// Channel tells the byte streams of one command apart; numbers are those of the
// file descriptors.
type Channel uint64

// Channels of a command.
const (
	ChannelStdin  Channel = 0
	ChannelStdout Channel = 1
	ChannelStderr Channel = 2
)

// MaxData is the most bytes that a sender puts into one Data frame. It bounds
// how long an urgent frame waits behind one that is being written.
const MaxData = 32 << 10

// Data carries bytes of a command's input or output.
type Data struct {
	Channel Channel
	Bytes   []byte
}

// Type implements Frame.
func (*Data) Type() Type { return typeData }

func (f *Data) appendPayload(b []byte) []byte {
	b = appendUint(b, uint64(f.Channel))
	return append(b, f.Bytes...)
}

func (f *Data) parsePayload(d *decoder) {
	f.Channel = Channel(d.uint())
	f.Bytes = d.b // all that is left: this frame can have no field after it
	d.b = nil
}
