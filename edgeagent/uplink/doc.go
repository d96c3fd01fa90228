// Package uplink keeps an edge's one session with the cloud alive: it dials,
// dials again when the session ends, and hides all that from the rest of the
// agent. Others see a net.Listener per kind of stream, which lives across
// sessions, and Dial, which waits for a session.
package uplink
