package model

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// errCut is what both ends of a stream see when its line breaks.
var errCut = errors.New("line is cut")

// line is the way from an edge to whoever serves it: streams with a latency, which
// end at any byte.
type line struct {
	mu       sync.Mutex // guards the following fields
	owner    *replica   // nil is nobody
	down     bool
	since    time.Time     // when the edge came to its owner
	changed  chan struct{} // closed when a field above changes
	streams  map[*stream]struct{}
	stranded []*stream
	latency  time.Duration
	budget   int // bytes until the line is cut; zero means no cut
}

func newLine(latency time.Duration) *line {
	return &line{latency: latency, changed: make(chan struct{}), streams: make(map[*stream]struct{})}
}

func (l *line) changedLocked() {
	l.since = time.Now()
	close(l.changed)
	l.changed = make(chan struct{})
}

// set says who serves new streams, and ends those there are. Nil is nobody.
func (l *line) set(r *replica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner = r
	l.endLocked()
	l.noticeLocked()
	l.changedLocked()
}

// plug implements way.
func (l *line) plug() (uplink.Dialer, func(context.Context) error) {
	return l, func(context.Context) error { return nil }
}

// join implements way.
func (l *line) join(r *replica) (report.Sessions, func(context.Context) error) {
	return &pipeSessions{l, r}, func(context.Context) error { return nil }
}

// leave implements way.
func (l *line) leave(*replica) {}

// pipeSessions is what a replica knows of the line.
type pipeSessions struct {
	line *line
	r    *replica
}

// Sessions implements report.Sessions.
func (s *pipeSessions) Sessions() []report.Session {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	if s.line.owner != s.r || s.line.down {
		return nil
	}
	return []report.Session{{Node: node, Since: s.line.since}}
}

// Changed implements report.Sessions.
func (s *pipeSessions) Changed() <-chan struct{} {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	return s.line.changed
}

// settle implements way.
func (l *line) settle() {
	l.mend()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency = 20 * time.Millisecond
}

// cutAfter cuts the line when n more bytes were written, either way.
func (l *line) cutAfter(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.budget = n
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.budget = true, 0
	l.endLocked()
	l.changedLocked()
}

// reset ends the streams there are, and lets new ones begin.
func (l *line) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked()
	l.changedLocked()
}

func (l *line) endLocked() {
	for s := range l.streams {
		s.end()
	}
	clear(l.streams)
}

// strand ends the streams there are as the edge sees it. The cloud does not notice
// before the edge is back, or another replica has it.
func (l *line) strand() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.streams {
		s.edge.end()
		l.stranded = append(l.stranded, s)
	}
	clear(l.streams)
}

func (l *line) noticeLocked() {
	for _, s := range l.stranded {
		s.end()
	}
	l.stranded = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.budget = false, 0
	l.changedLocked()
}

// Dial implements uplink.Dialer.
func (l *line) Dial(ctx context.Context, kind wire.Kind) (net.Conn, error) {
	for {
		l.mu.Lock()
		owner, down, changed := l.owner, l.down, l.changed
		if owner != nil && !down {
			up, back := newDirection(), newDirection()
			edge := &end{line: l, in: back, out: up, ended: make(chan struct{})}
			cloud := &end{line: l, in: up, out: back, ended: make(chan struct{})}
			s := &stream{edge, cloud}
			edge.other, cloud.other = cloud, edge
			l.streams[s] = struct{}{}
			l.noticeLocked()
			l.mu.Unlock()
			if owner.serve(kind, cloud) {
				return edge, nil
			}
			s.end()
			return nil, errCut
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// spend says how many of n bytes still go over the line, and how long they take.
func (l *line) spend(n int) (int, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.budget > 0 {
		n = min(n, l.budget)
		if l.budget -= n; l.budget == 0 {
			l.down = true
			l.endLocked()
			l.changedLocked()
		}
	}
	return n, l.latency
}

// stream is the two ends of one.
type stream struct{ edge, cloud *end }

// end ends a stream; what is on the way is lost.
func (s *stream) end() {
	s.edge.end()
	s.cloud.end()
}

// direction is one of the two of a stream.
type direction struct {
	moved chan struct{} // capacity 1: something was written or read

	mu     sync.Mutex // guards the following fields
	chunks []chunk
	bytes  int
}

type chunk struct {
	at    time.Time
	bytes []byte
}

// maxFlying is how much may be on the way before a writer waits.
const maxFlying = 32 << 10

func newDirection() *direction { return &direction{moved: make(chan struct{}, 1)} }

func (w *direction) move() {
	select {
	case w.moved <- struct{}{}:
	default:
	}
}

// end is one end of a stream. It is a net.Conn.
type end struct {
	line    *line
	in, out *direction
	other   *end
	once    sync.Once
	ended   chan struct{}
}

func (e *end) end() { e.once.Do(func() { close(e.ended) }) }

// Write implements net.Conn.
func (e *end) Write(p []byte) (int, error) {
	for {
		select {
		case <-e.ended:
			return 0, errCut
		default:
		}
		e.out.mu.Lock()
		room := e.out.bytes < maxFlying
		e.out.mu.Unlock()
		if room {
			break
		}
		// The reader looks at its own bell; a writer that waits looks again soon.
		select {
		case <-time.After(time.Millisecond):
		case <-e.ended:
		}
	}
	n, latency := e.line.spend(len(p))
	e.out.mu.Lock()
	e.out.chunks = append(e.out.chunks, chunk{time.Now().Add(latency), append([]byte(nil), p[:n]...)})
	e.out.bytes += n
	e.out.mu.Unlock()
	e.out.move()
	if n < len(p) {
		return n, errCut
	}
	return n, nil
}

// Read implements net.Conn.
func (e *end) Read(p []byte) (int, error) {
	for {
		var due <-chan time.Time
		e.in.mu.Lock()
		if len(e.in.chunks) > 0 {
			first := &e.in.chunks[0]
			wait := time.Until(first.at)
			if wait <= 0 {
				n := copy(p, first.bytes)
				if first.bytes = first.bytes[n:]; len(first.bytes) == 0 {
					e.in.chunks = e.in.chunks[1:]
				}
				e.in.bytes -= n
				e.in.mu.Unlock()
				return n, nil
			}
			due = time.After(wait)
		}
		e.in.mu.Unlock()
		// What has arrived is read before the end.
		select {
		case <-e.ended:
			return 0, io.ErrUnexpectedEOF
		default:
		}
		select {
		case <-due:
		case <-e.in.moved:
		case <-e.ended:
		}
	}
}

// Close implements net.Conn.
func (e *end) Close() error {
	select {
	case <-e.ended: // by the line, which tells the other end or does not
	default:
		e.end()
		e.other.end()
	}
	return nil
}

// LocalAddr implements net.Conn.
func (e *end) LocalAddr() net.Addr { return &net.UnixAddr{} }

// RemoteAddr implements net.Conn.
func (e *end) RemoteAddr() net.Addr { return &net.UnixAddr{} }

// SetDeadline implements net.Conn.
func (e *end) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn.
func (e *end) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn.
func (e *end) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
