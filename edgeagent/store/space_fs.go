package store

import (
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// compactionCategory is what Pebble calls the files that compactions write.
const compactionCategory vfs.DiskWriteCategory = "pebble-compaction"

// spaceFS has operations that find the disk full wait for room. A sync that fails
// is not repeated: the kernel may have thrown away what it could not write.
type spaceFS struct {
	vfs.FS
	space *space
}

// Unwrap implements vfs.FS.
func (fs spaceFS) Unwrap() vfs.FS { return fs.FS }

// Lock implements vfs.FS.
func (fs spaceFS) Lock(name string) (c io.Closer, err error) {
	err = fs.retry(func() error { c, err = fs.FS.Lock(name); return err })
	return c, err
}

// Create implements vfs.FS.
func (fs spaceFS) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	if category == compactionCategory {
		if err := fs.space.waitToCompact(); err != nil {
			return nil, err
		}
		f, err = fs.FS.Create(name, category)
		if err != nil {
			return nil, fs.space.compactionFailed(err)
		}
		return compactionFile{File: f, space: fs.space}, nil
	}
	err = fs.retry(func() error { f, err = fs.FS.Create(name, category); return err })
	return fs.wrap(f, err)
}

// Link implements vfs.FS.
func (fs spaceFS) Link(oldname, newname string) error {
	return fs.retry(func() error { return fs.FS.Link(oldname, newname) })
}

// OpenReadWrite implements vfs.FS.
func (fs spaceFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (f vfs.File, err error) {
	err = fs.retry(func() error { f, err = fs.FS.OpenReadWrite(name, category, opts...); return err })
	return fs.wrap(f, err)
}

// Remove implements vfs.FS.
func (fs spaceFS) Remove(name string) error {
	if fs.space.held(name) {
		return nil
	}
	return fs.FS.Remove(name)
}

// Rename implements vfs.FS.
func (fs spaceFS) Rename(oldname, newname string) error {
	return fs.retry(func() error { return fs.FS.Rename(oldname, newname) })
}

// ReuseForWrite implements vfs.FS.
func (fs spaceFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = fs.retry(func() error { f, err = fs.FS.ReuseForWrite(oldname, newname, category); return err })
	return fs.wrap(f, err)
}

func (fs spaceFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return spaceFile{File: f, fs: fs}, nil
}

func (fs spaceFS) retry(op func() error) error { return fs.space.untilRoom(op) }

// compactionFile is a table that a compaction writes. A compaction that finds no
// room fails, which Pebble outlives, and what it has written is removed: were it
// to wait, it would hold the room that others wait for.
type compactionFile struct {
	vfs.File
	space *space
}

// Write implements vfs.File.
func (f compactionFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.space.compactionFailed(err)
}

// spaceFile is a file that is written.
type spaceFile struct {
	vfs.File
	fs spaceFS
}

// Write implements vfs.File.
func (f spaceFile) Write(p []byte) (n int, err error) {
	err = f.fs.retry(func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

// WriteAt implements vfs.File.
func (f spaceFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.retry(func() error {
		m, err := f.File.WriteAt(p[n:], off+int64(n))
		n += m
		return err
	})
	return n, err
}
