// Package wire holds every byte that crosses the tunnel and is not HTTP: the
// header that starts a stream, and the frames that follow it on streams that
// are not HTTP. Both halves import it and share nothing else. PROTOCOL.md draws
// the bytes, the order in which frames may come, and the versions.
//
// A stream starts with its kind, one varint. A frame is
//
//	type (varint) | length (varint) | payload (length bytes)
//
// with varints as in RFC 9000, section 16. A reader skips frames whose type it
// does not know, and ignores bytes that follow the fields it knows inside a
// payload; so fields are only ever added at the end. Decoders never allocate
// more than the bytes they were given could hold.
package wire
