// Package tunnel is the line between an edge and the cloud: one Session with an
// authenticated peer, and on it Streams, which are net.Conns of a kind. Package
// uplink (edge) and package registry (cloud) use it; what is above them sees
// net.Conn and net.Listener only.
//
// It guarantees that a session that lives is one whose path works: the edge
// notices a dead path within max(1.5 s, 10 RTT + 0.5 s) of asking something, the
// cloud within 50 s. When a session ends, all its streams end with the same
// error. DESIGN.md has the flow and the failures, wire/PROTOCOL.md the bytes.
package tunnel
