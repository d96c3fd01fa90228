// Package logs reads the log files that a container runtime writes in the CRI
// format, one record a line:
//
//	2026-10-06T00:17:09.669794202Z stdout P the first part of a long line
//	2026-10-06T00:17:09.669794203Z stdout F and its end
//
// [Read] prints them as `kubectl logs` shows them. It is the edge's kubelet API
// that uses it. What it guarantees:
//
//   - Memory is bounded, whatever the length of files, lines and records: bytes
//     flow through fixed buffers, and a tail is found by reading the file
//     backwards in blocks.
//   - Records of one line (tag P) are joined; tail counts lines, not records. The
//     order is the file's: nothing is held back to untangle two streams whose long
//     lines are interleaved.
//   - A record that can't be parsed is left out and ends nothing.
//   - Following survives rotation (the file is renamed and a new one made under
//     its name) and truncation in place.
//   - A log is all that logrotate has kept of it, not only its newest file as with
//     the kubelet: right after a rotation there would be nothing to see. A follower
//     that is slower than the container loses only what rotation has removed before
//     it was read.
package logs
