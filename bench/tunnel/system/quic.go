package system

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/quic-go/quic-go"
)

// quicALPN names the protocol of the stock connection.
const quicALPN = "bench-quic"

// quicConfig is quic-go's default, but for two fields that any user sets: without
// the first an idle connection ends after 30 s, without the second what an
// earlier connection has left is of no use.
func quicConfig() *quic.Config {
	return &quic.Config{KeepAlivePeriod: 15 * time.Second, Allow0RTT: true}
}

type quicSession struct{ c *quic.Conn }

// quicStream makes a stream a net.Conn.
type quicStream struct {
	*quic.Stream
	c *quic.Conn
}

func (s quicStream) LocalAddr() net.Addr  { return s.c.LocalAddr() }
func (s quicStream) RemoteAddr() net.Addr { return s.c.RemoteAddr() }

// Close ends both directions.
func (s quicStream) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}

func dialQUIC(ctx context.Context, d Dial) (Session, error) {
	// Without a session to resume this is a dial like any other.
	dial := quic.DialAddr
	if d.TLS.ClientSessionCache != nil {
		dial = quic.DialAddrEarly
	}
	c, err := dial(ctx, d.Address, withALPN(d.TLS, quicALPN), quicConfig())
	if err != nil {
		return nil, err
	}
	return quicSession{c}, nil
}

func (s quicSession) Open(ctx context.Context, _ Class) (net.Conn, error) {
	st, err := s.c.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{st, s.c}, nil
}

func (s quicSession) Done() <-chan struct{} { return s.c.Context().Done() }
func (s quicSession) Close() error          { return s.c.CloseWithError(0, "done") }

func listenQUIC(ctx context.Context, l Listen) (io.Closer, error) {
	ln, err := quic.ListenAddrEarly(l.Address, withALPN(l.TLS, quicALPN), quicConfig())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			go handleAll(func() (net.Conn, error) {
				st, err := c.AcceptStream(ctx)
				if err != nil {
					return nil, err
				}
				return quicStream{st, c}, nil
			}, l.Handle)
		}
	}()
	return ln, nil
}
