package system

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// skerrySession is one of package tunnel.
type skerrySession struct{ s *tunnel.Session }

func newSkerry(ctx context.Context, d Dial) (*tunnel.Session, error) {
	hello := wire.Hello{Seq: 1, AgentVersion: "bench", OS: runtime.GOOS, Arch: runtime.GOARCH}
	_, _ = rand.Read(hello.Incarnation[:]) // never fails
	return tunnel.New(ctx, tunnel.DialConfig{Address: d.Address, TLS: d.TLS, Hello: hello, Packets: true})
}

func dialSkerry(ctx context.Context, d Dial) (Session, error) {
	s, err := newSkerry(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := s.Dial(ctx); err != nil {
		return nil, err
	}
	return skerrySession{s}, nil
}

// beginSkerry opens streams while the session is being dialed, as the agent does.
func beginSkerry(ctx context.Context, d Dial) (Session, error) {
	s, err := newSkerry(ctx, d)
	if err != nil {
		return nil, err
	}
	go func() { _ = s.Dial(ctx) }() // a stream says why it failed, too
	return skerrySession{s}, nil
}

// Open opens a stream of the kind that the product uses for the like: a
// terminal, and a log or a file.
func (s skerrySession) Open(ctx context.Context, class Class) (net.Conn, error) {
	kind := wire.KindExec
	if class == Bulk {
		kind = wire.KindKubelet
	}
	st, err := s.s.Open(ctx, kind)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (s skerrySession) Done() <-chan struct{} { return s.s.Done() }
func (s skerrySession) Close() error          { return s.s.Close(wire.CodeOK, "done") }

func listenSkerry(ctx context.Context, l Listen) (io.Closer, error) {
	addr, err := netip.ParseAddrPort(l.Address)
	if err != nil {
		return nil, err
	}
	tcp, err := link.ListenTCP(ctx, l.Address)
	if err != nil {
		return nil, err
	}
	ln, err := tunnel.Listen(ctx, tunnel.ListenConfig{Port: int(addr.Port()), Listener: tcp, TLS: l.TLS, Replica: "bench"})
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	go func() {
		for {
			s, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			go handleAll(func() (net.Conn, error) { return s.Accept(ctx) }, l.Handle)
		}
	}()
	return ln, nil
}
