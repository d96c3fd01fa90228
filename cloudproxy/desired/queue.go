package desired

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Bounds of what may be on the way to one edge. On a link with a round trip of
// 600 ms a window of 1 MiB keeps 14 Mbit/s busy.
const (
	maxUnacked      = 256
	maxUnackedBytes = 1 << 20
)

// errAck says that the edge acknowledged what was never sent.
var errAck = errors.New("acknowledgement of a change that was not sent")

// flight is a change that was sent and not yet acknowledged.
type flight struct {
	seq   uint64
	key   string
	bytes int
	// deleted says that the change takes the object away.
	deleted bool
}

// queue is what the goroutines around a stream share: keys to look at, and the
// window of what is on the way. A key that is on the way is held back until its
// acknowledgement, so that a burst of changes costs one message per round trip.
type queue struct {
	bell chan struct{} // capacity 1: something below changed

	mu      sync.Mutex // guards the following fields
	order   []string
	queued  map[string]time.Time // since when each key of order is in it
	looked  time.Time            // since when the key that next gave last was queued
	flights []flight
	bytes   int                  // of flights
	flying  map[string]bool      // keys of flights
	held    map[string]time.Time // keys to be queued when their flight is over, since when they should be
	lags    map[string]lag
	// versions is what the edge holds or is being sent; known says that all the edge
	// held at the beginning is in it.
	versions map[string]string
	known    bool
	sent     uint64 // last seq given out
	stored   uint64 // last seq acknowledged
	results  []tokenResult
	synced   bool
}

func newQueue() *queue {
	return &queue{
		bell:     make(chan struct{}, 1),
		queued:   make(map[string]time.Time),
		flying:   make(map[string]bool),
		held:     make(map[string]time.Time),
		lags:     make(map[string]lag),
		versions: make(map[string]string),
	}
}

func (q *queue) ring() {
	select {
	case q.bell <- struct{}{}:
	default:
	}
}

// mark puts a key into the set of those to be looked at.
func (q *queue) mark(key string) {
	q.mu.Lock()
	q.markLocked(key, time.Now())
	q.mu.Unlock()
	q.ring()
}

func (q *queue) markLocked(key string, since time.Time) {
	if _, ok := q.queued[key]; !ok {
		q.queued[key] = since
		q.order = append(q.order, key)
	}
}

// next takes the first key of the set.
func (q *queue) next() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		// Let go of what a burst made large.
		q.order, q.queued = nil, make(map[string]time.Time)
		if len(q.lags) == 0 {
			q.lags = make(map[string]lag)
		}
		return "", false
	}
	key := q.order[0]
	q.order = q.order[1:]
	q.looked = q.queued[key]
	delete(q.queued, key)
	return key, true
}

// hold says whether key is on the way, and if so remembers to look at it again
// when it has arrived.
func (q *queue) hold(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.flying[key] {
		return false
	}
	if _, ok := q.held[key]; !ok {
		q.held[key] = q.looked
	}
	return true
}

// flies says whether a change of key is on the way.
func (q *queue) flies(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flying[key]
}

func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.flights) >= maxUnacked || q.bytes >= maxUnackedBytes
}

// launch gives out the next seq, for an object to be stored under key.
func (q *queue) launch(key, version string, size int) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.versions[key] = version
	return q.launchLocked(flight{key: key, bytes: size})
}

// launchDelete is launch for a key that the edge is to forget. It says whether the edge
// had it: if not, there is nothing to send.
func (q *queue) launchDelete(key string) (uint64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.versions[key]; !ok {
		return 0, false
	}
	delete(q.versions, key)
	return q.launchLocked(flight{key: key, bytes: len(key), deleted: true}), true
}

func (q *queue) launchLocked(f flight) uint64 {
	q.sent++
	f.seq = q.sent
	q.flights = append(q.flights, f)
	q.bytes += f.bytes
	q.flying[f.key] = true
	q.lags[f.key] = lag{since: q.looked}
	return q.sent
}

// land ends all flights up to seq.
func (q *queue) land(seq uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if seq > q.sent {
		return fmt.Errorf("seq %d, last sent %d: %w", seq, q.sent, errAck)
	}
	n := 0
	for ; n < len(q.flights) && q.flights[n].seq <= seq; n++ {
		f := &q.flights[n]
		q.bytes -= f.bytes
		delete(q.flying, f.key)
		q.storedLocked(f)
		if since, ok := q.held[f.key]; ok {
			delete(q.held, f.key)
			q.markLocked(f.key, since)
		}
	}
	if q.flights = q.flights[n:]; len(q.flights) == 0 {
		q.flights = nil
	}
	q.stored = max(q.stored, seq)
	return nil
}

// readAcks takes acknowledgements until the stream ends.
func (q *queue) readAcks(r *wire.Reader) error {
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF // the edge never ends this stream in peace
		}
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *wire.Ack:
			if f.Step != wire.StepStored {
				continue
			}
			if err := q.land(f.Seq); err != nil {
				return err
			}
			q.ring()
		case *wire.Progress:
			q.advance(f.Entries)
		}
	}
}
