package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxLaneFrame bounds what a peer can make us hold of one frame.
	maxLaneFrame = 64 << 10
	// maxReplies bounds what waits to be said about streams that are gone.
	maxReplies = 4096
	// lateEnds is how many streams of the peer may be open beyond its bound: their ends
	// may be on the way, by another lane than the next one's begin.
	lateEnds = 128
	// laneBuffer is what is read ahead of a lane. Chunks are read past it.
	laneBuffer = 512
)

// carrier is one connection below a session.
type carrier struct {
	conn    link.Conn
	seq     uint64
	control link.Lane    // what this side says of streams, and greetings
	inbox   *wire.Reader // the peer's control lane
	release func()       // called when nothing of the carrier runs any more
	rank    rank         // the edge's
	way     string       // the device that it is bound to, if it is
	warned  bool         // GoAway was said on it; guarded by the session's mu
	expires time.Time    // until when the peer is who it says; zero on an edge, whose clock may be wrong

	ctx    context.Context //nolint:containedctx // the carrier's life: it ends when it is given up
	cancel context.CancelFunc
	gone   chan struct{} // closed then, too
	wg     sync.WaitGroup

	packets atomic.Pointer[packets] // nil while there are none

	asking atomic.Bool              // the watchdog knows that an answer is due
	asked  chan struct{}            // rung when something was written
	moved  chan struct{}            // rung when the edge's network has changed
	peer   atomic.Pointer[net.Addr] // where the peer was last
}

func newCarrier(ctx context.Context, conn link.Conn, control link.Lane, inbox *wire.Reader, seq uint64) *carrier {
	c := &carrier{conn: conn, control: control, inbox: inbox, seq: seq, release: func() {}}
	c.gone, c.asked, c.moved = make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
	at := conn.RemoteAddr()
	c.peer.Store(&at)
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// drop closes a carrier that no session uses.
func (c *carrier) drop(code wire.Code, text string) {
	c.cancel()
	c.conn.Close(code, text)
	c.release()
}

// fail ends a carrier that does not do what it must. Its watch notices.
func (c *carrier) fail(err error) {
	var ended *link.ConnError
	if !errors.As(err, &ended) && !closed(c.gone) {
		c.conn.Close(wire.CodeInternal, err.Error())
	}
}

// gate is a mutex, made with room for one. It may be held while a peer is waited for:
// whoever waits for it waits as for a channel, so that time passes in synctest.
type gate chan struct{}

func (g gate) Lock()   { g <- struct{}{} }
func (g gate) Unlock() { <-g }

// use makes c the session's carrier. at is what the peer said of its streams; the
// caller holds s.attach. The carrier before it must be detached. It fails when
// the session is ending.
func (s *Session) use(c *carrier, at *wire.Resume) bool {
	known := make(map[uint64]*wire.StreamAck)
	if at != nil {
		for i := range at.Streams {
			known[at.Streams[i].ID] = &at.Streams[i]
		}
	}
	for _, st := range s.living() {
		if !st.rewind(known[st.id]) {
			s.end(protocolError("stream %d: more was acknowledged than was written", st.id))
			return false
		}
		delete(known, st.id)
		s.tell(st)
	}
	s.mu.Lock()
	for id := range known {
		if s.streams.seen(id) && s.streams.streams[id] == nil {
			s.replyLocked(id)
		}
	}
	if s.ending {
		s.mu.Unlock()
		return false
	}
	s.links++
	s.current.Store(c)
	s.setStateLocked(true)
	s.wg.Add(1)
	s.sayLocked()
	streams := s.streams.all()
	s.mu.Unlock()
	c.wg.Go(func() { s.listen(c) })
	c.wg.Go(func() { s.openPackets(c) })
	if s.edge {
		s.settle(c)
	}
	go func() {
		s.watch(c) // it returns when the carrier has been given up
		c.wg.Wait()
		if p := c.packets.Load(); p != nil {
			p.stop()
		}
		c.release()
		s.wg.Done()
	}()
	for _, st := range streams {
		st.kick()
	}
	return true
}

// detach gives c up, if it is the session's carrier, and tells the peer why. It
// reports whether it was.
func (s *Session) detach(c *carrier, code wire.Code, text string) bool {
	if c == nil || !s.unset(c) {
		return false
	}
	s.awaitCarrier()
	c.conn.Close(code, text)
	c.cancel()
	return true
}

// unset makes c, if it is the session's carrier, one that was given up.
func (s *Session) unset(c *carrier) bool {
	s.talking.Lock()
	defer s.talking.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Load() != c {
		return false
	}
	s.current.Store(nil)
	last := c.conn.Stats()
	s.past = add(s.past, last)
	s.past.RTT = last.RTT
	s.local, s.remote = c.conn.LocalAddr(), c.conn.RemoteAddr()
	if p := c.packets.Load(); p != nil {
		p.usable.Store(false)
	}
	close(c.gone)
	s.setStateLocked(false)
	return true
}

// awaitCarrier ends a session of the cloud that nobody resumes.
func (s *Session) awaitCarrier() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.edge || s.ending || s.state.expire != nil || s.state.ok {
		return
	}
	s.state.expire = time.AfterFunc(s.grace, func() {
		if s.expired() { // and no carrier came just now
			s.end(&SessionError{Code: wire.CodeOffline, Text: "no carrier for " + s.grace.String()})
		}
	})
}

func (s *Session) setStateLocked(ok bool) {
	if s.state.expire != nil {
		s.state.expire.Stop()
		s.state.expire = nil
	}
	if s.state.ok == ok {
		return
	}
	s.state.ok, s.state.since = ok, time.Now()
	close(s.state.changed)
	s.state.changed = make(chan struct{})
}

// listen takes in the lanes that the peer opens, in a tight loop because quic-go's
// own queue is short. The peer's limit on lanes bounds its goroutines.
func (s *Session) listen(c *carrier) {
	c.wg.Go(func() { s.read(c, c.inbox) })
	for {
		lane, err := c.conn.AcceptLane(c.ctx)
		if err != nil {
			return // the carrier has ended, as its watch notices
		}
		c.wg.Go(func() { s.read(c, newLaneReader(lane)) })
	}
}

func newLaneReader(r io.Reader) *wire.Reader {
	return wire.NewReader(bufio.NewReaderSize(r, laneBuffer), maxLaneFrame)
}

// read takes in the frames of one lane until it ends.
func (s *Session) read(c *carrier, frames *wire.Reader) {
	for {
		f, err := frames.Next()
		switch {
		case err == nil:
			s.moved()
			s.locate(c)
			if fault := s.handle(f); fault != nil {
				s.end(fault)
				return
			}
		case errors.Is(err, wire.ErrMalformed), errors.Is(err, wire.ErrTooLarge):
			s.end(protocolError("%s", err.Error()))
			return
		default:
			return // the lane's end, or the carrier's
		}
	}
}

// handle takes in one frame. Frames that belong elsewhere are skipped as those
// that are not known.
func (s *Session) handle(f wire.Frame) *SessionError {
	switch f := f.(type) {
	case *wire.StreamOpen:
		return s.opened(f)
	case *wire.StreamData:
		if st := s.stream(f.ID); st != nil && !st.received(f) {
			return protocolError("stream %d: data that it has no room for", f.ID)
		}
	case *wire.StreamAck:
		if st := s.stream(f.ID); st != nil && !st.acked(f) {
			return protocolError("stream %d: more was acknowledged than was written", f.ID)
		}
	case *wire.StreamAbort:
		return s.abortStream(f)
	case *wire.GoAway:
		s.toldToGo(f)
	}
	return nil
}

// stream finds a stream. About one that is gone the peer is told so.
func (s *Session) stream(id uint64) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams.streams[id]
	if st == nil && s.streams.seen(id) {
		s.replyLocked(id)
	}
	return st
}

// reply tells the peer that nothing more is needed of a stream.
func (s *Session) reply(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replyLocked(id)
}

func (s *Session) replyLocked(id uint64) {
	if n := len(s.replies); n < maxReplies && (n == 0 || s.replies[n-1].ID != id) {
		s.replies = append(s.replies, wire.StreamAck{ID: id, Done: true})
	}
	s.sayLocked()
}

// opened takes in a stream of the peer.
func (s *Session) opened(f *wire.StreamOpen) *SessionError {
	st := s.newStream(f.Kind, true)
	st.id, st.known = f.ID, true
	st.send.limit = f.Limit
	room := s.memory.take(streamBytes)
	s.mu.Lock()
	seen := s.streams.seen(f.ID)
	var fault *SessionError
	switch {
	case s.streams.mine(f.ID), f.ID == 0:
		fault = protocolError("stream %d is not the peer's to open", f.ID)
	case seen && s.streams.streams[f.ID] == nil:
		s.replyLocked(f.ID)
	case !seen && (!s.streams.see(f.ID) || int(s.peerOpened.Load()) > 2*s.maxStreams+defaultStreams):
		fault = protocolError("too many streams")
	case !seen:
		s.streams.streams[f.ID] = st
		s.peerOpened.Add(1)
		st.used.streams.Add(1)
	}
	s.mu.Unlock()
	if fault != nil || seen {
		if room {
			s.memory.give(streamBytes)
		}
		return fault
	}
	switch {
	case !room:
		s.refused.memory.Add(1)
		st.mu.Lock()
		st.taken = -streamBytes // forget gives nothing back
		st.mu.Unlock()
	case int(s.peerOpened.Load()) > s.maxStreams+lateEnds:
		s.refused.streams.Add(1)
	default:
		select {
		case s.incoming <- st:
			return nil
		default:
		}
	}
	st.Reset(wire.CodeTooMany)
	return nil
}

// abortStream takes in that the peer gave up a direction, perhaps of a stream that
// this side never saw.
func (s *Session) abortStream(f *wire.StreamAbort) *SessionError {
	s.mu.Lock()
	st := s.streams.streams[f.ID]
	ok := true
	if st == nil {
		ok = s.streams.mine(f.ID) || s.streams.see(f.ID)
		s.replyLocked(f.ID)
	}
	s.mu.Unlock()
	if !ok {
		return protocolError("too many streams")
	}
	if st != nil {
		st.aborted(f.Code)
	}
	return nil
}
