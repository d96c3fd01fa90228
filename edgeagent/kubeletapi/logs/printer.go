package logs

import (
	"errors"
	"io"
	"time"
)

// timeFormat is how times are shown: of fixed width, as by the kubelet.
const timeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// outBuffer is how many bytes are gathered for one Write.
const outBuffer = 32 << 10

// errLimit ends a read that has printed all the bytes it may.
var errLimit = errors.New("byte limit reached")

// printer is the sink that writes what the options ask for.
type printer struct {
	w          io.Writer
	since      time.Time
	stream     Stream
	timestamps bool
	limited    bool
	left       int64 // bytes that may still be written, when limited

	buf  []byte
	cur  header
	hide bool    // the current record is not shown
	open [2]bool // the stream's last record was partial
	skip [2]bool // the open line is not shown
}

func newPrinter(w io.Writer, o Options) *printer {
	p := &printer{w: w, since: o.Since, stream: o.Stream, timestamps: o.Timestamps, buf: make([]byte, 0, outBuffer)}
	if o.LimitBytes != nil {
		p.limited, p.left = true, *o.LimitBytes
	}
	return p
}

func (p *printer) begin(h header) error {
	p.cur = h
	// A line is shown or hidden as a whole, by its first record.
	first := !p.open[h.stream]
	if first {
		p.skip[h.stream] = h.time.Before(p.since) || p.stream != StreamAll && p.stream != h.stream
	}
	p.hide = p.skip[h.stream]
	if p.hide || !p.timestamps || !first {
		return nil
	}
	var prefix [len(timeFormat) + 1]byte
	return p.write(append(h.time.AppendFormat(prefix[:0], timeFormat), ' '))
}

func (p *printer) content(b []byte) error {
	if p.hide {
		return nil
	}
	return p.write(b)
}

func (p *printer) end() error {
	p.open[p.cur.stream] = p.cur.partial
	if p.hide || p.cur.partial {
		return nil
	}
	return p.write([]byte{'\n'})
}

// write returns errLimit once the last byte that may be written is in the buffer.
func (p *printer) write(b []byte) error {
	if p.limited && int64(len(b)) > p.left {
		b = b[:p.left]
	}
	if p.limited {
		p.left -= int64(len(b))
	}
	for len(b) > 0 {
		n := min(len(b), cap(p.buf)-len(p.buf))
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
		if len(p.buf) == cap(p.buf) {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	if p.limited && p.left == 0 {
		return errLimit
	}
	return nil
}

func (p *printer) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}
