package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// checkEvery is how often a follower looks whether the container still runs,
	// and at the file, in case an event was lost.
	checkEvery = time.Second
	// pollEvery is how often it looks at the file where inotify can't be had: its
	// instances are few (128 by default) and shared with all pods of the user.
	pollEvery = 250 * time.Millisecond
	// settle is how long the runtime may still write into a rotated file after it
	// has made the new one.
	settle = 200 * time.Millisecond
)

func (r *reader) followFile(ctx context.Context) error {
	// The watch begins before the first read, so that nothing falls in between.
	w := newWatcher(filepath.Dir(r.path))
	defer w.close()
	for {
		// Asked before the file is read: what was written before the end is printed.
		ended := r.running != nil && !r.running()
		if err := r.copy(ctx, -1); err != nil {
			return err
		}
		if err := r.out.flush(); err != nil {
			return err
		}
		next, err := r.rotated()
		if err != nil {
			return err
		}
		switch {
		case next != nil:
			if err := r.switchTo(ctx, next); err != nil {
				return err
			}
			continue
		case ended:
			return nil
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
}

// rotated returns the new file when another one has taken the name, and goes
// back to the start when the file was truncated in place.
func (r *reader) rotated() (*os.File, error) {
	cur, err := r.f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at log file: %w", err)
	}
	if cur.Size() < r.off {
		r.in.reset()
		r.off = 0
		if _, err := r.f.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("seek in log file: %w", err)
		}
		return nil, nil
	}
	named, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // renamed, and the runtime has not made the new one yet
	}
	if err != nil {
		return nil, fmt.Errorf("look at log file: %w", err)
	}
	if os.SameFile(cur, named) {
		return nil, nil
	}
	f, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	return f, nil
}

// switchTo prints what still comes into the old file and goes on with next.
func (r *reader) switchTo(ctx context.Context, next *os.File) error {
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	if err := r.copy(ctx, -1); err != nil {
		_ = next.Close()
		return err
	}
	_ = r.f.Close()
	r.f, r.off = next, 0
	r.in.reset()
	return nil
}

// watcher wakes a follower when something happens in a directory, and at least
// every checkEvery.
type watcher struct {
	fs   *fsnotify.Watcher // nil: poll
	tick *time.Ticker
}

func newWatcher(dir string) *watcher {
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(dir); err == nil {
			return &watcher{fs: w, tick: time.NewTicker(checkEvery)}
		}
		_ = w.Close()
	}
	return &watcher{tick: time.NewTicker(pollEvery)}
}

func (w *watcher) close() {
	w.tick.Stop()
	if w.fs != nil {
		_ = w.fs.Close()
	}
}

func (w *watcher) wait(ctx context.Context) error {
	var events chan fsnotify.Event
	var errs chan error
	if w.fs != nil {
		events, errs = w.fs.Events, w.fs.Errors
	}
	select {
	case <-events:
	case err := <-errs:
		_ = err // lost events, mostly: a look at the file makes up for them
	case <-w.tick.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
