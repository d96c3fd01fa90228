// Package compress makes logs smaller on the link. A log is cut into blocks, each
// of which is decoded without the ones before it:
//
//	record = kind (1 byte) | length (uvarint) | length bytes
//	kind 0: the block as it is; kind 1: one zstd frame (RFC 8878) without dictionary
//
// A block is what was written at once, at most MaxBlock bytes. So nothing is held
// back: a line of `kubectl logs -f` is a block. And a log that waits keeps no
// compressor's tables and no window: these are shared by all logs of a process,
// one of which is at work at a time. It costs some of the ratio, which the size of
// blocks makes up for.
//
// The halves agree by HTTP's headers: the cloud says Accept-Encoding: Name, and
// an edge that can do it answers Content-Encoding: Name. edgeagent/kubeletapi
// writes, cloudproxy/kubeletfront reads. What comes to a Reader may be anything; it
// takes no more memory than two blocks.
package compress
