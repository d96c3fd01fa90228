package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

func frame(name string) []byte { return wire.Append(nil, &wire.Data{Bytes: []byte(name)}) }

func names(r *reading) (out []string) {
	for {
		select {
		case f := <-r.frames:
			d, ok := f.(*wire.Data)
			if !ok {
				return append(out, "not data")
			}
			out = append(out, string(d.Bytes))
		default:
			return out
		}
	}
}

func TestTLSCarriesFramesBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, cloud, fromCloud := pair(t, newPipes(), 0)
		fromEdge := read(t, cloud)
		if edge.Kind() != KindTLS || len(edge.TLS().PeerCertificates) == 0 || len(cloud.TLS().PeerCertificates) != 1 {
			t.Errorf("kind %q, certificates %d and %d", edge.Kind(), len(edge.TLS().PeerCertificates), len(cloud.TLS().PeerCertificates))
		}
		if _, err := openLane(t, edge, 3).Write(append(frame("one"), frame("two")...)); err != nil {
			t.Fatal(err)
		}
		if _, err := openLane(t, cloud, 3).Write(frame("three")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, want := names(fromEdge), []string{"one", "two"}; !slices.Equal(got, want) {
			t.Errorf("from the edge %v, want %v", got, want)
		}
		if got, want := names(fromCloud), []string{"three"}; !slices.Equal(got, want) {
			t.Errorf("from the cloud %v, want %v", got, want)
		}
		// There is one lane to accept, and no other comes.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := edge.AcceptLane(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second lane: %v", err)
		}
	})
}

// While the first writer has the pipe the others line up behind the urgent one.
func TestTLSUrgentFrameOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, cloud, _ := pair(t, newPipes(), 0)
		write := func(name string, urgency int8) {
			lane := openLane(t, edge, urgency)
			go func() {
				if _, err := lane.Write(frame(name)); err != nil {
					t.Errorf("write %s: %v", name, err)
				}
			}()
			synctest.Wait()
		}
		for _, name := range []string{"bulk 1", "bulk 2", "bulk 3"} {
			write(name, 6)
		}
		write("middle", 3)
		write("urgent", 0)
		if err := edge.Ping(); err != nil { // goes before all
			t.Fatal(err)
		}
		synctest.Wait()
		fromEdge := read(t, cloud)
		synctest.Wait()
		if got, want := names(fromEdge), []string{"bulk 1", "urgent", "middle", "bulk 2", "bulk 3"}; !slices.Equal(got, want) {
			t.Errorf("arrived %v, want %v", got, want)
		}
	})
}

func TestTLSPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const way = 50 * time.Millisecond
		p := newPipes()
		p.delay = way
		edge, cloud, _ := pair(t, p, 0)
		read(t, cloud)
		for range 3 { // the tickets, and the longer way of the handshake
			synctest.Wait()
			before := edge.Stats().Received
			heard := cloud.Stats().Received
			if err := edge.Ping(); err != nil {
				t.Fatal(err)
			}
			<-time.After(2*way - time.Millisecond)
			synctest.Wait()
			if got := edge.Stats().Received; got != before {
				t.Fatalf("an answer after less than a round trip")
			}
			<-time.After(time.Millisecond)
			synctest.Wait()
			if got := edge.Stats().Received; got != before+1 {
				t.Errorf("the edge heard %d more times, want 1", got-before)
			}
			if got := cloud.Stats().Received; got != heard+1 {
				t.Errorf("the cloud heard %d more times, want 1", got-heard)
			}
		}
		if got := edge.Stats().RTT; got != 2*way {
			t.Errorf("round trip %v, want %v", got, 2*way)
		}
	})
}

// Pings that were not sent yet are one.
func TestTLSPingsCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, cloud, _ := pair(t, newPipes(), 0)
		sent := edge.Stats().BytesSent
		for range 100 { // nobody reads: the first is stuck, the next waits
			if err := edge.Ping(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		read(t, cloud)
		synctest.Wait()
		if got := edge.Stats().BytesSent - sent; got != 2*25 {
			t.Errorf("sent %d bytes, want two pings of 25", got)
		}
	})
}

// An idle edge: a ping each 20 s, 25 bytes each way. With TCP's and IP's headers,
// 52 bytes of ping, pong and acknowledgement each, that is 890 kB a day.
func TestTLSKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, cloud, _ := pair(t, newPipes(), keepAlive)
		read(t, cloud)
		synctest.Wait()
		a, b := edge.Stats(), cloud.Stats()
		<-time.After(10*time.Minute + time.Second)
		synctest.Wait()
		da, db := edge.Stats(), cloud.Stats()
		if got, want := db.Received-b.Received, uint64(30); got != want {
			t.Errorf("%d pings in ten minutes, want %d", got, want)
		}
		if got := da.BytesSent - a.BytesSent; got != 30*25 {
			t.Errorf("the edge sent %d bytes, want 30 times 25", got)
		}
		if got := db.BytesSent - b.BytesSent; got != 30*25 {
			t.Errorf("the cloud sent %d bytes, want 30 times 25", got)
		}
		// Traffic both ways makes pings needless.
		up, down := openLane(t, edge, 0), openLane(t, cloud, 0)
		start := cloud.Stats().Received
		for range 20 {
			<-time.After(keepAlive / 2)
			if err := errors.Join(second(up.Write(frame("x"))), second(down.Write(frame("y")))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := cloud.Stats().Received - start; got > 21 {
			t.Errorf("the cloud heard %d times in 20 writes", got)
		}
	})
}

func second(_ int, err error) error { return err }

func TestTLSClose(t *testing.T) {
	for _, cloudCloses := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			edge, cloud, fromCloud := pair(t, newPipes(), keepAlive)
			fromEdge := read(t, cloud)
			lane := openLane(t, edge, 0)
			start := time.Now()
			if cloudCloses {
				cloud.Close(wire.CodeReplaced, strings.Repeat("ä", maxText))
			} else {
				edge.Close(wire.CodeReplaced, strings.Repeat("ä", maxText))
			}
			<-edge.Done()
			<-cloud.Done()
			e := ended(t, <-fromCloud.end, wire.CodeReplaced, cloudCloses)
			ended(t, <-fromEdge.end, wire.CodeReplaced, !cloudCloses)
			ended(t, edge.Err(), wire.CodeReplaced, cloudCloses)
			if !e.Application {
				t.Error("not marked as a Close")
			}
			if cloudCloses && e.Text != strings.Repeat("ä", maxText/2) {
				t.Errorf("text of %d bytes", len(e.Text))
			}
			if got := time.Since(start); got != 0 {
				t.Errorf("took %v", got)
			}
			if _, err := lane.Write(frame("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("write after the end: %v", err)
			}
			if _, err := edge.OpenLane(t.Context(), 0); !errors.Is(err, net.ErrClosed) {
				t.Errorf("lane after the end: %v", err)
			}
			if _, err := edge.AcceptLane(t.Context()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accepted lane after the end: %v", err)
			}
			if err := edge.Ping(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("ping after the end: %v", err)
			}
			edge.Close(wire.CodeInternal, "too late")
			ended(t, edge.Err(), wire.CodeReplaced, cloudCloses)
			if s := edge.Stats(); s.BytesSent == 0 || s != edge.Stats() {
				t.Errorf("stats after the end: %+v", s)
			}
		})
	}
}

// Nobody reads the peer: Close returns, and so do those who wait for the pipe.
func TestTLSCloseOfStuckConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, _, fromCloud := pair(t, newPipes(), 0)
		errs := make(chan error, 3)
		for range 3 {
			lane := openLane(t, edge, 6)
			go func() { errs <- second(lane.Write(frame("bulk"))) }()
		}
		synctest.Wait()
		start := time.Now()
		edge.Close(wire.CodeCanceled, "enough")
		if got := time.Since(start); got != partingWait {
			t.Errorf("Close took %v, want %v", got, partingWait)
		}
		synctest.Wait()
		if len(errs) != 2 {
			t.Errorf("%d writers have returned, want those 2 that did not have the pipe", len(errs))
		}
		ended(t, <-fromCloud.end, wire.CodeCanceled, false)
		for range 3 {
			ended(t, <-errs, wire.CodeCanceled, false)
		}
		if got := time.Since(start); got != partingWrite {
			t.Errorf("the last writer took %v, want %v", got, partingWrite)
		}
	})
}

func TestTLSLaneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, cloud, _ := pair(t, newPipes(), 0)
		first, lane := openLane(t, edge, 0), openLane(t, edge, 0)
		errs := make(chan error, 2)
		go func() { errs <- second(first.Write(frame("first"))) }()
		synctest.Wait()
		go func() { errs <- second(lane.Write(frame("second"))) }()
		synctest.Wait()
		lane.Cancel(wire.CodeCanceled)
		if err := <-errs; !errors.Is(err, ErrCanceled) {
			t.Errorf("write in a canceled lane: %v", err)
		}
		if _, err := lane.Write(frame("x")); !errors.Is(err, ErrCanceled) {
			t.Errorf("write after Cancel: %v", err)
		}
		first.Cancel(wire.CodeCanceled) // has the pipe, so its frame must go out whole
		fromEdge := read(t, cloud)
		if err := <-errs; err != nil {
			t.Errorf("write that had begun: %v", err)
		}
		closed := openLane(t, edge, 0)
		if err := closed.Close(); err != nil {
			t.Error(err)
		}
		if _, err := closed.Write(frame("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
		synctest.Wait()
		if got := names(fromEdge); !slices.Equal(got, []string{"first"}) {
			t.Errorf("arrived %v", got)
		}
	})
}

func TestTLSBrokenPeers(t *testing.T) {
	tests := []struct {
		name string
		send []byte
		shut bool
		want wire.Code
	}{
		{"leaves without a word", nil, true, wire.CodeOffline},
		{"leaves inside a frame", frame("cut")[:4], true, wire.CodeOffline},
		{"frame too long", wire.Header{Type: 1, Length: maxFrame + 1}.Append(nil), false, wire.CodeProtocol},
		{"goodbye without fields", []byte{26, 0}, false, wire.CodeProtocol},
		{"goodbye", wire.Append(nil, &wire.Goodbye{Code: 4711}), false, 4711},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			edge, cloud, fromCloud := pair(t, newPipes(), 0)
			fromEdge := read(t, cloud)
			c, ok := cloud.(*tlsConn)
			if !ok {
				t.Fatalf("%T", cloud)
			}
			if len(tt.send) > 0 {
				if _, err := c.tls.Write(tt.send); err != nil {
					t.Fatal(err)
				}
			}
			if tt.shut {
				if err := c.raw.Close(); err != nil {
					t.Fatal(err)
				}
			}
			ended(t, <-fromCloud.end, tt.want, tt.want == 4711)
			<-edge.Done()
			if tt.want == wire.CodeProtocol {
				ended(t, <-fromEdge.end, tt.want, true) // it is told
			} else if err := <-fromEdge.end; errors.Is(err, io.EOF) {
				t.Errorf("%s: %v", tt.name, err)
			}
		})
	}
}

// What can't be written to may still say why: its reader comes first.
func TestTLSWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edge, cloud, _ := pair(t, newPipes(), 0)
		c, ok := cloud.(*tlsConn)
		if !ok {
			t.Fatalf("%T", cloud)
		}
		if err := c.raw.SetWriteDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err := openLane(t, cloud, 0).Write(frame("x"))
		ended(t, err, wire.CodeOffline, false)
		if got := time.Since(start); got != lastWords {
			t.Errorf("nobody reads: took %v, want %v", got, lastWords)
		}
		<-edge.Done()
	})
	synctest.Test(t, func(t *testing.T) {
		edge, cloud, _ := pair(t, newPipes(), 0)
		c, ok := cloud.(*tlsConn)
		if !ok {
			t.Fatalf("%T", cloud)
		}
		fromEdge := read(t, cloud)
		if err := c.raw.SetWriteDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(lastWords/2, func() { edge.Close(wire.CodeRevoked, "") })
		_, err := openLane(t, cloud, 0).Write(frame("x"))
		ended(t, err, wire.CodeRevoked, true)
		ended(t, <-fromEdge.end, wire.CodeRevoked, true)
	})
}

func TestClip(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("x", maxText+1), "x" + strings.Repeat("ä", maxText), "bad \xff text"} {
		got := clip(s)
		if len(got) > maxText || !bytes.HasPrefix([]byte(strings.ToValidUTF8(s, "")), []byte(got)) {
			t.Errorf("%d bytes became %d", len(s), len(got))
		}
	}
}
