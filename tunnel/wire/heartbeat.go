package wire

// heartbeatSize makes the packet longer than 42 bytes: a proxy that has lost the
// connection answers only to such with a stateless reset, since a shorter one
// could itself be a reset.
const heartbeatSize = 24

// Heartbeat is the payload of the datagram that asks whether the path is alive.
// It needs no answer of its own: QUIC acknowledges the packet.
func Heartbeat() []byte { return make([]byte, heartbeatSize) }
