package store

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"time"
)

// dirLock keeps other processes from a store's directory.
//
// A lock inside the directory would not do: a repair renames the directory, and
// who has opened the lock's file before that and locks it after holds the one
// that was set aside. So the lock that counts lies beside the directory. The one
// inside keeps Pebble's own tools out.
type dirLock struct{ beside, inside io.Closer }

// lockDir makes the directory if need be, and locks it. A repair that a crash
// interrupted between its two renames is finished first.
func lockDir(cfg Config) (*dirLock, error) {
	beside, err := cfg.FS.Lock(cfg.Dir + ".lock")
	if errors.Is(err, fs.ErrNotExist) {
		if err := cfg.FS.MkdirAll(cfg.FS.PathDir(cfg.Dir), 0o700); err != nil {
			return nil, classify(err)
		}
		beside, err = cfg.FS.Lock(cfg.Dir + ".lock")
	}
	if err != nil {
		return nil, classifyLock(err)
	}
	l := &dirLock{beside: beside}
	if err := errors.Join(finishRepair(cfg), cfg.FS.MkdirAll(cfg.Dir, 0o700)); err != nil {
		return nil, errors.Join(classify(err), l.Close())
	}
	if err := l.lockInside(cfg); err != nil {
		return nil, errors.Join(classifyLock(err), l.Close())
	}
	return l, nil
}

func (l *dirLock) lockInside(cfg Config) (err error) {
	l.inside, err = cfg.FS.Lock(cfg.FS.PathJoin(cfg.Dir, "LOCK"))
	return err
}

func (l *dirLock) unlockInside() error {
	if l.inside == nil {
		return nil
	}
	inside := l.inside
	l.inside = nil
	return inside.Close()
}

// Close implements io.Closer.
func (l *dirLock) Close() error {
	return errors.Join(l.unlockInside(), l.beside.Close())
}

// keep leaves the lock to the end of the process. A file that nobody refers to
// any more would be closed, and its lock be given up, by the garbage collector.
func (l *dirLock) keep() {
	time.AfterFunc(math.MaxInt64, func() { _ = l.Close() })
}
