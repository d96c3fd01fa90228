package wire

const typePing Type = 24

// Ping asks for a Pong, on carriers that don't tell by themselves that the peer
// is alive.
type Ping struct{}

// Type implements Frame.
func (*Ping) Type() Type { return typePing }

func (*Ping) appendPayload(b []byte) []byte { return b }

func (*Ping) parsePayload(*decoder) {}
