package tunnel

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// admit gets one connection from its handshake to a session, which may be new.
func (l *Listener) admit(ctx context.Context, conn link.Conn) {
	defer conn.Settle()
	hctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	// Whatever waits below ends with the connection.
	stop := context.AfterFunc(hctx, func() { conn.Close(wire.CodeProtocol, "no hello in time") })
	in, err := l.greet(hctx, conn)
	if !stop() && err == nil {
		err = &SessionError{Code: wire.CodeProtocol, Text: "no hello in time"}
	}
	if err == nil {
		if in.resume != nil {
			err = l.resume(in)
		} else {
			err = l.begin(hctx, in)
		}
	}
	if err == nil {
		return
	}
	code, text := wire.CodeProtocol, "no hello in time"
	refused, ok := errors.AsType[*SessionError](err)
	if ok && !refused.Remote {
		code, text = refused.Code, refused.Text
	}
	if ok && refused.Remote && refused.Code == wire.CodeCanceled {
		return // an edge has found out that a better carrier is possible
	}
	_ = conn.Handshake(hctx) // before that the peer would only hear that something is wrong
	conn.Close(code, text)
	l.cfg.Log.Info("carrier refused", "remote", conn.RemoteAddr().String(), "code", code, "err", err)
}

// arrival is a carrier whose edge has said Hello.
type arrival struct {
	conn    link.Conn
	peer    certs.Identity
	cert    *x509.Certificate
	hello   *wire.Hello
	resume  *wire.Resume // nil when the session is new
	inbox   *wire.Reader
	control link.Lane
}

// greet takes Hello.
//
// A Hello that came before the handshake was done may be a copy of one that was
// said before (RFC 8446, section 8). It may resume a session: that each carrier has
// a number of its own makes a copy useless, and what the streams carry after it has
// its place in them. To begin a session it must wait for the handshake.
func (l *Listener) greet(ctx context.Context, conn link.Conn) (*arrival, error) {
	if !conn.Early() {
		if err := conn.Handshake(ctx); err != nil {
			return nil, fmt.Errorf("wait for handshake: %w", err)
		}
	}
	state := conn.TLS()
	if len(state.PeerCertificates) == 0 || time.Now().After(state.PeerCertificates[0].NotAfter) {
		return nil, &SessionError{Code: wire.CodeBadRequest, Text: "certificate is missing or has expired"}
	}
	in := &arrival{conn: conn}
	var err error
	if in.peer, err = certs.PeerIdentity(state); err != nil {
		return nil, &SessionError{Code: wire.CodeBadRequest, Text: err.Error()}
	}
	if in.peer.Node == "" {
		return nil, &SessionError{Code: wire.CodeBadRequest, Text: "certificate is not an edge's"}
	}
	in.cert = state.PeerCertificates[0]
	if l.cfg.Refuse != nil {
		if code, text := l.cfg.Refuse(in.peer, in.cert); code != wire.CodeOK {
			return nil, &SessionError{Code: code, Text: text}
		}
	}
	lane, err := conn.AcceptLane(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for control lane of %s: %w", in.peer.Node, sessionError(err))
	}
	in.inbox = newLaneReader(lane)
	if in.hello, err = expect[*wire.Hello](in.inbox); err != nil {
		return nil, fmt.Errorf("wait for hello of %s: %w", in.peer.Node, sessionError(err))
	}
	if !slices.Contains(in.hello.Versions, wire.Version) {
		return nil, &SessionError{
			Code: wire.CodeVersion,
			Text: fmt.Sprintf("the edge speaks %d, the cloud %d", in.hello.Versions, wire.Version),
		}
	}
	if in.hello.Resumes() {
		if in.resume, err = expect[*wire.Resume](in.inbox); err != nil {
			return nil, fmt.Errorf("wait for resume of %s: %w", in.peer.Node, sessionError(err))
		}
	} else if err := conn.Handshake(ctx); err != nil {
		return nil, fmt.Errorf("wait for handshake of %s: %w", in.peer.Node, err)
	}
	if in.control, err = conn.OpenLane(ctx, urgency(wire.KindControl)); err != nil {
		return nil, fmt.Errorf("open control lane to %s: %w", in.peer.Node, sessionError(err))
	}
	return in, nil
}

// begin makes a new session, or takes another attempt to begin one that is there.
func (l *Listener) begin(ctx context.Context, in *arrival) error {
	l.mu.Lock()
	there := l.begun[in.origin()]
	l.mu.Unlock()
	if there != nil {
		return there.move(in)
	}
	s := &Session{
		peer: in.peer, cert: in.cert, hello: *in.hello, grace: l.cfg.Grace,
		log:        l.cfg.Log.With("edge", in.peer.Node),
		maxStreams: l.cfg.MaxStreams, peerStreams: int(min(in.hello.MaxStreams, mostStreams)), maxWindow: uint64(l.cfg.MaxWindow), packetWindow: uint64(l.cfg.packetWindow), throttle: throttle{rate: l.cfg.MaxRate},
		memory: &memory{max: l.cfg.MaxMemory, parent: l.memory}, frames: l.frames, refused: &l.refused,
	}
	_, _ = rand.Read(s.id[:]) // never fails
	s.init(ctx)
	s.welcome = l.welcome(s)
	s.origin = in.origin()
	s.release = func() { l.remove(s) }
	if !l.add(s) {
		s.cancel()
		return &SessionError{Code: wire.CodeGoingAway, Text: "the proxy shuts down"}
	}
	s.attach.Lock()
	ok := s.admit(in.hello.Carrier) && s.take(in)
	s.attach.Unlock()
	if !ok {
		return &SessionError{Code: wire.CodeGoingAway, Text: "the session has ended"}
	}
	select {
	case l.ready <- s:
	case <-ctx.Done():
		_ = s.Close(wire.CodeTooMany, "too many new sessions") // never fails
	case <-s.done:
	}
	return nil
}

// resume moves a session over to a carrier that its edge has dialed.
func (l *Listener) resume(in *arrival) error {
	l.mu.Lock()
	s := l.sessions[in.hello.Session]
	l.mu.Unlock()
	if s == nil || s.peer.Node != in.peer.Node {
		return &SessionError{Code: wire.CodeUnknownSession, Text: "this proxy does not know the session"}
	}
	return s.move(in)
}

// move uses a carrier in place of the one there is.
func (s *Session) move(in *arrival) error {
	s.overtake(in)
	s.attach.Lock()
	defer s.attach.Unlock()
	if !s.admit(in.hello.Carrier) {
		return &SessionError{Code: wire.CodeNextCarrier, Text: "another carrier is here already"}
	}
	s.detach(s.current.Load(), wire.CodeNextCarrier, "another carrier took over")
	if !s.take(in) {
		return &SessionError{Code: wire.CodeUnknownSession, Text: "the session has ended"}
	}
	s.log.Info("session goes on", "link", in.conn.Kind(), "remote", in.conn.RemoteAddr().String(), "carrier", in.hello.Carrier)
	return nil
}

// overtake calls off the answer to a carrier of an earlier round: its edge no longer
// waits for it, and a long one does not get anywhere on a path that has died.
func (s *Session) overtake(in *arrival) {
	s.mu.Lock()
	s.latest = max(s.latest, roundOf(in.hello.Carrier))
	late := s.answered
	s.mu.Unlock()
	if late != nil && roundOf(late.hello.Carrier) < roundOf(in.hello.Carrier) {
		late.conn.Close(wire.CodeNextCarrier, errOvertaken.Error())
	}
}

// answer writes to the peer of in, unless a later carrier has arrived.
func (s *Session) answer(in *arrival, b []byte) error {
	s.mu.Lock()
	if roundOf(in.hello.Carrier) < s.latest {
		s.mu.Unlock()
		return errOvertaken
	}
	s.answered = in
	s.mu.Unlock()
	// The session's end waits for this, so an edge that takes nothing must not keep it.
	ctx, cancel := context.WithTimeout(s.ctx, helloTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { in.conn.Close(wire.CodeNextCarrier, "the answer was not taken in time") })
	_, err := in.control.Write(b)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	s.mu.Lock()
	s.answered = nil
	s.mu.Unlock()
	return err
}

var errOvertaken = errors.New("a later carrier is here already")

// origin names a session before it has an id.
type origin struct {
	node        string
	incarnation [16]byte
	seq         uint64
}

func (in *arrival) origin() origin {
	return origin{in.peer.Node, in.hello.Incarnation, in.hello.Seq}
}

// take answers Hello and uses the carrier. The caller holds s.attach. It fails
// when the session is ending.
func (s *Session) take(in *arrival) bool {
	b := wire.Append(nil, &s.welcome)
	if in.resume != nil {
		b = wire.Append(b, s.positions())
	}
	if err := s.answer(in, b); err != nil {
		in.conn.Close(wire.CodeNextCarrier, "the carrier broke")
		s.awaitCarrier()
		return true // the edge dials again
	}
	c := newCarrier(s.ctx, in.conn, in.control, in.inbox, in.hello.Carrier)
	c.expires = in.cert.NotAfter
	s.mu.Lock()
	s.cert = in.cert
	s.mu.Unlock()
	return s.use(c, in.resume)
}

// admit reports whether a carrier may be used. Of two rounds the later one counts;
// in one round the first attempt that arrives, as long as it lives, and none twice.
// The caller holds s.attach.
func (s *Session) admit(number uint64) bool {
	switch round := roundOf(number); {
	case round < s.round:
		return false
	case round > s.round:
		s.round, s.tried = round, make(map[uint64]struct{})
	case s.current.Load() != nil:
		return false
	}
	_, again := s.tried[number]
	s.tried[number] = struct{}{}
	return !again
}

func (l *Listener) welcome(s *Session) wire.Welcome {
	var features []string
	if slices.Contains(s.hello.Features, featurePackets) {
		features = append(features, featurePackets)
	}
	return wire.Welcome{
		Features: features,
		Version:  wire.Version, Replica: l.cfg.Replica, UnixMilli: uint64(time.Now().UnixMilli()),
		Session: s.id, GraceMilli: uint64(s.grace.Milliseconds()), MaxStreams: uint64(s.maxStreams),
	}
}
