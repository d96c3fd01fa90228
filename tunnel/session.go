package tunnel

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// ALPN is the name of the protocol in TLS.
const ALPN = "skerry/1"

const (
	// acceptQueue bounds the streams that the peer opened and nobody has taken.
	// It is half of what a peer may have open, so that it can be reached at all.
	acceptQueue = 128
	// headerTimeout bounds the wait for a stream's first bytes.
	headerTimeout = 10 * time.Second
)

// Session is one authenticated line to a peer. Its methods may be called beside
// each other.
type Session struct {
	conn    *link.Conn
	peer    certs.Identity
	cert    *x509.Certificate // the peer's
	hello   wire.Hello
	welcome wire.Welcome
	edge    bool // this side is the edge
	since   time.Time
	log     *slog.Logger
	release func() // called last, when all goroutines of the session have ended

	control  *link.Stream // stays open as long as the session
	incoming chan *Stream
	asked    chan struct{} // rung when something was written
	done     chan struct{}

	asking     atomic.Bool  // the watchdog knows that an answer is due
	written    atomic.Bool  // something was written since the watchdog looked
	lastMoved  atomic.Int64 // nanoseconds after since
	writers    atomic.Int64 // Writes in flight
	streams    atomic.Int64 // open, both sides'
	peerOpened atomic.Int64 // open, the peer's

	mu  sync.Mutex // guards the following field
	err error
}

// Stats are a session's figures at one moment.
type Stats struct {
	// Link names the carrier: "quic".
	Link string
	// LocalAddr and RemoteAddr are the carrier's; RemoteAddr changes as the peer moves.
	LocalAddr, RemoteAddr net.Addr
	// Since is when the session began.
	Since time.Time
	// RTT is the smoothed round-trip time.
	RTT time.Duration
	// BytesSent and the other counters include the carrier's own overhead, but not
	// UDP and IP headers.
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	PacketsLost                  uint64
	// Streams is how many are open, both sides' together.
	Streams int
}

// Open opens a stream. It takes no round trip: the stream's header leaves at
// once, and the caller may write. It fails with ErrTooManyStreams when the peer
// allows no more, and with a *SessionError when the session has ended.
func (s *Session) Open(ctx context.Context, kind wire.Kind) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := s.conn.OpenStream()
	switch {
	case errors.Is(err, link.ErrTooManyStreams):
		return nil, ErrTooManyStreams
	case err != nil:
		return nil, s.fail(err)
	}
	l.SetUrgency(urgency(kind))
	st := s.join(l, kind, false)
	// A stream of which nothing was sent does not exist for the peer. The header
	// is a byte or two and fits the smallest window, so this does not block.
	if _, err := st.Write(wire.AppendKind(nil, kind)); err != nil {
		st.Reset(wire.CodeCanceled)
		return nil, fmt.Errorf("open %s stream: %w", kind, err)
	}
	return st, nil
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

// Peer is who the other side is, by its verified certificate.
func (s *Session) Peer() certs.Identity { return s.peer }

// Certificate is what Peer was read from. It must not be changed.
func (s *Session) Certificate() *x509.Certificate { return s.cert }

// Hello is what the edge said when the session began.
func (s *Session) Hello() wire.Hello { return s.hello }

// Welcome is what the cloud answered.
func (s *Session) Welcome() wire.Welcome { return s.welcome }

// Done is closed when the session has ended and nothing of it runs any more.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended, a *SessionError, or nil while it lives.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session with a code and a text for the peer. What was written
// and has not arrived is lost. It returns when nothing of the session runs any more.
func (s *Session) Close(code wire.Code, text string) error {
	s.end(code, text)
	<-s.done
	return nil
}

// Check makes an edge find out now whether the path still works; it is for those
// who learn that the network has changed. The cloud's sessions ignore it.
func (s *Session) Check() {
	if s.edge {
		_ = s.conn.Heartbeat() // fails when the session has ended
		s.wrote()
	}
}

// Stats reads the session's figures.
func (s *Session) Stats() Stats {
	l := s.conn.Stats()
	return Stats{
		Link:      link.Kind,
		LocalAddr: s.conn.LocalAddr(), RemoteAddr: s.conn.RemoteAddr(),
		Since: s.since, RTT: l.RTT,
		BytesSent: l.BytesSent, BytesReceived: l.BytesReceived,
		PacketsSent: l.PacketsSent, PacketsReceived: l.PacketsReceived,
		PacketsLost: l.PacketsLost,
		Streams:     int(s.streams.Load()),
	}
}

// start makes s live; ctx only lends its values. What it starts ends with the
// carrier.
func (s *Session) start(ctx context.Context) {
	s.since = time.Now()
	s.incoming = make(chan *Stream, acceptQueue)
	s.asked = make(chan struct{}, 1)
	s.done = make(chan struct{})
	go s.run(context.WithoutCancel(ctx))
}

func (s *Session) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.takeStreams(ctx) })
	if !s.edge {
		// Left alone, they would fill quic-go's queue and stay there.
		wg.Go(func() { _ = s.conn.ReceiveHeartbeats(ctx) }) // ends with the carrier, whose error watch notes
	}
	s.watch()
	wg.Wait()
	s.release()
	close(s.done)
}

// watch ends the session when its path is dead, and returns when it has ended.
func (s *Session) watch() {
	l := newLiveness(s.edge, time.Now(), s.conn.Stats().PacketsReceived)
	timer := time.NewTimer(idlePoll)
	defer timer.Stop()
	for {
		v := l.step(time.Now(), s.observe())
		s.asking.Store(l.asking)
		switch {
		case v.dead:
			s.log.Info("path is dead", "silent", v.silent, "rtt", s.conn.Stats().RTT)
			s.end(wire.CodeOffline, fmt.Sprintf("nothing received for %s", v.silent.Round(time.Millisecond)))
			return
		case v.heartbeat:
			_ = s.conn.Heartbeat() // fails when the carrier has ended, which is noticed below
		case !l.asking && s.written.Load():
			continue // written between observe and Store, when nobody had to ring
		}
		timer.Reset(v.next)
		select {
		case <-s.conn.Done():
			_ = s.fail(s.conn.Err())
			return
		case <-s.asked:
		case <-timer.C:
		}
	}
}

func (s *Session) observe() observation {
	stats := s.conn.Stats()
	return observation{
		received: stats.PacketsReceived,
		wrote:    s.written.Swap(false),
		rtt:      stats.RTT,
		busy:     s.peerOpened.Load() > 0 || s.writers.Load() > 0,
		quiet:    time.Since(s.since) - time.Duration(s.lastMoved.Load()),
	}
}

// wrote says that something was sent that the peer must acknowledge.
func (s *Session) wrote() {
	if !s.edge {
		return // the cloud does not ask
	}
	s.written.Store(true)
	if s.asking.Load() {
		return
	}
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// moved says that bytes moved in a stream.
func (s *Session) moved() { s.lastMoved.Store(int64(time.Since(s.since))) }

// takeStreams takes in what the peer opens, in a tight loop because quic-go's
// own queue is short.
func (s *Session) takeStreams(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		l, err := s.conn.AcceptStream(ctx)
		if err != nil {
			return // the carrier has ended
		}
		// When packets are lost, the header of this stream may come after those of
		// streams behind it. The peer's limit on open streams bounds these goroutines.
		wg.Go(func() { s.takeStream(l) })
	}
}

func (s *Session) takeStream(l *link.Stream) {
	_ = l.SetReadDeadline(time.Now().Add(headerTimeout)) // never fails
	kind, err := wire.ReadKind(byteReader{l})
	if err != nil {
		l.CancelRead(wire.CodeProtocol)
		l.CancelWrite(wire.CodeProtocol)
		return
	}
	_ = l.SetReadDeadline(time.Time{}) // never fails
	l.SetUrgency(urgency(kind))
	s.moved()
	st := s.join(l, kind, true)
	select {
	case s.incoming <- st:
	default:
		st.Reset(wire.CodeTooMany)
	}
}

// join counts a stream as open.
func (s *Session) join(l *link.Stream, kind wire.Kind, peer bool) *Stream {
	s.streams.Add(1)
	if peer {
		s.peerOpened.Add(1)
	}
	return &Stream{kind: kind, l: l, s: s, peer: peer}
}

// leave is called once per stream, when this side is done with it.
func (s *Session) leave(st *Stream) {
	s.streams.Add(-1)
	if st.peer {
		s.peerOpened.Add(-1)
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

// end closes the carrier; the first reason is the session's.
func (s *Session) end(code wire.Code, text string) {
	_ = s.setErr(&SessionError{Code: code, Text: text})
	s.conn.Close(code, text)
}

// fail notes that the carrier has ended and gives the session's reason.
func (s *Session) fail(err error) error { return s.setErr(sessionError(err)) }

func (s *Session) setErr(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return s.err
}
