package chaos_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// ledger holds what both sides say of each stream against each other.
type ledger struct {
	mu       sync.Mutex // guards the following fields
	streams  map[uint64]*entry
	sessions map[uint64]*session
	reborn   []time.Time // when a cloud was started in the place of a killed one
	stopped  map[string]bool
	quitting bool
	problems []string
	gaps     []gap
	links    []change
	shapes   map[string]int
	bytes    int64
	used     map[string]string
}

// entry is one stream.
type entry struct {
	spec             spec
	opened           time.Time
	opener, acceptor *report
}

type session struct{ begin, end time.Time }

// gap is a time in which nothing came on a stream that says something all the time.
type gap struct {
	role     string
	from, to time.Time
}

// change is when something else began to carry the session.
type change struct {
	at   time.Time
	link string
}

func newLedger() *ledger {
	return &ledger{
		streams: map[uint64]*entry{}, sessions: map[uint64]*session{}, stopped: map[string]bool{},
		shapes: map[string]int{}, used: map[string]string{},
	}
}

// take enters what a peer tells.
func (l *ledger) take(role string, e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Type {
	case eventSession:
		l.sessions[e.Session] = &session{begin: e.At}
	case eventEnded:
		s := l.sessions[e.Session]
		s.end = e.At
		if !l.quitting && !l.excusedLocked(e.Session) {
			l.problemLocked("session %d ended, and nothing but its streams' ends may end it: %s", e.Session, e.Text)
		}
	case eventOpen:
		l.entryLocked(e.Spec.ID).spec = *e.Spec
		l.streams[e.Spec.ID].opened = e.At
		l.shapes[e.Spec.Shape]++
	case eventDone:
		l.doneLocked(role, e.Report)
	case eventGap:
		l.gaps = append(l.gaps, gap{role, e.From, e.To})
	case eventLink:
		l.links = append(l.links, change{e.At, e.Text})
	case eventStopped:
		l.stopped[role] = true
	case eventProblem:
		l.problemLocked("%s", e.Text)
	case eventBye:
		l.used[role] = e.Text
	}
}

func (l *ledger) entryLocked(id uint64) *entry {
	if l.streams[id] == nil {
		l.streams[id] = &entry{}
	}
	return l.streams[id]
}

func (l *ledger) doneLocked(role string, r *report) {
	l.bytes += r.Received
	if r.Wrong != "" {
		l.problemLocked("%s, stream %d (%s), opener %t: %s", role, r.ID, r.Shape, r.Opener, r.Wrong)
	}
	if r.Lost != "" && !l.excusedLocked(r.Session) && !l.quitting {
		l.problemLocked("%s, stream %d (%s), opener %t: lost with session %d: %s", role, r.ID, r.Shape, r.Opener, r.Session, r.Lost)
	}
	if r.ID == 0 {
		return // lost before it said who it is
	}
	e := l.entryLocked(r.ID)
	if r.Opener {
		e.opener = r
	} else {
		e.acceptor = r
	}
}

// excusedLocked reports whether the session may have ended: its cloud was killed.
func (l *ledger) excusedLocked(number uint64) bool {
	s := l.sessions[number]
	return s != nil && slices.ContainsFunc(l.reborn, s.begin.Before)
}

func (l *ledger) problemLocked(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// killed says that the cloud of all sessions so far is gone. It must be told
// before anyone can notice.
func (l *ledger) killed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped[roleCloud] = false
	l.reborn = append(l.reborn, time.Now().Add(time.Hour)) // until the next cloud is there
}

// expected reports whether a peer may end: it was killed.
func (l *ledger) expected(role string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return role == roleCloud && len(l.reborn) > 0 && l.reborn[len(l.reborn)-1].After(time.Now())
}

// restarted says that the cloud is about to be started again.
func (l *ledger) restarted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reborn[len(l.reborn)-1] = time.Now()
}

// quit says that sessions end now because they should.
func (l *ledger) quit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quitting = true
}

// open gives an error that says which streams are not at their ends yet.
func (l *ledger) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, role := range []string{roleEdge, roleCloud} {
		if !l.stopped[role] {
			return fmt.Errorf("the %s has open streams: %s", role, l.unfinishedLocked())
		}
	}
	if text := l.unfinishedLocked(); text != "" {
		return fmt.Errorf("not both sides are done: %s", text)
	}
	if n := len(l.links); n == 0 || l.links[n-1].link != "quic" {
		return fmt.Errorf("the session does not go back to QUIC: %v", l.links)
	}
	return nil
}

// carried tells what carried the session at some time from one moment to another.
func (l *ledger) carried(from, to time.Time) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[string]bool{}
	for i, c := range l.links {
		if c.at.Before(to) && (i+1 == len(l.links) || l.links[i+1].at.After(from)) {
			seen[c.link] = true
		}
	}
	return seen
}

func (l *ledger) unfinishedLocked() (text string) {
	n := 0
	for _, id := range slices.Sorted(maps.Keys(l.streams)) {
		e := l.streams[id]
		if e.opener != nil && e.acceptor != nil || l.excusedLocked(e.sessionNumber()) {
			continue
		}
		if n++; n <= 5 {
			text += fmt.Sprintf("\n  opener %t, acceptor %t: %+v", e.opener != nil, e.acceptor != nil, e.spec)
		}
	}
	if n > 5 {
		text += fmt.Sprintf("\n  and %d more", n-5)
	}
	return text
}

func (e *entry) sessionNumber() uint64 {
	switch {
	case e.opener != nil:
		return e.opener.Session
	case e.acceptor != nil:
		return e.acceptor.Session
	default:
		return e.spec.Session
	}
}

// trouble gives the problems so far.
func (l *ledger) trouble() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.problems)
}

// done is a step that was played.
type done struct {
	step
	begin, end time.Time
	// cut is when the last fault ended that let nothing through; zero when there
	// was none.
	cut time.Time
	// worst says that the link was E: all waits are longer there.
	worst bool
}

// stalls gives, for each step, how long the user of a terminal waited although
// something could get through again. What a wait has of the next step is that one's.
func (l *ledger) stalls(steps []done) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	stalls := make([]time.Duration, len(steps))
	for _, g := range l.gaps {
		for i, s := range steps {
			to := g.to
			if i+1 < len(steps) {
				to = earlier(to, steps[i+1].begin)
			}
			stalls[i] = max(stalls[i], to.Sub(later(g.from, later(s.begin, s.cut))))
		}
	}
	return stalls
}

// longest gives the gap that was longest without the times in which nothing could
// get through, and how long that is: of those over the worst link, or of the others.
func (l *ledger) longest(steps []done, worst bool) (longest gap, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.gaps {
		d, bad := g.to.Sub(g.from), false
		for i, s := range steps {
			d -= max(earlier(g.to, s.cut).Sub(later(g.from, s.begin)), 0)
			over := i+1 < len(steps) && steps[i+1].begin.Before(g.from)
			bad = bad || s.worst && s.begin.Before(g.to) && !over
		}
		if bad == worst && d > length {
			longest, length = g, d
		}
	}
	return longest, length
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// summary tells of each kind of fault how often it came and what it cost.
func (l *ledger) summary(steps []done) []string {
	stalls := l.stalls(steps)
	byKind := map[string][]time.Duration{}
	for i, s := range steps {
		byKind[s.name()] = append(byKind[s.name()], stalls[i])
	}
	var lines []string
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		all := byKind[kind]
		slices.Sort(all)
		lines = append(lines, fmt.Sprintf("%-13s %3d times, longest stall %7.2f s, half of them under %5.2f s",
			kind, len(all), all[len(all)-1].Seconds(), all[len(all)/2].Seconds()))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, n := range l.shapes {
		total += n
	}
	return append(lines,
		fmt.Sprintf("%d streams in %d sessions, %.1f MB: %v", total, len(l.sessions), float64(l.bytes)/1e6, l.shapes),
		fmt.Sprintf("peak memory: %v", l.used))
}
