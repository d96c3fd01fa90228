package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// partingWrite bounds how long a goodbye may wait behind other bytes, and
	// partingRead how long the peer may take to close its side then.
	partingWrite = time.Second
	partingRead  = 3 * time.Second
	// partingWait is how long Close itself waits for the goodbye to reach the
	// kernel, so that a program may exit after it.
	partingWait = 50 * time.Millisecond
	// lastWords is how long a connection that can't be written to may still be
	// read: what stands there is often why.
	lastWords = time.Second
	// maxText bounds the text of a goodbye.
	maxText = 1 << 10
)

// tlsConn is a TLS connection over TCP. Its lanes share the one pipe: a lane's
// Write has the pipe for itself while it lasts, and the most urgent of those who
// wait is next. See PROTOCOL.md for the frames that it adds.
type tlsConn struct {
	raw       *counted // below TLS
	tls       *tls.Conn
	socket    syscall.RawConn // nil when there is none to ask
	state     tls.ConnectionState
	settle    func()        // takes the connection off the listener's count of pending ones
	keepAlive time.Duration // zero means for ever

	pipe    turn           // whoever holds it writes
	reading sync.Mutex     // whoever holds it reads
	lanes   chan io.Reader // the peer's only one, until it is accepted
	done    chan struct{}

	mu         sync.Mutex // guards the following fields
	err        *ConnError
	last       Stats // when it ended
	ping, pong bool  // to be sent
	sending    bool  // a goroutine is at it
	trips      pingTimes
	alarm      *time.Timer // keepAlive's
}

var _ Conn = (*tlsConn)(nil)

// newTLSConn starts a connection whose handshake is done.
func newTLSConn(raw *counted, t *tls.Conn, keepAlive time.Duration, settle func()) *tlsConn {
	c := &tlsConn{
		raw: raw, tls: t, socket: tcpSocket(raw.Conn), state: t.ConnectionState(),
		settle: settle, keepAlive: keepAlive,
		lanes: make(chan io.Reader, 1), done: make(chan struct{}),
	}
	c.lanes <- &tlsReader{c: c, frames: newFilter(t, c.take)}
	if keepAlive > 0 {
		c.mu.Lock() // the alarm looks at itself
		defer c.mu.Unlock()
		c.alarm = time.AfterFunc(keepAlive, c.stayAlive)
	}
	return c
}

// Kind implements Conn.
func (*tlsConn) Kind() string { return KindTLS }

// OpenLane implements Conn. It never waits.
func (c *tlsConn) OpenLane(ctx context.Context, urgency int8) (Lane, error) { //nolint:ireturn // one of two carriers'
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &tlsLane{c: c, place: newWaiter(urgency), closed: make(chan struct{})}, nil
}

// AcceptLane implements Conn. There is one lane, with all frames of the peer.
func (c *tlsConn) AcceptLane(ctx context.Context) (io.Reader, error) {
	select {
	case r := <-c.lanes:
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.done:
		return nil, c.Err()
	}
}

// Ping implements Conn: the peer answers with a Pong.
func (c *tlsConn) Ping() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.ping = true
	c.sendLocked()
	return nil
}

// Early implements Conn.
func (*tlsConn) Early() bool { return false }

// Handshake implements Conn: it was done before there was a Conn.
func (*tlsConn) Handshake(context.Context) error { return nil }

// Settle implements Conn.
func (c *tlsConn) Settle() {
	if c.settle != nil {
		c.settle()
	}
}

// Close implements Conn.
func (c *tlsConn) Close(code wire.Code, text string) {
	c.close(&ConnError{Code: code, Text: text, Application: true})
}

// close ends the connection and tells the peer.
func (c *tlsConn) close(err *ConnError) {
	if !c.end(err) {
		return
	}
	said := make(chan struct{})
	go c.part(&wire.Goodbye{Code: err.Code, Text: clip(err.Text)}, said)
	wait := time.NewTimer(partingWait)
	defer wait.Stop()
	select {
	case <-said:
	case <-wait.C:
	}
}

// Done implements Conn.
func (c *tlsConn) Done() <-chan struct{} { return c.done }

// Err implements Conn.
func (c *tlsConn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return nil // and not a *ConnError that is nil
	}
	return c.err
}

// TLS implements Conn.
func (c *tlsConn) TLS() tls.ConnectionState { return c.state }

// LocalAddr implements Conn.
func (c *tlsConn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr implements Conn. Behind an HTTP proxy it is the proxy's.
func (c *tlsConn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Stats implements Conn.
func (c *tlsConn) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.last // the kernel has forgotten it
	}
	return c.statsLocked()
}

func (c *tlsConn) statsLocked() Stats {
	s := Stats{BytesSent: c.raw.sent.Load(), BytesReceived: c.raw.received.Load(), Received: c.raw.reads.Load()}
	addTCPInfo(&s, c.socket)
	// TCP knows the way to a proxy in between at most, a Ping goes all the way.
	s.RTT = max(s.RTT, c.trips.rtt())
	return s
}

// end marks the connection as ended, once. Whoever gets true must see that the
// socket is closed.
func (c *tlsConn) end(err *ConnError) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.last = c.statsLocked()
	c.err = err
	if c.alarm != nil {
		c.alarm.Stop()
	}
	close(c.done)
	if c.settle != nil {
		c.settle()
	}
	return true
}

// fail ends a connection that can't be used any more, or whose peer has left.
func (c *tlsConn) fail(err *ConnError) {
	if c.end(err) {
		_ = bottom(c.raw.Conn).Close() // nothing is left to be told
	}
}

// part says goodbye and closes the socket when the peer has closed its side:
// closed with bytes unread, TCP would send a reset, which may overtake the goodbye.
func (c *tlsConn) part(f *wire.Goodbye, said chan<- struct{}) {
	now := time.Now()
	_ = c.raw.SetWriteDeadline(now.Add(partingWrite))
	_ = c.raw.SetReadDeadline(now) // whoever reads returns
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		c.reading.Lock()
		defer c.reading.Unlock()
		_ = c.raw.SetReadDeadline(now.Add(partingRead))
		_, _ = io.Copy(io.Discard, c.raw.Conn)
	}()

	late := make(chan struct{})
	timer := time.AfterFunc(partingWrite, func() { close(late) })
	if c.pipe.acquire(newWaiter(firstUrgency), late, nil) {
		_ = wire.Write(c.tls, f)
		c.pipe.release()
	}
	timer.Stop()
	close(said)
	if w, ok := c.raw.Conn.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		<-drained
	}
	_ = bottom(c.raw.Conn).Close() // nothing is left to be told
	<-drained
}

// write has the pipe for itself when it is w's turn.
func (c *tlsConn) write(w *waiter, b []byte, canceled <-chan struct{}) (int, error) {
	if !c.pipe.acquire(w, c.done, canceled) {
		if err := c.Err(); err != nil {
			return 0, err
		}
		return 0, ErrCanceled
	}
	if err := c.Err(); err != nil {
		c.pipe.release()
		return 0, err
	}
	n, err := c.tls.Write(b)
	c.pipe.release()
	if err == nil {
		return n, nil
	}
	// The peer's goodbye, or its objection to our certificate, may be there to read.
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.fail(tlsError(err))
	}
	return n, c.Err()
}

// sendLocked sees that the carrier's own frames go out. Nobody waits for them:
// not the reader above all, since two readers that wait to write would both stop.
func (c *tlsConn) sendLocked() {
	if c.sending {
		return
	}
	c.sending = true
	go c.sendOwn() // ends with the connection, or when there is nothing more
}

func (c *tlsConn) sendOwn() {
	place := newWaiter(firstUrgency)
	for {
		c.mu.Lock()
		var b []byte
		if c.pong {
			b = wire.Append(b, &wire.Pong{})
		}
		if c.ping {
			b = wire.Append(b, &wire.Ping{})
			c.trips.asked(time.Now())
		}
		c.ping, c.pong = false, false
		c.sending = b != nil && c.err == nil
		more := c.sending
		c.mu.Unlock()
		if !more {
			return
		}
		// An error has ended the connection, or soon will.
		_, _ = c.write(place, b, nil)
	}
}

// take handles a frame of the carrier.
func (c *tlsConn) take(f wire.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *wire.Ping:
		c.pong = true
		c.sendLocked()
	case *wire.Pong:
		c.trips.answered(time.Now())
	case *wire.Goodbye:
		return &ConnError{Code: f.Code, Text: f.Text, Remote: true, Application: true}
	}
	return nil
}

// took enters a round trip that was not a Ping's.
func (c *tlsConn) took(trip time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trips.add(trip)
}

// readFailed ends the connection for an error of its reader.
func (c *tlsConn) readFailed(err error) {
	if errors.Is(err, errBroken) {
		c.close(&ConnError{Code: wire.CodeProtocol, Text: err.Error()})
		return
	}
	c.fail(tlsError(err))
}

// stayAlive pings when nothing went or came for keepAlive.
func (c *tlsConn) stayAlive() {
	left := c.keepAlive - c.raw.silence()
	if left <= 0 {
		_ = c.Ping() // it fails when nobody needs it
		left = c.keepAlive
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.alarm.Reset(left)
	}
}

// bottom is what to close when closing must not wait: a *tls.Conn's Close would
// first write to the HTTP proxy on its other end.
func bottom(c net.Conn) net.Conn {
	for {
		t, ok := c.(*tls.Conn)
		if !ok {
			return c
		}
		c = t.NetConn()
	}
}
