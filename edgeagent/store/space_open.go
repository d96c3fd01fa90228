package store

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// roomToOpen tells whether Pebble can open the database and write what its log
// has into tables, and whether there is so much room that it will not have to
// wait. It gives up the reserve for that.
func (p *space) roomToOpen() (room, plenty bool) {
	free := func() uint64 {
		usage, err := p.fs.GetDiskUsage(p.dir)
		if err != nil || !p.known {
			return p.high // not known: an error will tell
		}
		return usage.AvailBytes
	}
	if free() < p.low/2 {
		p.giveUpReserve()
	}
	if free() < p.floor {
		return false, false
	}
	if p.probe() || p.giveUpReserve() && p.probe() {
		return true, free() >= p.high
	}
	return false, false
}

// probe tells whether a file can be made: a disk that has room may have no inodes
// left, or no quota for this user.
func (p *space) probe() bool {
	name := p.dir + ".probe"
	f, err := p.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(make([]byte, 1<<10))
		err = errors.Join(err, f.Close(), p.fs.Remove(name))
	}
	if isFull(err) {
		_ = p.fs.Remove(name)
		return false
	}
	return true
}

// hold has tables stay that are removed, until release: someone reads the
// database as it was before it was opened for writing.
func (p *space) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding = true
}

// held tells whether name, that is being removed, stays for now.
func (p *space) held(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.holding || !strings.HasSuffix(name, ".sst") {
		return false
	}
	p.removed = append(p.removed, name)
	return true
}

// release removes what was held.
func (p *space) release() {
	p.mu.Lock()
	names := p.removed
	p.holding, p.removed = false, nil
	p.mu.Unlock()
	for _, name := range names {
		if err := p.fs.Remove(name); err != nil {
			p.log.Warn("table that is no longer needed can't be removed before the next start", "path", name, "error", err)
		}
	}
}
