package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// refusedPause is how often what a full disk did not take is tried again.
const refusedPause = 2 * time.Second

// refused keeps what is to be said of pods and found no room on the disk, the last
// word under each key: whoever says it says it once. A process that ends forgets it,
// and the next one finds out anew how its pods are.
type refused struct {
	bell chan struct{} // capacity 1: there is something

	mu    sync.Mutex // guards the following fields
	words map[lane]word
	count int
}

// lane is where one word takes the place of the one before.
type lane struct {
	subject wire.Subject
	key     string
}

type word struct {
	number int // in order of time
	value  []byte
}

func newRefused() *refused {
	return &refused{bell: make(chan struct{}, 1), words: make(map[lane]word)}
}

// keep takes a word; with only set, only in place of an older one. It reports whether
// it has.
func (f *refused) keep(l lane, value []byte, only bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.words[l]; only && !ok {
		return false
	}
	f.count++
	f.words[l] = word{f.count, value}
	select {
	case f.bell <- struct{}{}:
	default:
	}
	return true
}

// all gives the lanes that have a word, in order of time.
func (f *refused) all() []lane {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []lane
	for l := range f.words {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b lane) int { return cmp.Compare(f.words[a].number, f.words[b].number) })
	return all
}

func (f *refused) get(l lane) word {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.words[l]
}

// stored forgets a word, unless there is a newer one.
func (f *refused) stored(l lane, w word) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.words[l].number == w.number {
		delete(f.words, l)
	}
}

// putKeyed puts a word into the outbox, or keeps it until there is room. A newer word
// waits behind the one before, which may be on its way there at this moment.
func (r *Reporter) putKeyed(subject wire.Subject, key string, value []byte) error {
	if err := fits(key, len(value)); err != nil {
		return err // it would take the place of one that can be sent
	}
	l := lane{subject, key}
	if r.refused.keep(l, value, true) {
		return fmt.Errorf("behind an older one: %w", store.ErrDiskFull)
	}
	_, err := r.outbox.PutKeyed(uint64(subject), key, value)
	if errors.Is(err, store.ErrDiskFull) {
		r.refused.keep(l, value, false)
	}
	return err
}

// fits says whether a report holds a value of that size.
func fits(key string, size int) error {
	if n := len(key) + size; n > maxReport {
		return fmt.Errorf("%d bytes, at most %d: %w", n, maxReport, store.ErrTooLarge)
	}
	return nil
}

// retryRefused tries again until ctx ends.
func (r *Reporter) retryRefused(ctx context.Context) {
	for {
		select {
		case <-r.refused.bell:
		case <-ctx.Done():
			return
		}
		for lanes := r.refused.all(); len(lanes) > 0; lanes = r.refused.all() {
			for _, l := range lanes {
				w := r.refused.get(l)
				_, err := r.outbox.PutKeyed(uint64(l.subject), l.key, w.value)
				if err != nil {
					r.log.Debug("report waits for room on the disk", "key", l.key, "subject", uint64(l.subject), "error", err)
					break
				}
				r.refused.stored(l, w)
			}
			select {
			case <-time.After(refusedPause):
			case <-ctx.Done():
				return
			}
		}
	}
}
