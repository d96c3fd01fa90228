package cloudproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestSplit has three callers: one who offers the protocol, one who does not, and
// one who says nothing that makes sense.
func TestSplit(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := split(ln, "skerry/1")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	for _, tt := range []struct {
		offer []string
		from  net.Listener
	}{{[]string{"h2", "skerry/1"}, s.with}, {[]string{"h2"}, s.without}, {nil, s.without}} {
		silent, err := net.Dial("tcp", ln.Addr().String()) // delays nobody
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		client := tls.Client(raw, &tls.Config{ServerName: "x", NextProtos: tt.offer, MinVersion: tls.VersionTLS13})
		go client.Handshake()
		conn, err := tt.from.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// The whole ClientHello is there again: a second reading finds the same.
		offered, _, err := clientHello(conn)
		if err != nil || len(offered) != len(tt.offer) {
			t.Errorf("offered %q and %v, want %q", offered, err, tt.offer)
		}
		conn.Close()
		raw.Close()
	}
	junk, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer junk.Close()
	if _, err := io.WriteString(junk, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	junk.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := junk.Read(make([]byte, 1)); errors.Is(err, context.DeadlineExceeded) || err == nil {
		t.Errorf("somebody who speaks no TLS got %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := s.with.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept at the end: %v", err)
	}
}
