package store

import (
	"fmt"
	"syscall"
	"time"
)

// Pauses after a compaction that found no room, doubled each time until there is
// room: what it wrote in vain wears the flash.
const (
	minCompactPause = 5 * time.Second
	maxCompactPause = time.Hour
)

// waitToCompact returns when a compaction may begin to write, or an error when
// the store is being closed. Compactions rewrite: they need room before they give
// any back.
func (p *space) waitToCompact() error {
	for {
		usage, err := p.fs.GetDiskUsage(p.dir)
		p.mu.Lock()
		wait := time.Until(p.compactAfter)
		short := p.known && err == nil && usage.AvailBytes < p.low/2
		if short {
			wait = max(wait, spacePoll)
		}
		opening, reserve := p.opening || !p.watching, p.reserve
		p.mu.Unlock()
		if short && reserve && !opening && p.giveUpReserve() {
			continue // nothing else gives room back for what was deleted
		}
		if wait <= 0 {
			return nil
		}
		if opening { // which waits for compactions, and starts none again before it ends
			return fmt.Errorf("no room to compact: %w", syscall.ENOSPC)
		}
		t := time.NewTimer(min(wait, spacePoll))
		select {
		case <-t.C:
		case <-p.stopped:
			t.Stop()
			return fmt.Errorf("the store is being closed: %w", syscall.ENOSPC)
		}
	}
}

// setOpening says that Pebble opens the database for writing, or is done with it.
func (p *space) setOpening(opening bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening = opening
}

// compactionFailed notes that a compaction found no room.
func (p *space) compactionFailed(err error) error {
	if !isFull(err) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.compactPause = min(max(2*p.compactPause, minCompactPause), maxCompactPause)
	p.compactAfter = time.Now().Add(p.compactPause)
	p.setFullLocked(true)
	p.lookLaterLocked()
	return err
}
