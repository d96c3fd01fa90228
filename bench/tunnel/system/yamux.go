package system

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	yamuxALPN = "bench-yamux"
	// yamuxDial bounds a dial. Without a bound the kernel tries for two minutes,
	// and again further and further apart; quic-go's default is the same.
	yamuxDial = 5 * time.Second
)

type yamuxSession struct{ s *yamux.Session }

// yamuxConfig is yamux's default, silent.
func yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	return c
}

func dialYamux(ctx context.Context, d Dial) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, yamuxDial)
	defer cancel()
	dialer := tls.Dialer{NetDialer: tcpDialer(), Config: withALPN(d.TLS, yamuxALPN)}
	c, err := dialer.DialContext(ctx, "tcp", d.Address)
	if err != nil {
		return nil, err
	}
	s, err := yamux.Client(c, yamuxConfig())
	if err != nil {
		return nil, err
	}
	return yamuxSession{s}, nil
}

func (s yamuxSession) Open(context.Context, Class) (net.Conn, error) { return s.s.Open() }
func (s yamuxSession) Done() <-chan struct{}                         { return s.s.CloseChan() }
func (s yamuxSession) Close() error                                  { return s.s.Close() }

func listenYamux(ctx context.Context, l Listen) (io.Closer, error) {
	ln, err := listenTCP(ctx, l.Address)
	if err != nil {
		return nil, err
	}
	conf := withALPN(l.TLS, yamuxALPN)
	go handleAll(ln.Accept, func(c net.Conn) {
		s, err := yamux.Server(tls.Server(c, conf), yamuxConfig())
		if err != nil {
			_ = c.Close()
			return
		}
		handleAll(s.Accept, l.Handle)
	})
	return ln, nil
}
