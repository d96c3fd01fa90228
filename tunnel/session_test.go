package tunnel_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const rtt = 100 * time.Millisecond

func TestSessionKnowsBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		start := time.Now()
		cloud, edge := n.Pair("edge-1")
		// One round trip for the handshake, one for Hello and Welcome.
		if got := time.Since(start); got != 2*rtt {
			t.Errorf("session after %v, want %v", got, 2*rtt)
		}
		if got, want := cloud.Peer(), (certs.Identity{Cluster: tunneltest.Cluster, Node: "edge-1"}); got != want {
			t.Errorf("cloud sees %v, want %v", got, want)
		}
		if got := edge.Peer(); !got.IsProxy() {
			t.Errorf("edge sees %v, want the proxy", got)
		}
		if got := cloud.Hello().Hostname; got != "edge-1" {
			t.Errorf("hello says hostname %q", got)
		}
		if got := edge.Welcome().Replica; got != "cloud-0" {
			t.Errorf("welcome says replica %q", got)
		}
		stats := edge.Stats()
		if stats.Link != "quic" || stats.RTT < rtt || stats.RTT > rtt+30*time.Millisecond || stats.BytesSent == 0 {
			t.Errorf("stats: %+v", stats)
		}
	})
}

func TestStreamCarriesBothWaysAndHalfCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		start := time.Now()
		a, err := cloud.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("Open took %v, want no round trip", got)
		}
		write(t, a, "question")
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		b := accept(t, edge)
		if b.Kind() != wire.KindExec {
			t.Errorf("kind %v, want exec", b.Kind())
		}
		if got := readAll(t, b); got != "question" {
			t.Errorf("edge read %q", got)
		}
		write(t, b, "answer")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, a); got != "answer" {
			t.Errorf("cloud read %q", got)
		}
		if got := time.Since(start); got != rtt {
			t.Errorf("question and answer took %v, want %v", got, rtt)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v, want net.ErrClosed", err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v, want net.ErrClosed", err)
		}
		tunneltest.Pass(2 * rtt)
		if got := cloud.Stats().Streams + edge.Stats().Streams; got != 0 {
			t.Errorf("%d streams are open after Close", got)
		}
	})
}

func TestStreamDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, _ := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		st, err := cloud.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		start := time.Now()
		if err := st.SetDeadline(start.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err = st.Read(make([]byte, 1))
		var nerr net.Error
		if !errors.As(err, &nerr) || !nerr.Timeout() {
			t.Errorf("read: %v, want a timeout", err)
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("read returned after %v, want 1s", got)
		}
	})
}

func TestStreamReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		for _, code := range []wire.Code{wire.CodeUnsupported, wire.CodeNotFound, 4711} {
			a, err := cloud.Open(t.Context(), wire.KindExec)
			if err != nil {
				t.Fatal(err)
			}
			b := accept(t, edge)
			start := time.Now()
			b.Reset(code)
			_, err = a.Read(make([]byte, 1))
			wantStreamError(t, err, code, true)
			if got := time.Since(start); got != rtt/2 {
				t.Errorf("reset seen after %v, want %v", got, rtt/2)
			}
			synctest.Wait() // what ends the other direction comes with it, in a frame of its own
			_, err = a.Write([]byte("x"))
			wantStreamError(t, err, code, true)
			a.Close()
		}
	})
}

func TestCloseCutsOffBlockedWriteAndRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		a, err := cloud.Open(t.Context(), wire.KindKubelet)
		if err != nil {
			t.Fatal(err)
		}
		b := accept(t, edge)
		wrote, read := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := a.Write(make([]byte, 16<<20)) // more than any window
			wrote <- err
		}()
		go func() {
			_, err := a.Read(make([]byte, 1))
			read <- err
		}()
		tunneltest.Pass(10 * time.Second)
		a.Close()
		synctest.Wait()
		for name, c := range map[string]chan error{"write": wrote, "read": read} {
			select {
			case err := <-c:
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: %v, want net.ErrClosed", name, err)
				}
			default:
				t.Errorf("%s is still blocked after Close", name)
			}
		}
		if _, err := io.Copy(io.Discard, b); err == nil {
			t.Error("the peer saw a whole stream, want a reset")
		}
		b.Close()
	})
}

func TestSlowReaderStopsOnlyItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		slow, err := edge.Open(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		go func() { slow.Write(make([]byte, 16<<20)) }()
		_ = accept(t, cloud) // nobody reads it
		tunneltest.Pass(time.Minute)
		quick, err := edge.Open(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		write(t, quick, "hello")
		quick.CloseWrite()
		if got := readAll(t, accept(t, cloud)); got != "hello" {
			t.Errorf("read %q", got)
		}
		if got := time.Since(start); got != rtt/2 {
			t.Errorf("took %v beside a stream that stands still, want %v", got, rtt/2)
		}
		if err := edge.Err(); err != nil {
			t.Errorf("session ended: %v", err)
		}
	})
}

func TestOpenPastTheBoundFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge := n.Pair("edge-1")
		go func() { // somebody must take them, or the accept queue refuses them first
			for {
				if _, err := edge.Accept(t.Context()); err != nil {
					return
				}
			}
		}()
		var streams []*tunnel.Stream
		for {
			st, err := cloud.Open(t.Context(), wire.KindExec)
			if errors.Is(err, tunnel.ErrTooManyStreams) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, st)
		}
		if len(streams) != 256 {
			t.Errorf("%d streams before ErrTooManyStreams, want 256", len(streams))
		}
		if got := n.Listener().Stats(); got.RefusedStreams != 1 || got.Memory < 256*64<<10 {
			t.Errorf("%+v", got)
		}
		if got := cloud.Stats().Streams; got != 256 {
			t.Errorf("stats say %d streams", got)
		}
	})
}

func TestStreamsThatNobodyTakesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		var streams []*tunnel.Stream
		for range 200 {
			st, err := cloud.Open(t.Context(), wire.KindExec)
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, st)
		}
		tunneltest.Pass(time.Second)
		refused := 0
		for _, st := range streams {
			st.SetReadDeadline(time.Now())
			_, err := st.Read(make([]byte, 1))
			if _, ok := errors.AsType[*tunnel.StreamError](err); ok {
				wantStreamError(t, err, wire.CodeTooMany, true)
				refused++
			}
		}
		if refused != 200-128 {
			t.Errorf("%d streams were refused, want %d", refused, 200-128)
		}
		for range 128 {
			accept(t, edge).Close()
		}
	})
}

func TestCloseEndsStreamsOnBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: rtt}).Pair("edge-1")
		a, err := cloud.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		b := accept(t, edge)
		start := time.Now()
		go cloud.Close(wire.CodeRevoked, "by the operator")
		_, err = b.Read(make([]byte, 1))
		wantSessionError(t, err, wire.CodeRevoked, true)
		if got := time.Since(start); got != rtt/2 {
			t.Errorf("seen after %v, want %v", got, rtt/2)
		}
		_, err = a.Read(make([]byte, 1))
		wantSessionError(t, err, wire.CodeRevoked, false)
		<-edge.Done()
		wantSessionError(t, edge.Err(), wire.CodeRevoked, true)
		if !errors.Is(edge.Err(), net.ErrClosed) {
			t.Error("the session's error is not net.ErrClosed")
		}
		_, err = edge.Open(t.Context(), wire.KindReport)
		wantSessionError(t, err, wire.CodeRevoked, true)
		_, err = edge.Accept(t.Context())
		wantSessionError(t, err, wire.CodeRevoked, true)
	})
}

func accept(t *testing.T, s *tunnel.Session) *tunnel.Stream {
	t.Helper()
	st, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantSessionError(t *testing.T, err error, code wire.Code, remote bool) {
	t.Helper()
	var got *tunnel.SessionError
	if !errors.As(err, &got) || got.Code != code || got.Remote != remote {
		t.Errorf("got %v, want a SessionError with code %d (%s), remote %t", err, code, code, remote)
	}
}

func wantStreamError(t *testing.T, err error, code wire.Code, remote bool) {
	t.Helper()
	var got *tunnel.StreamError
	if !errors.As(err, &got) || got.Code != code || got.Remote != remote {
		t.Errorf("got %v, want a StreamError with code %d (%s), remote %t", err, code, code, remote)
	}
}

// Without memory to grow, a stream has the room that all have, and gets on with it.
func TestStreamsGetOnWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Listen: func(c *tunnel.ListenConfig) { c.MaxMemory = 128 << 10 }})
		cloud, edge := n.Pair("edge-1")
		st, err := edge.Open(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		far := accept(t, cloud)
		go func() {
			far.Write(make([]byte, 200<<10))
			far.Close()
		}()
		st.SetReadDeadline(time.Now().Add(time.Minute))
		if got := readAll(t, st); len(got) != 200<<10 {
			t.Errorf("read %d bytes", len(got))
		}
		st.Close()
	})
}

// Streams beyond the memory are refused at once, on the side that opens them and on
// the other; closing some makes room.
func TestOpenPastTheMemoryFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt, Listen: func(c *tunnel.ListenConfig) { c.MaxTotalMemory = 10 * 64 << 10 }})
		cloud, edge := n.Pair("edge-1")
		var mine []*tunnel.Stream
		for {
			st, err := cloud.Open(t.Context(), wire.KindExec)
			if errors.Is(err, tunnel.ErrNoMemory) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			mine = append(mine, st)
		}
		if len(mine) < 5 || len(mine) > 10 {
			t.Errorf("%d streams before ErrNoMemory", len(mine))
		}
		st, err := edge.Open(t.Context(), wire.KindReport)
		if err != nil {
			t.Fatal(err)
		}
		_, err = st.Read(make([]byte, 1))
		wantStreamError(t, err, wire.CodeTooMany, true)
		if got := n.Listener().Stats(); got.RefusedMemory != 2 {
			t.Errorf("%+v", got)
		}
		for _, st := range mine {
			st.Reset(wire.CodeCanceled)
		}
		tunneltest.Pass(time.Second)
		if _, err := cloud.Open(t.Context(), wire.KindExec); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}
