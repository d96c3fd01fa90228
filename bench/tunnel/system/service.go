package system

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// The services of a server. A stream's first byte says which one it is for.
const (
	Echo   byte = 'e' // sends back what it gets
	Sink   byte = 'k' // takes bytes and counts them
	Source byte = 's' // sends bytes until the stream ends
)

// Block is what bulk is written in.
const Block = 64 << 10

// Services are what the server does with streams.
type Services struct {
	// Received counts the bytes that Sink took.
	Received atomic.Int64
}

// Handle serves one stream.
func (s *Services) Handle(c net.Conn) {
	defer func() { _ = c.Close() }() // the client has gone, or will see it
	var service [1]byte
	if _, err := io.ReadFull(c, service[:]); err != nil {
		return
	}
	// What ends a stream is the client's affair: it has the clock.
	switch service[0] {
	case Echo:
		_ = echo(c)
	case Sink:
		_, _ = io.CopyBuffer(counter{&s.Received}, onlyReader{c}, make([]byte, Block))
	case Source:
		_ = Flood(c)
	}
}

func echo(c net.Conn) error {
	b := make([]byte, 4<<10)
	for {
		n, err := c.Read(b)
		if n > 0 {
			if _, err := c.Write(b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// Flood writes noise, which nothing can compress, until c fails.
func Flood(c io.Writer) error {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	noise := rand.NewChaCha8(seed)
	b := make([]byte, Block)
	for {
		_, _ = noise.Read(b) // never fails
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

// Drain counts what c gives until it fails; io.EOF is no failure.
func Drain(c io.Reader, count *atomic.Int64) error {
	_, err := io.CopyBuffer(counter{count}, onlyReader{c}, make([]byte, Block))
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// onlyReader hides other methods, so that the copy uses the buffer it is given.
type onlyReader struct{ io.Reader }
