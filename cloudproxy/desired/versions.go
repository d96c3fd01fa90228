package desired

import (
	"maps"
	"slices"
)

// version gives the version of an object that the edge holds or is being sent.
func (q *queue) version(key string) (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	v, ok := q.versions[key]
	return v, ok
}

func (q *queue) setVersion(key, version string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.versions[key] = version
}

// has says whether the edge has stored this version of an object.
func (q *queue) has(key, version string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	v, ok := q.versions[key]
	return ok && v == version && !q.flying[key]
}

// keys gives the keys of all that the edge holds or is being sent, in order.
func (q *queue) keys() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Sorted(maps.Keys(q.versions))
}

// learned says that all that the edge holds is in versions: what it has said of
// other objects counts for nothing.
func (q *queue) learned() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known = true
	maps.DeleteFunc(q.lags, func(key string, _ lag) bool {
		_, ok := q.versions[key]
		return !ok
	})
}
