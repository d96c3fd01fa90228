package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry-io/skerry/edgeagent/logrotate"
)

// readBlock is how much of a file is read at once.
const readBlock = 32 << 10

// Options say what Read prints. The zero value prints nothing of stderr; see
// Stream.
type Options struct {
	// Stream is which output to print: StreamAll for both.
	Stream Stream
	// TailLines begins that many lines before the end; nil begins at the start.
	TailLines *int64
	// Since hides lines that are older; zero hides none.
	Since time.Time
	// Timestamps puts each line's time before it.
	Timestamps bool
	// LimitBytes ends after exactly that many bytes; nil means no limit.
	LimitBytes *int64
	// Follow waits for more at the end of the file, until the container has ended.
	Follow bool
	// Running tells whether the container can still write; asked when following
	// has reached the end of the file. Nil means that it always can.
	Running func() bool
}

// Read prints the log file at path to w. What can be printed at once comes in
// few large Writes, and nothing is kept back while Read waits for more.
// Without Follow it ends where the file ended when it was opened.
func Read(ctx context.Context, w io.Writer, path string, o Options) error {
	// The watcher must see the directory in which the file itself is renamed.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("find log file: %w", err)
	}
	r := &reader{path: path, follow: o.Follow, running: o.Running, out: newPrinter(w, o), buf: make([]byte, readBlock)}
	if o.LimitBytes != nil && *o.LimitBytes <= 0 {
		return nil
	}
	if err := r.start(ctx, o); err != nil {
		if errors.Is(err, errLimit) {
			return r.out.flush()
		}
		return err
	}
	defer func() { _ = r.f.Close() }()
	err = r.run(ctx)
	if err == nil || errors.Is(err, errLimit) {
		return r.out.flush()
	}
	return err
}

// reader is one Read.
type reader struct {
	path    string
	follow  bool
	running func() bool

	f    *os.File
	last string // stamp of the newest part when f had the log's name
	off  int64  // of f, for seeing that it was truncated
	size int64  // of f when it was opened
	in   parser
	out  *printer
	buf  []byte
}

// start opens the log and prints what of it was rotated away before.
func (r *reader) start(ctx context.Context, o Options) error {
	f, parts, err := r.openLog(ctx)
	if err != nil {
		return err
	}
	r.f, r.last = f, newest(parts)
	if err := r.begin(ctx, parts, o); err != nil {
		_ = f.Close()
		return err
	}
	return nil
}

func (r *reader) begin(ctx context.Context, parts []logrotate.Part, o Options) error {
	info, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("size of log file: %w", err)
	}
	r.size = info.Size()
	if o.TailLines == nil {
		return r.printParts(ctx, recent(parts, o.Since), r.out)
	}
	var missing int64
	if r.off, missing, err = tailOffset(r.f, r.size, *o.TailLines); err != nil {
		return fmt.Errorf("find the last %d lines of %s: %w", *o.TailLines, r.path, err)
	}
	if _, err = r.f.Seek(r.off, io.SeekStart); err != nil {
		return fmt.Errorf("seek in log file: %w", err)
	}
	return r.printTail(ctx, parts, missing)
}

func (r *reader) run(ctx context.Context) error {
	if r.follow {
		return r.followFile(ctx)
	}
	// A container that writes faster than the caller reads must not keep this
	// from ending.
	return r.copy(ctx, r.size)
}

// copy prints from the current offset to the end of the file, or to limit when
// that is not negative.
func (r *reader) copy(ctx context.Context, limit int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := r.buf
		if limit >= 0 {
			b = b[:min(int64(len(b)), max(limit-r.off, 0))]
			if len(b) == 0 {
				return nil
			}
		}
		n, err := r.f.Read(b)
		r.off += int64(n)
		if ferr := r.in.feed(b[:n], r.out); ferr != nil {
			return ferr
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read log file: %w", err)
		}
	}
}
