package store

import (
	"io/fs"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// quotaFS is a disk with an end, on which others write, too. What is written
// counts until its file is removed or replaced.
type quotaFS struct {
	vfs.FS
	mu    sync.Mutex // guards the following fields
	total uint64
	other uint64
	sizes map[string]uint64
	fails int // operations that found no room
}

func newQuotaFS(total uint64) *quotaFS {
	return &quotaFS{FS: vfs.NewMem(), total: total, sizes: make(map[string]uint64)}
}

func (q *quotaFS) usedLocked() uint64 {
	n := q.other
	for _, s := range q.sizes {
		n += s
	}
	return n
}

// leave has others fill the disk until only free bytes are left.
func (q *quotaFS) leave(free uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.other = 0
	if used := q.usedLocked(); used+free < q.total {
		q.other = q.total - used - free
	}
}

func (q *quotaFS) failures() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fails
}

// take takes room for as much of n as there is.
func (q *quotaFS) take(name string, n int) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	used := q.usedLocked()
	free := uint64(0)
	if used < q.total {
		free = q.total - used
	}
	if uint64(n) > free || n == 0 && free == 0 {
		q.fails++
		q.sizes[name] += free
		return int(free), syscall.ENOSPC
	}
	q.sizes[name] += uint64(n)
	return n, nil
}

func (q *quotaFS) forget(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.sizes, name)
}

func (q *quotaFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if _, err := q.take(name, 0); err != nil {
		return nil, err
	}
	f, err := q.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	q.forget(name)
	return &quotaFile{File: f, fs: q, name: name}, nil
}

func (q *quotaFS) Remove(name string) error {
	err := q.FS.Remove(name)
	if err == nil {
		q.forget(name)
	}
	return err
}

func (q *quotaFS) Rename(from, to string) error {
	err := q.FS.Rename(from, to)
	if err == nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.sizes[to] = q.sizes[from]
		delete(q.sizes, from)
	}
	return err
}

func (q *quotaFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := q.Remove(from); err != nil {
		return nil, err
	}
	return q.Create(to, category)
}

func (q *quotaFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	used := min(q.usedLocked(), q.total)
	return vfs.DiskUsage{AvailBytes: q.total - used, TotalBytes: q.total, UsedBytes: used}, nil
}

func (q *quotaFS) exists(name string) bool {
	_, err := q.Stat(name)
	return err == nil
}

func (q *quotaFS) Unwrap() vfs.FS { return q.FS }

type quotaFile struct {
	vfs.File
	fs   *quotaFS
	name string
}

func (f *quotaFile) Write(p []byte) (int, error) {
	n, full := f.fs.take(f.name, len(p))
	n, err := f.File.Write(p[:n])
	if err == nil {
		err = full
	}
	return n, err
}

func (f *quotaFile) WriteAt([]byte, int64) (int, error) { return 0, fs.ErrInvalid }
