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

	"github.com/skerry-io/skerry/edgeagent/logrotate"
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
		moved, err := r.rotated()
		if err != nil {
			return err
		}
		switch {
		case moved:
			if err := r.switchOver(ctx); err != nil {
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

// rotated says whether another file has taken the name, and goes back to the
// start when the file was truncated in place.
func (r *reader) rotated() (bool, error) {
	cur, err := r.f.Stat()
	if err != nil {
		return false, fmt.Errorf("look at log file: %w", err)
	}
	if cur.Size() < r.off {
		r.in.reset()
		r.off = 0
		if _, err := r.f.Seek(0, io.SeekStart); err != nil {
			return false, fmt.Errorf("seek in log file: %w", err)
		}
		return false, nil
	}
	named, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // renamed, and the runtime has not made the new one yet
	}
	if err != nil {
		return false, fmt.Errorf("look at log file: %w", err)
	}
	return !os.SameFile(cur, named), nil
}

// switchOver prints what still comes into the old file, the parts that rotation
// has made after it, and goes on with the file that has the log's name now.
func (r *reader) switchOver(ctx context.Context) error {
	next, parts, err := r.openLog(ctx)
	if err != nil {
		return err
	}
	for len(parts) > 0 && parts[0].Stamp <= r.last {
		parts = parts[1:]
	}
	err = r.finishOld(ctx, parts)
	_ = r.f.Close()
	r.f, r.off = next, 0
	if len(parts) > 0 {
		r.last = newest(parts)
	}
	r.in.reset()
	return err
}

// finishOld prints the end of the file that was followed, and all of the parts
// that are newer: a reader that is slower than the container has several.
func (r *reader) finishOld(ctx context.Context, parts []logrotate.Part) error {
	if len(parts) <= 1 {
		_ = pause(ctx, settle) // the runtime may still write to it
	}
	if err := r.copy(ctx, -1); err != nil {
		return err
	}
	old, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("look at log file: %w", err)
	}
	if len(parts) > 0 && parts[0].Holds(old) {
		parts = parts[1:]
	}
	return r.printParts(ctx, parts, r.out)
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
