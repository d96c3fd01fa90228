package desired

import (
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxLags bounds what an edge may say that it has not come far with.
	maxLags = 4096
	// maxLagKey bounds a key that it names: the longest of the API's has 341 bytes.
	maxLagKey = 384
)

// lag is an object that the edge has not brought as far as it will come.
type lag struct {
	step  wire.Step // zero is sent and not stored
	since time.Time // when the change was seen
}

// Behind counts objects that have not come to some step, and says for how long
// the oldest of them has not.
type Behind struct {
	Objects int
	Lag     time.Duration
}

func (b *Behind) add(since, now time.Time) {
	b.Objects++
	b.Lag = max(b.Lag, now.Sub(since))
}

// EdgeStatus tells how far one edge has been brought.
type EdgeStatus struct {
	Node string
	// Synced says that the edge was told everything at some moment of this stream.
	Synced bool
	// Objects counts what the edge holds or is being sent, Queued the keys that are
	// yet to be looked at.
	Objects, Queued int
	// Sent and Stored are the last seq sent and the last one acknowledged as stored.
	Sent, Stored uint64
	// Unstored are changes that wait to be sent or to be acknowledged as stored,
	// Unapplied these and what is stored and not acted upon, Unrunning these and
	// pods whose containers do not run.
	Unstored, Unapplied, Unrunning Behind
}

func (q *queue) status(now time.Time) EdgeStatus {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := EdgeStatus{Synced: q.synced, Objects: len(q.versions), Queued: len(q.order), Sent: q.sent, Stored: q.stored}
	for _, l := range q.lags {
		st.Unrunning.add(l.since, now)
		if l.step < wire.StepApplied {
			st.Unapplied.add(l.since, now)
		}
		if l.step < wire.StepStored {
			st.Unstored.add(l.since, now)
		}
	}
	// Behind a full window changes wait to be looked at.
	if len(q.order) > 0 && len(q.flights) > 0 {
		wait := now.Sub(q.queued[q.order[0]])
		for _, b := range []*Behind{&st.Unstored, &st.Unapplied, &st.Unrunning} {
			b.Lag = max(b.Lag, wait)
		}
	}
	return st
}

// storedLocked notes that the edge has stored what was sent under the key of f.
func (q *queue) storedLocked(f *flight) {
	l, ok := q.lags[f.key]
	switch {
	case !ok:
	case f.deleted:
		delete(q.lags, f.key)
	default:
		q.lags[f.key] = lag{step: wire.StepStored, since: l.since}
	}
}

// advance notes what the edge tells of its progress. It is an edge's word, and
// counts for nothing but what people are shown.
func (q *queue) advance(entries []wire.Advance) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		if q.flying[e.Key] {
			continue // it is about the version before
		}
		l, ok := q.lags[e.Key]
		switch {
		case e.Step >= wire.LastStep(e.Key):
			delete(q.lags, e.Key)
		case ok:
			q.lags[e.Key] = lag{step: max(l.step, e.Step), since: l.since}
		case q.mayLagLocked(e.Key):
			since := now.Add(-time.Duration(min(e.Seconds, maxLagSeconds)) * time.Second)
			q.lags[e.Key] = lag{step: e.Step, since: since}
		}
	}
}

// mayLagLocked says whether the edge may name a key that nothing was sent under: one
// that it holds, as far as that is known yet.
func (q *queue) mayLagLocked(key string) bool {
	_, held := q.versions[key]
	return (held || !q.known) && len(q.lags) < maxLags && len(key) <= maxLagKey
}

// maxLagSeconds is a year, and keeps an edge's word from overflowing a Duration.
const maxLagSeconds = 365 * 24 * 3600
