// Package newest has one stream of each edge served at a time, the newest. What
// packages desired and report hold for an edge is then bounded by what they hold
// for a stream, and what an older stream has begun is over before a newer one
// begins the same.
package newest

import (
	"context"
	"errors"
	"sync"
)

// ErrReplaced is why a stream ends when its edge has opened another one.
var ErrReplaced = errors.New("the edge has opened a newer stream")

// Streams are those of one kind. The zero value has none.
type Streams struct {
	mu    sync.Mutex // guards the following field
	nodes map[string]*turn
}

// turn is a stream that is served, or waits for the one before it to end.
type turn struct {
	end  context.CancelCauseFunc
	over chan struct{}
}

// Enter begins a stream of a node: it ends the one that is there and waits until
// that was left. ctx ends with ErrReplaced when a newer one comes. The caller calls
// leave when nothing works on the stream any more.
func (s *Streams) Enter(parent context.Context, node string) (ctx context.Context, leave func()) {
	ctx, end := context.WithCancelCause(parent)
	t := &turn{end: end, over: make(chan struct{})}
	s.mu.Lock()
	if s.nodes == nil {
		s.nodes = make(map[string]*turn)
	}
	before := s.nodes[node]
	s.nodes[node] = t
	s.mu.Unlock()
	if before != nil {
		before.end(ErrReplaced)
		<-before.over
	}
	return ctx, func() {
		end(nil)
		s.mu.Lock()
		if s.nodes[node] == t {
			delete(s.nodes, node)
		}
		s.mu.Unlock()
		close(t.over)
	}
}
