package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// maxClockGap is the most that a time between two runs counts. A clock that is
	// years off at the start makes entries a day older at most, and a machine that
	// was off for a month keeps what it has to tell.
	maxClockGap = 24 * time.Hour
	// clockSavePeriod is how often the clock is written, with an entry.
	clockSavePeriod = 10 * time.Minute
	// clockJump is by how much the machine's clock must have been set for it to be
	// written at once: else the next run would take it for time that has gone by.
	clockJump = time.Minute
)

// ageClock tells how old entries are. It never goes back and does not jump: while
// the store is open it follows the monotonic clock, and between two runs the
// machine's, of which it believes what is plausible.
type ageClock struct {
	wall      func() time.Time // the machine's
	base      time.Duration
	start     time.Time
	saved     time.Duration // -1 when it was not saved in this run
	savedWall int64         // what the machine's was then
}

func loadAgeClock(s *Store) (*ageClock, error) {
	c := &ageClock{wall: s.cfg.wall, start: time.Now(), saved: -1}
	b, err := s.get(dbKey(kindInternal, nameClock))
	if errors.Is(err, ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) != 16 {
		return nil, fmt.Errorf("age clock of %d bytes: %w", len(b), ErrCorrupt)
	}
	c.base = time.Duration(binary.BigEndian.Uint64(b)) * time.Second
	// In seconds: a difference of centuries has no time.Duration.
	gap := c.wall().Unix() - int64(binary.BigEndian.Uint64(b[8:]))
	c.base += time.Duration(min(max(gap, 0), int64(maxClockGap/time.Second))) * time.Second
	return c, nil
}

func (c *ageClock) now() time.Duration { return c.base + time.Since(c.start) }

// of gives when a sequenced entry was made. One of format 1 counts from the start
// of this run.
func (c *ageClock) of(v []byte) time.Duration {
	at, ok := messageTime(v)
	if !ok {
		return c.base
	}
	return time.Duration(at) * time.Second
}

// write adds the clock to b when it is time for it.
func (c *ageClock) write(b *pebble.Batch) {
	now, wall := c.now(), c.wall().Unix()
	if c.saved >= 0 && now-c.saved < clockSavePeriod {
		jump := wall - c.savedWall - int64((now-c.saved)/time.Second)
		if max(jump, -jump) < int64(clockJump/time.Second) {
			return
		}
	}
	c.saved, c.savedWall = now, wall
	v := binary.BigEndian.AppendUint64(nil, uint64(now/time.Second))
	set(b, dbKey(kindInternal, nameClock), binary.BigEndian.AppendUint64(v, uint64(wall)))
}
