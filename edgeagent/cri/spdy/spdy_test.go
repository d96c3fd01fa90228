package spdy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/spdystream/spdy"
)

// serve is a server whose upgraded connection f gets.
func serve(t *testing.T, protocol string, f func(conn net.Conn)) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Upgrade") != "SPDY/3.1" || r.URL.RawQuery != "token=1" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: " + protocol + "\r\n\r\n")
		_ = rw.Flush()
		f(conn)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/exec?token=1"
}

func connect(t *testing.T, f func(conn net.Conn)) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), &net.Dialer{}, serve(t, "v4", f), "v4")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// opening is how many bytes open two streams that are only read.
func opening(t *testing.T) int64 {
	t.Helper()
	here, there := net.Pipe()
	var sent bytes.Buffer
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(&sent, there) }()
	if _, err := (&Conn{conn: here}).Open(Kind{Type: "error", ReadOnly: true}, Kind{Type: "stdout", ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	_ = here.Close()
	<-done
	return int64(sent.Len())
}

// TestFrames: what is sent is what another implementation reads, its compressed
// headers too.
func TestFrames(t *testing.T) {
	var got []string
	read := make(chan struct{})
	c := connect(t, func(conn net.Conn) {
		defer close(read)
		framer, err := spdy.NewFramer(io.Discard, conn)
		if err != nil {
			t.Error(err)
			return
		}
		for range 6 {
			frame, err := framer.ReadFrame()
			if err != nil {
				t.Errorf("after %v: %v", got, err)
				return
			}
			switch f := frame.(type) {
			case *spdy.SynStreamFrame:
				got = append(got, "open "+f.Headers.Get("streamType"))
			case *spdy.DataFrame:
				text := "data " + string(f.Data)
				if f.Flags&spdy.DataFlagFin != 0 {
					text += " end"
				}
				got = append(got, text)
			}
		}
	})
	open, err := c.Open(Kind{Type: "error", ReadOnly: true}, Kind{Type: "stdout"}, Kind{Type: "stdin"})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := open[2].Write([]byte("hello")); n != 5 || err != nil {
		t.Error(n, err)
	}
	if err := open[2].CloseWrite(); err != nil {
		t.Error(err)
	}
	<-read
	want := []string{"open error", "data  end", "open stdout", "open stdin", "data hello", "data  end"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func data(stream uint32, flags byte, s string) []byte {
	return append(appendData(nil, stream, flags, len(s)), s...)
}

func control(kind uint16, payload ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x80, version}, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

func reset(stream uint32) []byte {
	return control(rstStream, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, stream), 5)...)
}

// broken fails after the first write.
type broken struct{ n int }

func (b *broken) Write(p []byte) (int, error) {
	if b.n++; b.n > 1 {
		return 0, errors.New("the line is broken")
	}
	return len(p), nil
}

func TestReceive(t *testing.T) {
	reply := control(2, 0, 0, 0, 1, 9, 9, 9)
	for _, tt := range []struct {
		name          string
		from          [][]byte
		status, out   string
		err           string
		failingOutput bool
	}{
		{"all end", [][]byte{reply, data(3, 0, "a"), data(1, 0, "ok"), data(1, flagFin, ""), data(3, flagFin, "b"), data(3, 0, "late")}, "ok", "ab", "", false},
		{"reset is an end", [][]byte{data(3, 0, "a"), data(1, flagFin, "ok"), reset(3)}, "ok", "a", "", false},
		{"the connection ends", [][]byte{data(1, 0, "ok"), data(3, 0, "a")}, "ok", "a", "", false},
		{"unknown frames and streams", [][]byte{control(6, 0, 0, 0, 1), control(4), data(5, flagFin, "x"), data(2, 0, "y"), data(1<<31-1, 0, "z"), reset(99), data(1, 0, "ok")}, "ok", "", "", false},
		{"cut in a frame", [][]byte{data(1, 0, "ok"), data(3, 0, "abc")[:10]}, "ok", "ab", "unexpected EOF", false},
		{"cut in a head", [][]byte{data(1, 0, "ok"), {0, 0, 0}}, "ok", "", "unexpected EOF", false},
		{"a writer fails", [][]byte{data(3, 0, "a"), data(3, 0, "b"), data(3, 0, "c"), data(1, flagFin, "ok"), data(3, flagFin, "")}, "ok", "", "the line is broken", true},
		{"long", [][]byte{data(3, 0, strings.Repeat("0123456789", 20<<10)), data(1, 0, "ok")}, "ok", strings.Repeat("0123456789", 20<<10), "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, func(conn net.Conn) {
				// The kernel resets a connection that is closed with something to read.
				if _, err := io.CopyN(io.Discard, conn, opening(t)); err != nil {
					t.Error(err)
				}
				_, _ = conn.Write(slices.Concat(tt.from...))
			})
			var status, out bytes.Buffer
			to := io.Writer(&out)
			if tt.failingOutput {
				to = &broken{}
			}
			open, err := c.Open(Kind{Type: "error", To: &status, ReadOnly: true}, Kind{Type: "stdout", To: to, ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			err = c.Receive(open...)
			if status.String() != tt.status || out.String() != tt.out {
				t.Errorf("status %q, %d bytes of output, want %q, %d", status.String(), out.Len(), tt.status, len(tt.out))
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestDialRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the token is not known", http.StatusNotFound)
	}))
	defer srv.Close()
	for _, tt := range []struct{ name, url, want string }{
		{"status", srv.URL, "404 Not Found: the token is not known"},
		{"protocol", serve(t, "v1", func(net.Conn) {}), `chose protocol "v1", want v4`},
		{"nobody", "http://127.0.0.1:1/", "connection refused"},
		{"url", "http://%zz", "streaming url"},
	} {
		if _, err := Dial(t.Context(), &net.Dialer{}, tt.url, "v4"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestContextEndsReceive, which else waits for as long as a command takes.
func TestContextEndsReceive(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	url := serve(t, "v4", func(net.Conn) { <-block })
	ctx, cancel := context.WithCancel(t.Context())
	c, err := Dial(ctx, &net.Dialer{}, url, "v4")
	if err != nil {
		t.Fatal(err)
	}
	open, err := c.Open(Kind{Type: "error", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := c.Receive(open...); err == nil {
		t.Error("no error though the connection was ended")
	}
	if err := c.Close(); err == nil {
		t.Error("the connection was open still")
	}
}

// FuzzReceive: whatever the server sends, Receive returns, and passes on no more
// than came.
func FuzzReceive(f *testing.F) {
	f.Add(slices.Concat(data(1, 0, "ok"), reset(3), control(7, 1, 2), data(3, flagFin, "x")))
	f.Add(control(rstStream, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		c := &Conn{r: bufio.NewReader(bytes.NewReader(b))}
		for id := uint32(1); id < 6; id += 2 {
			c.streams = append(c.streams, &Stream{c: c, id: id, to: &out})
		}
		_ = c.Receive(c.streams...)
		if out.Len() > len(b) {
			t.Errorf("%d bytes of %d", out.Len(), len(b))
		}
	})
}
