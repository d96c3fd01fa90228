package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// A stranger holds its place from its first packet until it is known or gone.
func TestTLSListenerBoundsStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, p := newAuthority(t), newPipes()
		l := ListenTLS(p, ca.server(), 2)
		dial := func() (Conn, error) {
			c, err := DialTLS(t.Context(), p.dial, "cloud:7443", ca.client("edge-1"), 0)
			if err == nil {
				read(t, c)
				synctest.Wait()
			}
			return c, err
		}
		refused := func() {
			t.Helper()
			_, before := l.Pending()
			_, err := dial()
			ended(t, err, wire.CodeOffline, false)
			if _, got := l.Pending(); got != before+1 {
				t.Errorf("%d refused, want %d", got, before+1)
			}
		}
		var cloud [2]Conn
		for i := range cloud {
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(wire.CodeOK, "")
			if cloud[i], err = l.Accept(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer cloud[i].Close(wire.CodeOK, "")
		}
		refused()
		cloud[0].Settle()
		cloud[0].Settle() // once is enough
		idle, err := p.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		synctest.Wait()
		refused()
		cloud[1].Close(wire.CodeRevoked, "")
		if c, err := dial(); err != nil {
			t.Errorf("after the end of a connection: %v", err)
		} else {
			c.Close(wire.CodeOK, "")
		}
		// Who never says a word is a stranger for ten seconds.
		start := time.Now()
		if _, err := io.Copy(io.Discard, idle); err != nil {
			t.Error(err)
		}
		if got := time.Since(start); got > tlsHandshake {
			t.Errorf("a silent stranger stayed for %v", got)
		}
		if _, err := dial(); err != nil {
			t.Errorf("after the stranger has left: %v", err)
		}
		if err := l.Close(); err != nil { // with connections that nobody took
			t.Error(err)
		}
		if l.pending.n != 0 {
			t.Errorf("%d strangers are left", l.pending.n)
		}
	})
}

func TestTLSListenerSurvivesAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, p := newAuthority(t), newPipes()
		for range cap(p.errs) {
			p.errs <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		start := time.Now()
		l := ListenTLS(p, ca.server(), 0)
		c, err := DialTLS(t.Context(), p.dial, "cloud:7443", ca.client("edge-1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		read(t, c)
		// 5 ms, doubled seven times, and then a second each.
		if got, want := time.Since(start), 5*255*time.Millisecond+2*time.Second; got != want {
			t.Errorf("accepted after %v, want %v", got, want)
		}
		for range cap(p.errs) {
			p.errs <- syscall.EMFILE
		}
		synctest.Wait()
		if err := l.Close(); err != nil { // during the pause, too
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		_, err = l.Accept(t.Context())
		for err == nil { // it was accepted before
			_, err = l.Accept(t.Context())
		}
		ended(t, err, wire.CodeGoingAway, false)
		<-c.Done()
		ended(t, c.Err(), wire.CodeOffline, false)
	})
}

func TestTLSListenerCloseDuringHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, p := newAuthority(t), newPipes()
		l := ListenTLS(p, ca.server(), 0)
		if _, err := p.dial(t.Context(), "", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Accept: %v", err)
		}
		start := time.Now()
		if err := l.Close(); err != nil || time.Since(start) != 0 {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
	})
}

// loopback listens on a real socket.
func loopback(t *testing.T, conf *tls.Config) *TLSListener {
	t.Helper()
	ln, err := ListenTCP(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := ListenTLS(ln, conf, 0)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func dialLoopback(t *testing.T, l *TLSListener, conf *tls.Config) (Conn, error) { //nolint:ireturn // as DialTLS
	t.Helper()
	c, err := DialTLS(t.Context(), tcpDialer().DialContext, l.Addr().String(), conf, keepAlive)
	if err == nil {
		t.Cleanup(func() { c.Close(wire.CodeOK, "test ends") })
	}
	return c, err
}

// The client is done before the cloud has looked at its certificate. That it was
// refused must show, whatever the client writes meanwhile.
func TestTLSUntrusted(t *testing.T) {
	ca := newAuthority(t)
	l := loopback(t, ca.server("revoked"))
	for range 20 {
		c, err := dialLoopback(t, l, ca.client("revoked"))
		if err != nil {
			t.Fatal(err)
		}
		lane := openLane(t, c, 0)
		wrote := make(chan error, 1)
		go func() {
			var err error
			for bulk := frame(string(make([]byte, 16000))); err == nil; {
				_, err = lane.Write(bulk)
			}
			wrote <- err
		}()
		for _, err := range []error{<-read(t, c).end, <-wrote} {
			if e := ended(t, err, wire.CodeInternal, true); !e.Untrusted {
				t.Fatalf("%v is not marked as untrusted", err)
			}
		}
	}
	// The cloud of another CA, and the edge of another.
	other := newAuthority(t)
	_, err := dialLoopback(t, l, other.client("edge-1"))
	if e := ended(t, err, wire.CodeInternal, false); !e.Untrusted {
		t.Errorf("%v is not marked as untrusted", err)
	}
	conf := other.client("edge-1")
	conf.RootCAs = ca.ca.Pool()
	c, err := dialLoopback(t, l, conf)
	if err != nil {
		t.Fatal(err)
	}
	if e := ended(t, <-read(t, c).end, wire.CodeInternal, true); !e.Untrusted {
		t.Errorf("%v is not marked as untrusted", e)
	}
}

func TestTLSHandshakeFailures(t *testing.T) {
	ca := newAuthority(t)
	l := loopback(t, ca.server())
	conf := ca.client("edge-1")
	conf.NextProtos = []string{"skerry/99"}
	_, err := dialLoopback(t, l, conf)
	if e := ended(t, err, wire.CodeUnsupported, true); e.Untrusted {
		t.Errorf("another protocol is marked as untrusted: %v", err)
	}
	conf.NextProtos = nil
	if _, err = dialLoopback(t, l, conf); err == nil {
		t.Error("a client without protocol is content")
	}

	// What is no TLS at all, as behind a login page.
	ln, err := ListenTCP(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 302 Found\r\n\r\n")
			c.Close()
		}
	}()
	_, err = DialTLS(t.Context(), tcpDialer().DialContext, ln.Addr().String(), ca.client("edge-1"), 0)
	if e := ended(t, err, wire.CodeProtocol, false); e.Untrusted {
		t.Errorf("no TLS is marked as untrusted: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer cancel()
		return tcpDialer().DialContext(ctx, network, addr)
	}
	if _, err = DialTLS(ctx, dial, l.Addr().String(), ca.client("edge-1"), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestTLSOnRealSocket(t *testing.T) {
	ca := newAuthority(t)
	l := loopback(t, ca.server())
	edge, err := dialLoopback(t, l, ca.client("edge-1"))
	if err != nil {
		t.Fatal(err)
	}
	cloud, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if edge.LocalAddr().String() != cloud.RemoteAddr().String() {
		t.Errorf("the edge is at %v, the cloud sees %v", edge.LocalAddr(), cloud.RemoteAddr())
	}
	fromCloud, fromEdge := read(t, edge), read(t, cloud)
	before := edge.Stats().Received
	if err := cloud.Ping(); err != nil {
		t.Fatal(err)
	}
	if err := edge.Ping(); err != nil {
		t.Fatal(err)
	}
	for edge.Stats().Received < before+1 || cloud.Stats().RTT == 0 {
		<-time.After(time.Millisecond)
	}
	for name, c := range map[string]Conn{"edge": edge, "cloud": cloud} {
		s := c.Stats()
		if s.RTT == 0 || s.RTT > time.Minute || s.BytesSent == 0 || s.BytesReceived == 0 || s.PacketsSent == 0 || s.PacketsReceived == 0 {
			t.Errorf("%s: %+v", name, s)
		}
		checkSocket(t, name, c)
	}
	// The goodbye passes bulk that nobody reads, in both directions.
	bulk := frame(string(make([]byte, 16000)))
	lane := openLane(t, edge, 6)
	wrote := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = lane.Write(bulk)
		}
		wrote <- err
	}()
	<-fromEdge.frames
	cloud.Close(wire.CodeReplaced, "a newer one")
	ended(t, <-fromCloud.end, wire.CodeReplaced, true)
	ended(t, <-wrote, wire.CodeReplaced, true)
	if s := edge.Stats(); s.PacketsSent == 0 || s.BytesSent == 0 {
		t.Errorf("after the end: %+v", s)
	}
}

func checkSocket(t *testing.T, name string, c Conn) {
	t.Helper()
	tc, ok := c.(*tlsConn)
	if !ok {
		t.Fatalf("%T", c)
	}
	err := tc.socket.Control(func(fd uintptr) {
		for _, o := range []struct{ level, option, want int }{
			{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat},
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())},
			{unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(rtoMax.Milliseconds())},
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0},
			{unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP}, // and not MPTCP
		} {
			got, err := unix.GetsockoptInt(int(fd), o.level, o.option)
			if errors.Is(err, unix.ENOPROTOOPT) {
				continue // an older kernel
			}
			if err != nil || got != o.want {
				t.Errorf("%s: socket option %d is %d, want %d (%v)", name, o.option, got, o.want, err)
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}
