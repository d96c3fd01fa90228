package system

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// muxMessage bounds the bytes of a message. KubeEdge sends 256 of a log at a
	// time, which costs it CPU and a tenth of the line; 4 KiB costs neither.
	muxMessage = 4 << 10
	// muxQueue bounds the messages of a stream that nobody has read. Nothing tells
	// the peer of it: when it is full, the others wait, as KubeEdge's do.
	muxQueue = 64
	// muxHead is the stream's id; an empty message ends the stream.
	muxHead = 4
)

var errMuxClosed = errors.New("websocket closed")

// mux carries streams in the messages of one WebSocket: an id of 4 bytes, then
// the stream's.
type mux struct {
	ws     *websocket.Conn
	handle func(net.Conn) // nil on the client
	done   chan struct{}
	once   sync.Once

	write sync.Mutex // held while writing to ws

	mu      sync.Mutex // guards the following fields
	last    uint32
	streams map[uint32]*muxStream
}

func newMux(ws *websocket.Conn, handle func(net.Conn)) *mux {
	return &mux{ws: ws, handle: handle, done: make(chan struct{}), streams: map[uint32]*muxStream{}}
}

// Open implements Session.
func (m *mux) Open(context.Context, Class) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.done:
		return nil, errMuxClosed
	default:
	}
	m.last++
	return m.addLocked(m.last), nil
}

func (m *mux) addLocked(id uint32) *muxStream {
	s := &muxStream{m: m, id: id, queue: make(chan []byte, muxQueue), closed: make(chan struct{})}
	m.streams[id] = s
	return s
}

// Done implements Session.
func (m *mux) Done() <-chan struct{} { return m.done }

// Close implements Session.
func (m *mux) Close() error {
	m.once.Do(func() { close(m.done) })
	return m.ws.Close()
}

// run reads until the WebSocket fails.
func (m *mux) run() {
	defer func() { _ = m.Close() }() // it has failed already
	for {
		_, b, err := m.ws.ReadMessage()
		if err != nil || len(b) < muxHead {
			return
		}
		id, b := binary.BigEndian.Uint32(b), b[muxHead:]
		m.mu.Lock()
		s, known := m.streams[id]
		if !known && m.handle != nil && len(b) > 0 {
			s = m.addLocked(id)
			go m.handle(s)
		}
		m.mu.Unlock()
		if s != nil {
			s.take(b)
		}
	}
}

// ping does what keeps a KubeEdge tunnel alive.
func (m *mux) ping(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-m.done:
			return
		case now := <-tick.C:
			if err := m.ws.WriteControl(websocket.PingMessage, []byte("ping"), now.Add(time.Second)); err != nil {
				// A full line is none: KubeEdge logs that and goes on.
				continue
			}
		}
	}
}

// send writes one message.
func (m *mux) send(id uint32, b []byte) error {
	message := append(binary.BigEndian.AppendUint32(make([]byte, 0, muxHead+len(b)), id), b...)
	m.write.Lock()
	defer m.write.Unlock()
	err := m.ws.WriteMessage(websocket.BinaryMessage, message)
	if err != nil {
		m.once.Do(func() { close(m.done) }) // no message gets through any more
	}
	return err
}

// muxStream is one stream of a mux.
type muxStream struct {
	m      *mux
	id     uint32
	queue  chan []byte
	rest   []byte // of the message that was read last
	closed chan struct{}
	once   sync.Once
}

// take queues what came; empty is the end.
func (s *muxStream) take(b []byte) {
	if len(b) == 0 {
		s.end()
		return
	}
	select {
	case s.queue <- b:
	case <-s.closed:
	case <-s.m.done:
	}
}

func (s *muxStream) end() {
	s.once.Do(func() {
		s.m.mu.Lock()
		delete(s.m.streams, s.id)
		s.m.mu.Unlock()
		close(s.closed)
	})
}

// Read implements net.Conn.
func (s *muxStream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		select {
		case s.rest = <-s.queue:
		case <-s.closed:
			return 0, io.EOF
		case <-s.m.done:
			return 0, errMuxClosed
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Write implements net.Conn.
func (s *muxStream) Write(p []byte) (n int, err error) {
	for n < len(p) {
		select {
		case <-s.closed:
			return n, net.ErrClosed
		case <-s.m.done:
			return n, errMuxClosed
		default:
		}
		piece := p[n:min(n+muxMessage, len(p))]
		if err := s.m.send(s.id, piece); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

// Close implements net.Conn.
func (s *muxStream) Close() error {
	s.end()
	return s.m.send(s.id, nil)
}

// LocalAddr implements net.Conn.
func (s *muxStream) LocalAddr() net.Addr { return s.m.ws.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *muxStream) RemoteAddr() net.Addr { return s.m.ws.RemoteAddr() }

// SetDeadline implements net.Conn; there are none here, the bench closes streams.
func (s *muxStream) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// SetReadDeadline implements net.Conn.
func (s *muxStream) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline implements net.Conn.
func (s *muxStream) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
