package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// spacePoll is how often room is looked for while there is none.
	spacePoll = 2 * time.Second
	// spaceRetry is how often an operation of Pebble's that found no room is tried
	// again.
	spaceRetry = 250 * time.Millisecond
	// stuckGrace is how long a caller waits for an operation of Pebble's that waits
	// for room.
	stuckGrace = time.Second
)

// room is what a write needs.
type room int

const (
	// roomToGrow is asked for by what can wait at its sender: objects, events.
	roomToGrow room = iota
	// roomToShrink is asked for by what is bounded by its keys, or deletes:
	// statuses, so that the cloud hears that the disk is full.
	roomToShrink
	// roomToTrim is asked for by what only deletes, and by no one who waits for it.
	roomToTrim
)

// space watches the room on the disk that holds the store.
//
// Writes are refused before Pebble is near the end of the disk: an error inside
// Pebble leaves it unusable. Others fill the same disk, so it can be full all the
// same. Then the reserve is given up, and where that does not help, Pebble's
// operation waits instead of failing, and everyone who would wait for it is
// refused at once.
type space struct {
	fs          vfs.FS
	dir, path   string
	low, high   uint64 // full below low, until there is high
	floor       uint64 // below it nothing is taken
	reserveSize uint64
	log         *slog.Logger

	// work is held while the reserve is made and while reopen runs; taken before mu.
	work   sync.Mutex
	reopen func() error // set while the store can only be read
	retire func() bool  // set until what could only be read is closed
	owed   func() bool  // does what a full disk has put off, and tells whether all is done; may be nil

	mu       sync.Mutex // guards the following fields
	known    bool       // the file system tells how full it is
	reserve  bool       // the reserve is there
	patient  bool       // operations wait for room, instead of failing
	reading  bool       // the store can only be read
	watching bool       // start was called
	opening  bool       // Pebble opens the database for writing
	full     bool
	since    time.Time
	changed  chan struct{} // closed when full changes
	waiting  int           // operations that wait for room
	waits    chan struct{} // closed while there are some
	stopped  chan struct{}
	timer    *time.Timer

	holding bool     // tables that are removed stay for now
	removed []string // those that do

	compactPause time.Duration // of the last compaction that found no room
	compactAfter time.Time     // no compaction before
}

func newSpace(cfg Config) *space {
	p := &space{
		fs: cfg.FS, dir: cfg.Dir, path: cfg.Dir + ".reserve", log: cfg.Log,
		low: cfg.MinFreeBytes, reserveSize: cfg.ReserveBytes,
		changed: make(chan struct{}), waits: make(chan struct{}), stopped: make(chan struct{}),
	}
	p.measure()
	return p
}

// measure sets the bounds for the disk's size.
func (p *space) measure() {
	usage, err := p.fs.GetDiskUsage(p.dir)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known = err == nil; p.known {
		p.low = min(p.low, usage.TotalBytes/8)
		p.reserveSize = min(p.reserveSize, usage.TotalBytes/16)
	}
	p.high, p.floor = 2*p.low, p.low/4
}

// bePatient has operations wait for room from now on, instead of failing.
func (p *space) bePatient() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.patient = true
}

// Full tells whether the disk is so full that the store takes no objects and no
// events, and since when. Statuses are taken for as long as there is any room.
func (s *Store) Full() (full bool, since time.Time) {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	return s.space.full, s.space.since
}

// FullChanged is closed when the answer of Full changes the next time.
func (s *Store) FullChanged() <-chan struct{} {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	return s.space.changed
}

// WaitRoom returns nil when the disk is not full.
func (s *Store) WaitRoom(ctx context.Context) error {
	for {
		changed := s.FullChanged()
		if full, _ := s.Full(); !full {
			return nil
		}
		select {
		case <-changed:
		case <-s.failed:
			return s.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start begins to watch. reopen is not nil when the store can only be read until
// it was called.
func (p *space) start(reopen func() error, retire, owed func() bool) {
	info, err := p.fs.Stat(p.path)
	p.work.Lock()
	p.reopen, p.retire, p.owed = reopen, retire, owed
	p.work.Unlock()
	p.measure()
	p.mu.Lock()
	p.reserve = err == nil && uint64(info.Size()) >= p.reserveSize // power loss may have cut it
	p.watching = true
	if p.reading = reopen != nil; p.reading {
		p.setFullLocked(true)
	}
	p.mu.Unlock()
	p.look()
}

// stop ends the watch; end waits for it.
func (p *space) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !isClosed(p.stopped) {
		close(p.stopped)
	}
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *space) end() {
	p.work.Lock()
	defer p.work.Unlock()
}

// admit refuses what there is no room for.
func (p *space) admit(need room) error {
	usage, err := p.fs.GetDiskUsage(p.dir)
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.known && err == nil // else only an error tells
	if known && usage.AvailBytes < p.low && !p.full {
		p.setFullLocked(true)
		p.lookLaterLocked()
	}
	refused := p.waiting > 0 || p.reading
	switch need {
	case roomToGrow:
		refused = refused || p.full
	case roomToShrink:
		refused = refused || known && usage.AvailBytes < p.floor && !p.reserve
	case roomToTrim:
	}
	if refused {
		return fmt.Errorf("%w: %d KiB free, %d KiB wanted", ErrDiskFull, usage.AvailBytes>>10, p.high>>10)
	}
	return nil
}

func (p *space) setFullLocked(full bool) {
	if p.full == full {
		return
	}
	p.full, p.since = full, time.Now()
	close(p.changed)
	p.changed = make(chan struct{})
	if full {
		p.log.Error("disk is full: no objects and events are stored until there is room", "dir", p.dir, "want_bytes", p.high)
	} else {
		p.compactPause, p.compactAfter = 0, time.Time{}
		p.log.Info("there is room on the disk again", "dir", p.dir)
	}
}

// owe has look called for what was put off.
func (p *space) owe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookLaterLocked()
}

// lookLaterLocked has look called while something is not as it should be.
func (p *space) lookLaterLocked() {
	if !p.watching || isClosed(p.stopped) {
		return
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(spacePoll, p.look)
		return
	}
	p.timer.Reset(spacePoll)
}

// look brings full, the reserve and the database in line with the room there is.
func (p *space) look() {
	p.work.Lock()
	defer p.work.Unlock()
	if isClosed(p.stopped) {
		return
	}
	usage, err := p.fs.GetDiskUsage(p.dir)
	p.mu.Lock()
	want := p.high
	if !p.full {
		want = p.low
	}
	known, reserve := p.known && err == nil, p.reserve
	if !known {
		reserve = true // where nothing tells how much room there is, none is kept
	}
	p.mu.Unlock()
	if !reserve {
		want += p.reserveSize
	}
	enough := !known || usage.AvailBytes >= want
	if enough && !reserve {
		reserve = p.makeReserve() == nil
	}
	if enough && p.reopen != nil {
		if err := p.reopen(); err != nil {
			p.log.Error("store can't be opened for writing yet", "error", err)
			enough = false
		} else {
			p.reopen = nil
		}
	}
	if p.reopen == nil && p.retire != nil && p.retire() {
		p.retire = nil
	}
	p.mu.Lock()
	p.reserve = reserve
	p.reading = p.reopen != nil
	p.mu.Unlock()
	paid := p.owed == nil || p.owed()
	p.mu.Lock()
	defer p.mu.Unlock()
	if enough {
		p.setFullLocked(p.waiting > 0)
	} else if usage.AvailBytes < p.low {
		p.setFullLocked(true)
	}
	if p.full || !p.reserve || p.retire != nil || !paid {
		p.lookLaterLocked()
	}
}

// giveUpReserve reports whether there was something to give up.
func (p *space) giveUpReserve() bool {
	err := p.fs.Remove(p.path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			p.mu.Lock()
			p.reserve = false // someone else has removed it
			p.mu.Unlock()
		} else {
			p.log.Warn("reserve of disk space can't be given up", "error", err)
		}
		return false
	}
	p.log.Warn("disk is full: reserve given up", "path", p.path)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserve = false
	p.setFullLocked(true)
	p.lookLaterLocked()
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// isFull tells the errors of a full disk.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
