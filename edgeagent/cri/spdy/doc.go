// Package spdy is the client's half of SPDY/3.1, as far as a container runtime's
// streaming server needs it for a command.
//
// The general implementation holds a zlib compressor of some 700 KiB for each
// connection, to compress headers of forty bytes, and a goroutine for each stream
// and for each of its queues. Here headers are sent as blocks that zlib calls stored,
// replies are not read since nothing in them is of use, and whoever waits for the end
// of the streams reads the frames itself: a connection is a socket and a buffer. All
// streams are opened by one write, without waiting for an answer to each.
//
// Flow control is TCP's alone, as with the servers: they neither send nor heed
// windows. A server doesn't ping and opens no streams.
//
// Source: SPDY Protocol, draft 3.1, sections 2.2 (framing), 2.6 (control frames) and
// 2.6.10 (header block).
package spdy
