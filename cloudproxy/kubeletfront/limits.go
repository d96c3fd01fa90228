package kubeletfront

import (
	"fmt"
	"net/http"
	"sync"
)

// limits bounds how many streams are open at the same time.
type limits struct {
	maxTotal, maxEdge int

	mu    sync.Mutex // guards the following fields
	total int
	edges map[string]int
}

func newLimits(maxTotal, maxEdge int) *limits {
	return &limits{maxTotal: maxTotal, maxEdge: maxEdge, edges: map[string]int{}}
}

// acquire takes a place for a stream to node, which the caller gives back by
// release, or refuses.
func (l *limits) acquire(node string) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.maxTotal {
		return nil, &refusal{http.StatusServiceUnavailable, fmt.Sprintf("%d streams are open at this proxy, which is the most", l.total)}
	}
	if n := l.edges[node]; n >= l.maxEdge {
		return nil, &refusal{http.StatusTooManyRequests, fmt.Sprintf("%d streams to edge %s are open, which is the most", n, node)}
	}
	l.total++
	l.edges[node]++
	return func() { l.release(node) }, nil
}

func (l *limits) release(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.edges[node]--; l.edges[node] == 0 {
		delete(l.edges, node)
	}
}
