// Package uplink keeps an edge's one session with the cloud alive: it dials,
// dials again when the session ends, and hides all that from the rest of the
// agent. Others see a net.Listener per kind of stream, which lives across
// sessions, and Dial, which waits for a session. Keeper keeps one stream open in
// the same way, for those that always need one.
package uplink
