package store

import (
	"errors"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeReserve takes room on the disk to give up when there is none.
func (p *space) makeReserve() error {
	f, err := p.fs.Create(p.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err = f.Preallocate(0, int64(p.reserveSize)); err != nil || f.Fd() == vfs.InvalidFd {
		err = fill(f, p.reserveSize)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		p.log.Warn("reserve of disk space can't be made", "error", err)
		_ = p.fs.Remove(p.path)
	}
	return err
}

// fill writes what no file system can squeeze.
func fill(f vfs.File, size uint64) error {
	rng := rand.NewChaCha8([32]byte{})
	b := make([]byte, 64<<10)
	for left := size; left > 0; {
		n := min(left, uint64(len(b)))
		_, _ = rng.Read(b[:n])
		if _, err := f.Write(b[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}
