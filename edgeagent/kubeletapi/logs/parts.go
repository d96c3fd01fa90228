package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/skerry-io/skerry/edgeagent/logrotate"
)

// openTries is how often an open is tried while rotation has just taken the name
// away: the runtime makes the new file within milliseconds.
const openTries = 10

// openLog opens the log under its name, with the parts that were rotated away
// before: what rotation does meanwhile can't slip in between.
func (r *reader) openLog(ctx context.Context) (*os.File, []logrotate.Part, error) {
	for try := 0; ; try++ {
		before, err := logrotate.Parts(r.path)
		if err != nil {
			return nil, nil, err
		}
		f, err := os.Open(r.path)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) || len(before) == 0 || try == openTries {
				return nil, nil, fmt.Errorf("open log file: %w", err)
			}
			if err := pause(ctx, settle); err != nil {
				return nil, nil, err
			}
			continue
		}
		after, err := logrotate.Parts(r.path)
		if err == nil && newest(after) == newest(before) {
			return f, after, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newest is the stamp of the last part, empty for none.
func newest(parts []logrotate.Part) string {
	if len(parts) == 0 {
		return ""
	}
	return parts[len(parts)-1].Stamp
}

// printParts prints parts from their beginning. One that rotation has removed
// meanwhile, being one too many, is lost, and so is what of one can't be unpacked.
func (r *reader) printParts(ctx context.Context, parts []logrotate.Part, to sink) error {
	for _, p := range parts {
		if err := r.readPart(ctx, p, to); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) readPart(ctx context.Context, p logrotate.Part, to sink) error {
	f, err := p.Open()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, logrotate.ErrDamaged) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var in parser
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(r.buf)
		if ferr := in.feed(r.buf[:n], to); ferr != nil {
			return ferr
		}
		switch {
		case errors.Is(err, logrotate.ErrDamaged):
			return in.feed([]byte{'\n'}, to) // ends what was cut short
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read part of log: %w", err)
		}
	}
}

// printTail prints of the parts what belongs to the last n lines.
func (r *reader) printTail(ctx context.Context, parts []logrotate.Part, n int64) error {
	from := len(parts)
	for n > 0 && from > 0 {
		from--
		c := &lineSkipper{}
		if err := r.readPart(ctx, parts[from], c); err != nil {
			return err
		}
		if c.lines >= n {
			// The first of its lines are too old: count again, and print the rest.
			skip := &lineSkipper{skip: c.lines - n, to: r.out}
			if err := r.readPart(ctx, parts[from], skip); err != nil {
				return err
			}
			from++
			break
		}
		n -= c.lines
	}
	return r.printParts(ctx, parts[from:], r.out)
}

// recent leaves out the parts that were last written to before since.
func recent(parts []logrotate.Part, since time.Time) []logrotate.Part {
	for len(parts) > 0 && parts[0].Changed().Before(since) {
		parts = parts[1:]
	}
	return parts
}

// lineSkipper counts lines, and hands those after the first few on.
type lineSkipper struct {
	skip, lines int64
	to          sink // nil only counts
	open        [2]bool
	pass        [2]bool // the stream's current line is handed on
	cur         header
}

func (l *lineSkipper) begin(h header) error {
	l.cur = h
	if !l.open[h.stream] {
		l.lines++
		l.pass[h.stream] = l.to != nil && l.lines > l.skip
	}
	if l.pass[h.stream] {
		return l.to.begin(h)
	}
	return nil
}

func (l *lineSkipper) content(b []byte) error {
	if l.pass[l.cur.stream] {
		return l.to.content(b)
	}
	return nil
}

func (l *lineSkipper) end() error {
	l.open[l.cur.stream] = l.cur.partial
	if l.pass[l.cur.stream] {
		return l.to.end()
	}
	return nil
}
