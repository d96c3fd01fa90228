package report

import (
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Bounds of the requests for certificates that one pod may have in the API, where they
// stay for half an hour: for each of its sources, and on top. A source is asked for anew
// when its certificate is due, which is an hour later at least, or when its edge has lost
// its key. The proxy holds all of them in memory.
const (
	requestsPerSource = 4
	requestsOnTop     = 4
)

const (
	// requestLife is how long a request may stay in the API.
	requestLife = 30 * time.Minute
	// cacheLag is how long a request that was made need not be in the cache: edges ask
	// again after ten minutes, and then it has been deleted.
	cacheLag = 5 * time.Minute
)

// requests are those that this proxy has made, by pod and name: a cache may be late, or
// stand still. Its methods may be called concurrently.
type requests struct {
	mu    sync.Mutex // guards the following fields
	made  map[types.UID]map[string]*request
	swept time.Time
}

// request is one that was made, is being made, or may have been.
type request struct {
	at     time.Time // when it was last tried
	making int       // tries that have not ended: several lanes may have the same
	made   bool      // the API has said so
}

// recent says whether a request was made a short while ago.
func (r *requests) recent(pod types.UID, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.made[pod][name]
	return q != nil && q.made && time.Since(q.at) < cacheLag
}

// enter counts a request that is about to be made, unless there were more than limit then
// of the pod, those of the cache among them. Who has entered leaves.
func (r *requests) enter(pod types.UID, name string, cached []string, limit int) bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	all := map[string]bool{name: true}
	for _, c := range cached {
		all[c] = true
	}
	for m := range r.made[pod] {
		all[m] = true
	}
	if len(all) > limit {
		return false
	}
	if r.made == nil {
		r.made = map[types.UID]map[string]*request{}
	}
	if r.made[pod] == nil {
		r.made[pod] = map[string]*request{}
	}
	q := r.made[pod][name]
	if q == nil {
		q = &request{}
		r.made[pod][name] = q
	}
	q.at = now
	q.making++
	return true
}

// leave says what became of a request that has entered. Without an answer of the API it
// may have been made, and goes on to count.
func (r *requests) leave(pod types.UID, name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.made[pod][name]
	q.making--
	q.made = q.made || err == nil
	if q.made || q.making > 0 || !errors.Is(err, errAskAgain) && !hopeless(err) {
		return
	}
	r.drop(pod, name)
}

// sweep drops what the API has cleaned up, once in a while. The caller holds mu.
func (r *requests) sweep(now time.Time) {
	if now.Sub(r.swept) < time.Minute {
		return
	}
	r.swept = now
	for pod, names := range r.made {
		for name, q := range names {
			if q.making == 0 && now.Sub(q.at) >= requestLife {
				r.drop(pod, name)
			}
		}
	}
}

func (r *requests) drop(pod types.UID, name string) {
	if delete(r.made[pod], name); len(r.made[pod]) == 0 {
		delete(r.made, pod)
	}
}
