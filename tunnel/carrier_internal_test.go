package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// fakeConn is a carrier whose peer is the test. What is written to any of its lanes
// is kept, frame by frame.
type fakeConn struct {
	hold chan struct{} // Writes wait until it is closed; nil means that they don't
	done chan struct{}
	once sync.Once

	mu     sync.Mutex // guards the following fields
	frames []wire.Frame
	lanes  []*fakeLane
}

type fakeLane struct {
	c                *fakeConn
	closed, canceled bool // guarded by the connection's mutex
}

func newFakeConn() *fakeConn { return &fakeConn{done: make(chan struct{})} }

func (*fakeConn) Kind() string { return link.KindQUIC }

func (c *fakeConn) OpenLane(context.Context, int8) (link.Lane, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &fakeLane{c: c}
	c.lanes = append(c.lanes, l)
	return l, nil
}

func (c *fakeConn) AcceptLane(ctx context.Context) (io.Reader, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (*fakeConn) Ping() error                     { return nil }
func (*fakeConn) Early() bool                     { return false }
func (*fakeConn) Handshake(context.Context) error { return nil }
func (*fakeConn) Settle()                         {}
func (c *fakeConn) Close(wire.Code, string)       { c.once.Do(func() { close(c.done) }) }
func (c *fakeConn) Done() <-chan struct{}         { return c.done }
func (*fakeConn) Err() error                      { return &link.ConnError{Code: wire.CodeNextCarrier, Text: "closed"} }
func (*fakeConn) TLS() tls.ConnectionState        { return tls.ConnectionState{} }
func (*fakeConn) LocalAddr() net.Addr             { return &net.UDPAddr{} }
func (*fakeConn) RemoteAddr() net.Addr            { return &net.UDPAddr{} }
func (*fakeConn) Stats() link.Stats               { return link.Stats{RTT: 10 * time.Millisecond} }

func (l *fakeLane) Write(b []byte) (int, error) {
	if l.c.hold != nil {
		select {
		case <-l.c.hold:
		case <-l.c.done:
		}
	}
	if closed(l.c.done) {
		return 0, l.c.Err()
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for r := newLaneReader(bytes.NewReader(b)); ; {
		f, err := r.Next()
		if err != nil {
			return len(b), nil
		}
		if d, ok := f.(*wire.StreamData); ok {
			d.Bytes = bytes.Clone(d.Bytes)
		}
		l.c.frames = append(l.c.frames, f)
	}
}

func (l *fakeLane) Close() error {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.closed = true
	return nil
}

func (l *fakeLane) Cancel(wire.Code) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.canceled = true
}

// acks are what was said of a stream so far.
func (c *fakeConn) acks(id uint64) (acks []wire.StreamAck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if a, ok := f.(*wire.StreamAck); ok && a.ID == id {
			acks = append(acks, *a)
		}
	}
	return acks
}

// newFakeSession is the cloud's side of a session without a carrier.
func newFakeSession(t *testing.T) *Session {
	t.Helper()
	s := &Session{
		grace: time.Minute, log: slog.New(slog.DiscardHandler), release: func() {},
		maxStreams: defaultStreams, peerStreams: defaultStreams, maxWindow: cloudWindow,
		memory: &memory{max: edgeMemory, parent: &memory{max: totalMemory}},
	}
	s.init(t.Context())
	t.Cleanup(func() { _ = s.Close(wire.CodeOK, "end of test") })
	return s
}

// attachTo gives the session a carrier in place of the one it has.
func (s *Session) attachTo(t *testing.T, c *fakeConn, at *wire.Resume) {
	t.Helper()
	control, _ := c.OpenLane(t.Context(), 0)
	s.attach.Lock()
	defer s.attach.Unlock()
	s.detach(s.current.Load(), wire.CodeNextCarrier, "another carrier took over")
	if !s.use(newCarrier(s.ctx, c, control, newLaneReader(bytes.NewReader(nil)), 0), at) {
		t.Fatal("the session has ended")
	}
}

// hear has the session take in frames of its peer.
func (s *Session) hear(t *testing.T, frames ...wire.Frame) {
	t.Helper()
	for _, f := range frames {
		if fault := s.handle(f); fault != nil {
			t.Fatal(fault)
		}
	}
}

// What the peer must hear is the next carrier's to say once the one before it was
// given up, also when that one still waits to write.
func TestNewsAreNotSaidToADeadCarrier(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeSession(t)
			old := newFakeConn()
			old.hold = make(chan struct{})
			s.attachTo(t, old, nil)
			s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindExec}, &wire.StreamData{ID: 1, Bytes: make([]byte, 20<<10)})
			synctest.Wait() // the old carrier's control lane is stuck
			next := newFakeConn()
			s.attachTo(t, next, nil)
			close(old.hold)
			synctest.Wait()
			if len(next.acks(1)) == 0 {
				t.Fatal("the next carrier says nothing of a stream that has moved on")
			}
		})
	}
}

// A Hello that says how far a stream is may be lost; then the carrier that is there
// must say it.
func TestPositionsAreNotNews(t *testing.T) {
	s := newFakeSession(t)
	s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindExec}, &wire.StreamData{ID: 1, Bytes: make([]byte, 20<<10)})
	st := s.streams.streams[1]
	_ = s.positions()
	if b, _ := st.news(nil); len(b) == 0 {
		t.Error("nothing is said of 20 KiB that came")
	}
}

// A stream that was whole is not cut off by a reset that came after its end.
func TestResetAfterTheEndCutsNothingOff(t *testing.T) {
	s := newFakeSession(t)
	s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindExec},
		&wire.StreamData{ID: 1, Fin: true, Bytes: []byte("all of it")},
		&wire.StreamAbort{ID: 1, Code: wire.CodeInternal})
	st, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(st)
	if reset, ok := errors.AsType[*StreamError](err); string(b) != "all of it" && (!ok || reset.Code != wire.CodeInternal) {
		t.Errorf("read %q and %v, want all or an error", b, err)
	}
}

// A stream that arrives while its session ends ends with it.
func TestStreamOfAnEndingSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession(t)
		s.attachTo(t, newFakeConn(), nil)
		s.attach.Lock() // the end waits
		s.end(&SessionError{Code: wire.CodeRevoked})
		s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindExec})
		s.attach.Unlock()
		<-s.Done()
		if n := s.memory.parent.used.Load(); n != 0 {
			t.Errorf("%d bytes of the process's memory are taken by a session that has ended", n)
		}
		select {
		case st := <-s.incoming:
			_ = st.SetReadDeadline(time.Now().Add(time.Hour))
			if _, err := st.Read(make([]byte, 1)); !errors.As(err, new(*SessionError)) {
				t.Errorf("read of its stream: %v", err)
			}
		default:
		}
	})
}

// What an edge says of its streams may be older than what the old carrier brought
// since: that a stream is missing there does not mean that the edge is done with it.
func TestStreamThatHelloDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession(t)
		s.attachTo(t, newFakeConn(), nil)
		s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindReport, Limit: 1 << 20}, &wire.StreamData{ID: 1, Fin: true, Bytes: []byte("question")})
		st, err := s.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte("ans")); err != nil {
			t.Fatal(err)
		}
		s.attachTo(t, newFakeConn(), &wire.Resume{})
		if _, err := st.Write([]byte("wer")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.hear(t, &wire.StreamAck{ID: 1, Done: true}) // it was done with it after all
		synctest.Wait()
		if n := s.Stats().Streams; n != 0 {
			t.Errorf("%d streams", n)
		}
	})
}

// A lane whose stream the peer needs no longer is given back.
func TestLaneOfAStreamThatThePeerHasForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession(t)
		c := newFakeConn()
		s.attachTo(t, c, nil)
		s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindReport, Limit: 1 << 20})
		st, err := s.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.hear(t, &wire.StreamAck{ID: 1, Done: true})
		_ = st.Close()
		synctest.Wait()
		if l := c.lanes[1]; !l.closed && !l.canceled {
			t.Error("the lane stays open")
		}
	})
}

// An Open that comes again, as it does after a carrier was lost, is no other stream.
func TestStreamsAreCountedOnce(t *testing.T) {
	s := newFakeSession(t)
	open := &wire.StreamOpen{ID: 1, Kind: wire.KindExec}
	s.hear(t, open, open, open)
	if got := s.Stats().ByKind[wire.KindExec].Streams; got != 1 {
		t.Errorf("%d streams were opened, want 1", got)
	}
}

// A carrier whose Welcome comes late does not take the place of one that the cloud
// has taken since.
func TestOlderCarrierComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession(t)
		s.edge = true
		newest, late := newFakeConn(), newFakeConn()
		numbers := map[*fakeConn]uint64{late: 1 << attemptBits, newest: 2 << attemptBits}
		order := []*fakeConn{newest, late}
		s.dial = func(ctx context.Context, _ wire.Hello, _ rank) (*carrier, *greeting, error) {
			c := order[0]
			order = order[1:]
			control, _ := c.OpenLane(ctx, 0)
			return newCarrier(s.ctx, c, control, newLaneReader(bytes.NewReader(nil)), numbers[c]), &greeting{}, nil
		}
		for range 2 {
			if err := s.again(t.Context(), anyRank); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.current.Load().conn; got != newest {
			t.Error("the older carrier took over")
		}
		if closed(newest.done) || !closed(late.done) {
			t.Error("the wrong one was closed")
		}
	})
}

// A long answer on a path that has died does not keep the next carrier from taking
// over, nor does one that has not begun; another attempt of the same round waits.
func TestLaterCarrierOvertakesAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeSession(t)
		moves := func(c *fakeConn, number uint64) <-chan error {
			moved := make(chan error, 1)
			control, _ := c.OpenLane(t.Context(), 0)
			in := &arrival{
				conn: c, control: control, inbox: newLaneReader(bytes.NewReader(nil)),
				cert:  &x509.Certificate{NotAfter: time.Now().Add(time.Hour)},
				hello: &wire.Hello{Carrier: number}, resume: &wire.Resume{},
			}
			go func() { moved <- s.move(in) }()
			synctest.Wait()
			return moved
		}
		stuck, twin, next := newFakeConn(), newFakeConn(), newFakeConn()
		stuck.hold = make(chan struct{})
		first := moves(stuck, 1<<attemptBits)
		second := moves(twin, 1<<attemptBits|1)
		if closed(stuck.done) {
			t.Error("an attempt of the same round called the answer off")
		}
		start := time.Now()
		last := moves(next, 2<<attemptBits)
		for _, moved := range []<-chan error{first, second, last} {
			var refused *SessionError
			if err := <-moved; err != nil && !errors.As(err, &refused) {
				t.Error(err)
			}
		}
		if got := s.current.Load(); got == nil || got.conn != next || time.Since(start) > 0 {
			t.Errorf("after %v the carrier is %+v", time.Since(start), got)
		}
		if !closed(stuck.done) || closed(next.done) {
			t.Error("the wrong one was closed")
		}
	})
}

// A peer may acknowledge more than it allowed to be sent.
func TestPreviewBeyondTheLimit(t *testing.T) {
	s := newFakeSession(t)
	s.hear(t, &wire.StreamOpen{ID: 1, Kind: wire.KindExec})
	st, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	s.hear(t, &wire.StreamAck{ID: 1, Received: 5})
	st.preview(nil, maxPreview)
}
