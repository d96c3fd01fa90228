package sync

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// direct gives the edge a stream of which a test writes the other end.
type direct struct {
	link  *link
	conns chan net.Conn
}

// Dial implements Dialer; it gives one stream and then waits for ctx.
func (d *direct) Dial(ctx context.Context, _ wire.Kind) (net.Conn, error) {
	d.link.mu.Lock()
	first := d.conns == nil
	if first {
		d.conns = make(chan net.Conn, 1)
	}
	d.link.mu.Unlock()
	if !first {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	edge, cloud := net.Pipe()
	d.conns <- cloud
	return edge, nil
}

// serve reads what the edge holds, sends sent, and waits until the last of them
// is acknowledged.
func (d *direct) serve(t *testing.T, sent ...wire.Frame) {
	t.Helper()
	var conn net.Conn
	for conn == nil {
		d.link.mu.Lock()
		conns := d.conns
		d.link.mu.Unlock()
		select {
		case conn = <-conns:
		default:
			wait(time.Nanosecond)
		}
	}
	defer conn.Close()
	r := frames(conn)
	next := func() wire.Frame {
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if _, ok := next().(*wire.Digest); !ok {
		t.Error("the edge does not begin with a Digest")
	}
	go func() {
		for _, f := range sent {
			_ = wire.Write(conn, f)
		}
	}()
	for {
		if ack, ok := next().(*wire.Ack); ok && ack.Seq == uint64(len(sent)) {
			return
		}
	}
}

// frames reads what comes over conn.
func frames(conn net.Conn) *wire.Reader { return wire.NewReader(bufio.NewReader(conn), 4<<20) }
