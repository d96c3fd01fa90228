package tunnel

import (
	"fmt"
	"maps"
	"slices"
)

// maxHoles bounds the ids that the peer left out so far. Its streams come by lanes
// of their own, so the first bytes of one may come after those of the next.
const maxHoles = 4 * defaultStreams

// fillStreams gives a bound on streams its default, and refuses one that can't be.
func fillStreams(most *int) error {
	if *most == 0 {
		*most = defaultStreams
	}
	if *most < 0 || *most > mostStreams {
		return fmt.Errorf("MaxStreams is %d, want at most %d", *most, mostStreams)
	}
	return nil
}

// table has the streams of a session by their ids.
type table struct {
	streams map[uint64]*Stream
	own     int                 // of streams, those that this side opened
	parity  uint64              // of this side's ids
	next    uint64              // this side's next id
	highest uint64              // of the peer's ids that were seen
	holes   map[uint64]struct{} // the peer's ids below highest that were not seen
}

func newTable(edge bool) table {
	t := table{streams: make(map[uint64]*Stream), parity: 0, next: 2, holes: make(map[uint64]struct{})}
	if edge {
		t.parity, t.next = 1, 1
	}
	return t
}

// open adds a stream of this side and gives its id.
func (t *table) open(st *Stream) uint64 {
	id := t.next
	t.next += 2
	t.own++
	t.streams[id] = st
	return id
}

// mine reports that an id is one of this side's.
func (t *table) mine(id uint64) bool { return id%2 == t.parity }

// seen reports whether an id was in use: it is, or has been finished with.
func (t *table) seen(id uint64) bool {
	if t.mine(id) {
		return id < t.next
	}
	_, hole := t.holes[id]
	return id <= t.highest && !hole
}

// see marks an id of the peer as seen. It fails when the peer leaves out too many.
func (t *table) see(id uint64) bool {
	delete(t.holes, id)
	if id <= t.highest {
		return true
	}
	first := t.highest + 2
	if t.highest == 0 {
		first = 2 - id%2
	}
	if (id-first)/2+uint64(len(t.holes)) > maxHoles {
		return false
	}
	for ; first < id; first += 2 {
		t.holes[first] = struct{}{}
	}
	t.highest = id
	return true
}

func (t *table) remove(id uint64) {
	if _, ok := t.streams[id]; ok && t.mine(id) {
		t.own--
	}
	delete(t.streams, id)
}

func (t *table) all() []*Stream { return slices.Collect(maps.Values(t.streams)) }
