package wire

const typePong Type = 25

// Pong answers all Pings that have come so far.
type Pong struct{}

// Type implements Frame.
func (*Pong) Type() Type { return typePong }

func (*Pong) appendPayload(b []byte) []byte { return b }

func (*Pong) parsePayload(*decoder) {}
