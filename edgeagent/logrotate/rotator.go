package logrotate

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// The kubelet's defaults.
const (
	DefaultMaxSize  = 10 << 20
	DefaultMaxFiles = 5
	every           = 10 * time.Second
)

// Log is the log of one container.
type Log struct {
	// ContainerID is the runtime's.
	ContainerID string
	// Path is the file that the container writes to, or has written to.
	Path string
	// Running says that it may write now.
	Running bool
}

// Config is what a Rotator needs.
type Config struct {
	// Logs lists the logs of all containers. Required.
	Logs func() []Log
	// Reopen makes the runtime begin a new file under the log's name. Required.
	Reopen func(ctx context.Context, containerID string) error
	// MaxSize is how many bytes a log may have before it is rotated; zero means
	// DefaultMaxSize, less means never.
	MaxSize int64
	// MaxFiles is how many files a log may consist of, at least two; zero means
	// DefaultMaxFiles.
	MaxFiles int
	// Log receives what an operator acts on. Nil discards it.
	Log *slog.Logger
}

// Rotator rotates the logs of all containers.
type Rotator struct {
	cfg     Config
	failing map[string]bool // by path: told already
}

// New returns a Rotator. Nothing happens before Run.
func New(cfg Config) (*Rotator, error) {
	if cfg.Logs == nil || cfg.Reopen == nil {
		return nil, errors.New("logrotate: Logs and Reopen are required")
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = DefaultMaxFiles
	}
	if cfg.MaxFiles < 2 {
		return nil, fmt.Errorf("logrotate: MaxFiles is %d, must be 2 at least", cfg.MaxFiles)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Rotator{cfg: cfg, failing: map[string]bool{}}, nil
}

// Run rotates until ctx ends. It asks the runtime for nothing but new files: with
// logs that are small, a round costs a stat for each.
func (r *Rotator) Run(ctx context.Context) error {
	if r.cfg.MaxSize < 0 {
		return nil
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.round(ctx)
		}
	}
}

func (r *Rotator) round(ctx context.Context) {
	seen := map[string]bool{}
	for _, l := range r.cfg.Logs() {
		if l.Path == "" || ctx.Err() != nil {
			continue
		}
		err := r.look(ctx, l)
		seen[l.Path] = err != nil
		if err != nil && !r.failing[l.Path] && ctx.Err() == nil {
			r.cfg.Log.Warn("container log not rotated", "path", l.Path, "error", err)
		}
	}
	r.failing = seen
}

func (r *Rotator) look(ctx context.Context, l Log) error {
	info, err := os.Stat(l.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && l.Running:
		// The agent was killed after it had renamed the file, or somebody removed it.
		return r.cfg.Reopen(ctx, l.ContainerID)
	case errors.Is(err, fs.ErrNotExist):
		return takeBack(l.Path)
	case err != nil:
		return err
	case !l.Running || info.Size() < r.cfg.MaxSize:
		return nil
	}
	return r.rotate(ctx, l)
}

// rotate makes the log a part. Parts in excess go first, so that a full disk gets
// room before anything is written to it.
func (r *Rotator) rotate(ctx context.Context, l Log) error {
	parts, err := Parts(l.Path)
	if err != nil {
		return err
	}
	last := ""
	if len(parts) > 0 {
		last = parts[len(parts)-1].Stamp
	}
	// Beside those kept there will be the new part and the log itself.
	excess := max(len(parts)-max(r.cfg.MaxFiles-2, 0), 0)
	for _, p := range parts[:excess] {
		if err := p.remove(); err != nil {
			return err
		}
	}
	for _, p := range parts[excess:] {
		if err := p.pack(); err != nil {
			return err
		}
	}
	part := l.Path + "." + nextStamp(time.Now(), last)
	if err := os.Rename(l.Path, part); err != nil {
		return err
	}
	if err := r.cfg.Reopen(ctx, l.ContainerID); err != nil {
		// It has ended, or the runtime has: what was written stays under the log's name.
		if _, exists := os.Lstat(l.Path); errors.Is(exists, fs.ErrNotExist) {
			err = errors.Join(err, os.Rename(part, l.Path))
		}
		return fmt.Errorf("begin a new file: %w", err)
	}
	return nil
}

// nextStamp is a stamp of now that is later than last, whatever the clock says.
func nextStamp(now time.Time, last string) string {
	stamp := now.UTC().Format(stampFormat)
	if stamp > last {
		return stamp
	}
	at, err := time.Parse(stampFormat, last)
	if err != nil {
		return stamp
	}
	return at.Add(time.Second).Format(stampFormat)
}

// takeBack gives the log of a container that has ended its name back, which a
// rotation had taken when it was cut short.
func takeBack(path string) error {
	parts, err := Parts(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || len(parts) == 0 || parts[len(parts)-1].packed {
		return err
	}
	return os.Rename(parts[len(parts)-1].path, path)
}

func (p Part) remove() error {
	for _, name := range []string{p.path, p.path + gzSuffix, p.path + tmpSuffix} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pack compresses a part. One of which both files are there is packed once more: a
// machine that lost power may have kept the name of the packed one, and no more.
func (p Part) pack() error {
	if !p.plain {
		return ignoreGone(os.Remove(p.path + tmpSuffix))
	}
	from, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	tmp := p.path + tmpSuffix
	if err := compress(from, tmp, info.Mode()); err != nil {
		return errors.Join(err, ignoreGone(os.Remove(tmp)))
	}
	// A reader that follows knows by its time which part its file has become.
	if err := os.Chtimes(tmp, info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	if err := os.Rename(tmp, p.path+gzSuffix); err != nil {
		return err
	}
	return os.Remove(p.path)
}

func compress(from io.Reader, to string, mode fs.FileMode) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed) // a gateway's CPU is slower than its disk
	if err == nil {
		_, err = io.Copy(z, from)
		err = errors.Join(err, z.Close())
	}
	if err == nil {
		err = f.Sync() // before the part that it is made of is removed
	}
	return errors.Join(err, f.Close())
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
