package spdy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

const (
	// protocolHeader names what is spoken on the streams.
	protocolHeader = "X-Stream-Protocol-Version"
	// streamTypeHeader says what a stream is for, in lower case as SPDY wants it.
	streamTypeHeader = "streamtype"
	// readBuffer is for frames, and the most of one that is passed on at once.
	readBuffer = 16 << 10
	// maxRefusal bounds what is read of an answer that refuses.
	maxRefusal = 4 << 10
)

// Dialer makes connections to the server.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Conn is a connection to a streaming server. Its streams may be written by
// other goroutines than that of Receive.
type Conn struct {
	conn    net.Conn
	stop    func() bool // of watching the context
	r       *bufio.Reader
	streams []*Stream // stream n has the id 2n+1

	write sync.Mutex
	vec   [2][]byte
	head  [headerSize]byte
}

// Stream is one of a connection's.
type Stream struct {
	c     *Conn
	id    uint32
	to    io.Writer // nil: what comes is of no interest
	ended bool
	err   error // of to
}

// Dial asks the server at rawURL (http or https) to speak SPDY/3.1 and, on its
// streams, protocol. Whoever ends ctx later ends the connection.
func Dial(ctx context.Context, d Dialer, rawURL, protocol string) (*Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("streaming url of the runtime: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("streaming url of the runtime: %w", err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "SPDY/3.1")
	req.Header.Set(protocolHeader, protocol)
	conn, err := dial(ctx, d, u)
	if err != nil {
		return nil, fmt.Errorf("connect to the runtime's streaming server: %w", err)
	}
	c := &Conn{conn: conn, r: bufio.NewReaderSize(conn, readBuffer)}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := c.upgrade(req, protocol); err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return c, nil
}

func dial(ctx context.Context, d Dialer, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = u.Scheme // "http" and "https" are names of ports, too
	}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "https" {
		return conn, err
	}
	secured := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

func (c *Conn) upgrade(req *http.Request, protocol string) error {
	if err := req.Write(c.conn); err != nil {
		return fmt.Errorf("ask the runtime's streaming server: %w", err)
	}
	resp, err := http.ReadResponse(c.r, req)
	if err != nil {
		return fmt.Errorf("answer of the runtime's streaming server: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing of it is left
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		return fmt.Errorf("the runtime's streaming server refuses: %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	if !strings.EqualFold(resp.Header.Get("Upgrade"), "SPDY/3.1") {
		return fmt.Errorf("the runtime's streaming server speaks %q, want SPDY/3.1", resp.Header.Get("Upgrade"))
	}
	if got := resp.Header.Get(protocolHeader); got != protocol {
		return fmt.Errorf("the runtime's streaming server chose protocol %q, want %s", got, protocol)
	}
	return nil
}

// Kind says what a stream is for, and where what comes on it goes: nowhere when To
// is nil. ReadOnly ends our side of it at once.
type Kind struct {
	Type     string
	To       io.Writer
	ReadOnly bool
}

// Open opens streams, all in one write. It is called once, before Receive.
func (c *Conn) Open(kinds ...Kind) ([]*Stream, error) {
	var b []byte
	for i, k := range kinds {
		s := &Stream{c: c, id: uint32(2*i + 1), to: k.To}
		c.streams = append(c.streams, s)
		b = appendSynStream(b, s.id, streamTypeHeader, k.Type, i == 0)
		if k.ReadOnly {
			b = appendData(b, s.id, flagFin, 0)
		}
	}
	c.write.Lock()
	defer c.write.Unlock()
	if _, err := c.conn.Write(b); err != nil {
		return nil, fmt.Errorf("open streams: %w", err)
	}
	return c.streams, nil
}

// Write implements io.Writer.
func (s *Stream) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+maxData)]
		if err := s.send(part, 0); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// CloseWrite ends our side: the server sees the end of what is written. What it
// sends still comes.
func (s *Stream) CloseWrite() error { return s.send(nil, flagFin) }

func (s *Stream) send(p []byte, flags byte) error {
	c := s.c
	c.write.Lock()
	defer c.write.Unlock()
	c.vec = [2][]byte{appendData(c.head[:0], s.id, flags, len(p)), p}
	buffers := net.Buffers(c.vec[:])
	_, err := buffers.WriteTo(c.conn)
	c.vec[1] = nil
	return err
}

// Close ends the connection, and with it Receive and all writes.
func (c *Conn) Close() error {
	c.stop()
	return c.conn.Close()
}

// Receive passes on what comes until the server has ended all of these streams, or
// the connection. A writer that fails gets nothing more, but what is for it is read
// all the same, since a command that nobody reads does not end. The error is of the
// first such writer, or of the connection if it did not end well.
func (c *Conn) Receive(until ...*Stream) error {
	for !ended(until) {
		err := c.receive()
		if errors.Is(err, io.EOF) {
			break // the server is done
		}
		if err != nil {
			return err
		}
	}
	for _, s := range until {
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

func ended(streams []*Stream) bool {
	for _, s := range streams {
		if !s.ended {
			return false
		}
	}
	return true
}

// receive reads one frame; io.EOF means that there is none after the last.
func (c *Conn) receive() error {
	var b [headerSize]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("read from the runtime's streaming server: %w", err)
	}
	h := parseHeader(b)
	var err error
	switch {
	case !h.control:
		err = c.data(h)
	case h.kind == rstStream && h.size == 8:
		err = c.reset()
	default: // replies, and what has no meaning for streams that exist
		_, err = c.r.Discard(h.size)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("frame of the runtime's streaming server: %w", err)
	}
	return nil
}

// data passes a data frame on.
func (c *Conn) data(h header) error {
	s := c.stream(h.stream)
	for left := h.size; left > 0; {
		if _, err := c.r.Peek(1); err != nil { // waits for more
			return err
		}
		part, err := c.r.Peek(min(left, c.r.Buffered()))
		if err != nil {
			return err
		}
		s.deliver(part)
		left -= len(part)
		if _, err := c.r.Discard(len(part)); err != nil {
			return err
		}
	}
	if h.flags&flagFin != 0 {
		s.ended = true
	}
	return nil
}

func (s *Stream) deliver(p []byte) {
	if s.to == nil || s.err != nil {
		return
	}
	_, s.err = s.to.Write(p)
}

// reset reads the end of a stream that the server tore down: those that it is done
// with when the command has ended, and those that it does not want.
func (c *Conn) reset() error {
	var b [8]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	c.stream(binary.BigEndian.Uint32(b[:])).ended = true
	return nil
}

// stream gives the stream with an id, and one that nobody waits for where there is
// none.
func (c *Conn) stream(id uint32) *Stream {
	if n := int(id) / 2; id%2 == 1 && n < len(c.streams) {
		return c.streams[n]
	}
	return &Stream{}
}
