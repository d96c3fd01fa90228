package tunnel

import "sync/atomic"

const (
	// baseWindow is what every stream may hold in each direction, whatever the
	// others do; a session's streams have room for it from their begin to their end.
	baseWindow = 32 << 10
	// streamBytes is what a stream takes of the memory when it begins.
	streamBytes = 2 * baseWindow
)

// memory counts the bytes that streams may hold: those that were written and not
// acknowledged, and those that the peer was allowed to send and nobody has read.
// It is a budget, of a session and, above it, of the process.
type memory struct {
	max    int64
	used   atomic.Int64
	parent *memory
}

// refused counts the streams that were refused because of a bound.
type refused struct{ streams, memory atomic.Uint64 }

// take takes n bytes, all or none.
func (m *memory) take(n int64) bool {
	if m == nil {
		return true
	}
	if m.used.Add(n) > m.max || !m.parent.take(n) {
		m.used.Add(-n)
		return false
	}
	return true
}

// grow takes n bytes for a stream that has its first ones; half of the memory is
// kept for those that are still to come.
func (m *memory) grow(n int64) bool {
	if m.used.Load()+n > m.max/2 || m.parent != nil && m.parent.used.Load()+n > m.parent.max/2 {
		return false
	}
	return m.take(n)
}

// give gives n bytes back.
func (m *memory) give(n int64) {
	for ; m != nil; m = m.parent {
		m.used.Add(-n)
	}
}
