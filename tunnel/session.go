package tunnel

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// ALPN is the name of the protocol in TLS.
const ALPN = "skerry/1"

const (
	// acceptQueue bounds the streams that the peer opened and nobody has taken.
	acceptQueue = 128
	// defaultStreams is how many streams a peer may have open at once.
	defaultStreams = 256
	// mostStreams is what a bound on them may be: a Resume, which names all streams of
	// both sides with 27 bytes each, must fit into a frame.
	mostStreams = 1000
	// defaultGrace is how long a session lives on without a carrier.
	defaultGrace = 10 * time.Minute
)

// lanes is how many lanes a peer may have open that may open so many streams: one for
// each, one for each answer to ours, of which the peer decides, and for those that end.
func lanes(streams int) int { return streams + mostStreams + lateEnds }

// Session is one authenticated line to a peer. It outlives the carriers below it:
// while it has none, its streams wait. Its methods may be called beside each other.
type Session struct {
	id      [16]byte
	edge    bool // this side is the edge
	peer    certs.Identity
	cert    *x509.Certificate // the peer's, of the last carrier; guarded by mu once the session has begun
	hello   wire.Hello
	welcome wire.Welcome
	address string // the cloud's, for the edge's errors
	grace   time.Duration
	since   time.Time
	log     *slog.Logger
	dial    func(ctx context.Context, hello wire.Hello, limit rank) (*carrier, *greeting, error) // the edge's
	probe   func(ctx context.Context, limit rank) error                                          // the edge's
	origin  origin                                                                               // the cloud's
	release func()                                                                               // called last

	maxStreams, peerStreams int    // the peer may have open; this side may
	maxWindow               uint64 // of one direction of a stream
	packetWindow            uint64 // maxWindow where packets carry it
	throttle                throttle
	memory                  *memory
	frames                  *frames
	refused                 *refused

	ctx      context.Context //nolint:containedctx // the session's life: it ends with it
	cancel   context.CancelFunc
	incoming chan *Stream
	done     chan struct{}

	current atomic.Pointer[carrier] // nil while there is none
	attach  gate                    // held while the carrier changes
	talking sync.Mutex              // held while a carrier puts together what the peer must hear
	round   uint64                  // the edge's latest; guarded by attach, as tried; the cloud's
	tried   map[uint64]struct{}     // attempts of that round

	written    atomic.Bool  // something was written since the watchdog looked
	lastMoved  atomic.Int64 // nanoseconds after since
	blocked    atomic.Int64 // Writes that wait
	peerOpened atomic.Int64 // open, the peer's
	ascending  atomic.Int64 // better carriers that are about to take over
	counters

	mu       sync.Mutex // guards the following fields; taken after a stream's
	wg       sync.WaitGroup
	ending   bool
	err      error
	streams  table
	state    attachment
	leaving  departure
	latest   uint64               // round that has arrived; the cloud's, as answered
	answered *arrival             // nil while no Hello is being answered
	news     map[*Stream]struct{} // streams of which the peer must hear
	replies  []wire.StreamAck     // about streams that are no longer there
	saying   bool                 // talk runs
	dialing  context.CancelFunc   // of the replacement under way; nil when there is none
	nudge    chan struct{}        // makes a replacement try at once
	trust    trust                // the edge's, in better carriers
}

// attachment is whether there is a carrier, and since when.
type attachment struct {
	ok      bool
	since   time.Time
	changed chan struct{}
	expire  *time.Timer // ends a session of the cloud that nobody resumes
}

// init prepares what both sides have alike. ctx only lends its values.
func (s *Session) init(ctx context.Context) {
	s.since = time.Now()
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.attach = make(gate, 1)
	s.incoming = make(chan *Stream, acceptQueue)
	s.done = make(chan struct{})
	s.news = make(map[*Stream]struct{})
	s.nudge = make(chan struct{}, 1)
	s.leaving.told = make(chan struct{})
	s.state = attachment{since: s.since, changed: make(chan struct{})}
	s.streams = newTable(s.edge)
	s.tried = make(map[uint64]struct{})
	s.counters.byKind = make(map[wire.Kind]*kindCounters)
	if s.frames == nil {
		s.frames = &frames{}
	}
	if s.refused == nil {
		s.refused = &refused{}
	}
	s.wg.Add(1) // end takes it back
}

// Open opens a stream. It takes no round trip: the caller may write at once, also
// while the session has no carrier. It fails with ErrTooManyStreams when the peer
// allows no more, with ErrNoMemory when the streams there are hold all that they
// may, with ErrGoingAway when one side leaves, and with a *SessionError when the
// session has ended.
func (s *Session) Open(ctx context.Context, kind wire.Kind) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !s.memory.take(streamBytes) {
		s.refused.memory.Add(1)
		return nil, ErrNoMemory
	}
	st := s.newStream(kind, false)
	// The answer may begin with more than its first round trip's worth. A carrier that
	// comes just now may tell the peer so as soon as the stream is in the table.
	if more := uint64(firstWindow - baseWindow); s.memory.grow(int64(more)) {
		st.taken += int64(more)
		st.recv.window += more
		st.recv.limit += more
		st.recv.shown = st.recv.limit
	}
	s.mu.Lock()
	err := s.err
	if err == nil && s.leaving.sealed {
		err = ErrGoingAway
	}
	if err == nil && s.streams.own >= s.peerStreams {
		s.refused.streams.Add(1)
		err = ErrTooManyStreams
	}
	if err == nil {
		st.id = s.streams.open(st)
	}
	s.mu.Unlock()
	if err != nil {
		s.memory.give(streamBytes + st.taken)
		return nil, err
	}
	st.used.streams.Add(1)
	st.mu.Lock()
	st.kickLocked()
	st.mu.Unlock()
	s.wrote()
	return st, nil
}

func (s *Session) newStream(kind wire.Kind, peer bool) *Stream {
	st := &Stream{kind: kind, s: s, peer: peer, used: s.kind(kind)}
	st.send.limit, st.send.room = baseWindow, baseWindow
	st.recv.limit, st.recv.shown, st.recv.window = baseWindow, baseWindow, baseWindow
	st.recv.renewed = time.Now()
	return st
}

// Accept waits for the next stream that the peer opens, of whatever kind.
func (s *Session) Accept(ctx context.Context) (*Stream, error) {
	select {
	case st := <-s.incoming:
		return st, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		return nil, s.Err()
	}
}

// Done is closed when the session has ended and nothing of it runs any more.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended, a *SessionError, or nil while it lives.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Attached reports whether the session has a carrier, and since when it has or
// has not.
func (s *Session) Attached() (ok bool, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.ok, s.state.since
}

// Changed gives a channel that is closed when Attached next changes. Ask for it
// before Attached, so that nothing is missed.
func (s *Session) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.changed
}

// Close ends the session with a code and a text for the peer. What was written
// and has not arrived is lost. It returns when nothing of the session runs any more.
func (s *Session) Close(code wire.Code, text string) error {
	s.end(&SessionError{Code: code, Text: text})
	<-s.done
	return nil
}

// Check makes an edge find out now whether the path still works; it is for those
// who learn that the network has changed. The cloud's sessions ignore it.
func (s *Session) Check() {
	if !s.edge {
		return
	}
	if c := s.current.Load(); c != nil {
		_ = c.conn.Ping() // fails when the carrier has ended
		s.wrote()
		ring(c.moved)
	}
	s.stir()
}

// stir makes a search for a carrier try at once.
func (s *Session) stir() { ring(s.nudge) }

// ring wakes who waits for a bell with room for one ring.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// end ends the session; only the first reason counts. It does not wait.
func (s *Session) end(reason *SessionError) {
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		return
	}
	s.ending, s.err = true, reason
	if s.state.expire != nil {
		s.state.expire.Stop()
	}
	streams := s.streams.all()
	s.mu.Unlock()
	s.cancel()
	go func() {
		s.attach.Lock() // an attach under way is the last
		s.detach(s.current.Load(), reason.Code, reason.Text)
		s.attach.Unlock()
		for _, st := range streams {
			st.fail(reason)
		}
		s.wg.Done()
		s.wg.Wait()
		for _, st := range s.living() { // some may have come since
			st.fail(reason)
			s.forget(st)
		}
		s.release()
		close(s.done)
	}()
}

// spawn runs f, unless the session is ending; the session's end waits for it.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.wg.Go(f)
	return true
}

// living gives the streams that are not forgotten.
func (s *Session) living() []*Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams.all()
}

// tell has the peer hear of a stream.
func (s *Session) tell(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.news[st] = struct{}{}
	s.sayLocked()
}

// forget takes a stream that both sides have finished with out of the table, unless
// the peer must hear of it once more: then talk comes back to it.
func (s *Session) forget(st *Stream) {
	st.mu.Lock()
	s.mu.Lock()
	_, again := s.news[st]
	again = again && !s.ending
	s.mu.Unlock()
	if st.left || again {
		st.mu.Unlock()
		return
	}
	st.left = true
	taken := st.taken + streamBytes
	st.mu.Unlock()
	s.memory.give(taken)
	if st.peer {
		s.peerOpened.Add(-1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams.remove(st.id)
	delete(s.news, st)
	s.fewerLocked()
}

// rtt is the carrier's smoothed round-trip time.
func (s *Session) rtt() time.Duration {
	if c := s.current.Load(); c != nil {
		return c.conn.Stats().RTT
	}
	return 0
}

// lastRTT is the round-trip time of the newest carrier that there was.
func (s *Session) lastRTT() time.Duration {
	if rtt := s.rtt(); rtt > 0 {
		return rtt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.past.RTT
}

// moved says that bytes moved in a stream.
func (s *Session) moved() { s.lastMoved.Store(int64(time.Since(s.since))) }

// wrote says that something was sent that the peer must answer.
func (s *Session) wrote() {
	if !s.edge {
		return // the cloud does not ask
	}
	s.written.Store(true)
	if c := s.current.Load(); c != nil && !c.asking.Load() {
		ring(c.asked)
	}
}

// urgency puts what a person waits for before what fills the line.
func urgency(k wire.Kind) int8 {
	switch k {
	case wire.KindControl:
		return 0
	case wire.KindExec:
		return 1
	case wire.KindDesired, wire.KindReport:
		return 3
	default:
		return 4
	}
}

// protocolError is a fault of the peer that ends the session.
func protocolError(format string, args ...any) *SessionError {
	return &SessionError{Code: wire.CodeProtocol, Text: fmt.Sprintf(format, args...)}
}

var errSessionEnded = errors.New("the session has ended")
