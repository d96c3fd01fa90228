package chaos_test

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// A model that finds no fault must be one that would. These tests run it over a
// tunnel that keeps its word, and over ones that do not.

// both plays a stream between two sides; wrap may spoil what the opener has.
func both(t *testing.T, s spec, wrap func(conn) conn) (opener, acceptor report) {
	t.Helper()
	cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: 60 * time.Millisecond}).Pair("edge-1")
	st, err := edge.Open(t.Context(), s.Kind)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		o := side{spec: s, conn: wrap(st), opener: true}
		opener = o.run()
	})
	wg.Go(func() {
		in, err := cloud.Accept(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		acceptor = accept(in, nil)
	})
	wg.Wait()
	return opener, acceptor
}

func accept(c conn, hurry <-chan struct{}) report {
	s, err := readSpec(c)
	if err != nil {
		return report{Wrong: err.Error()}
	}
	a := side{spec: s, conn: c, hurry: hurry}
	return a.run()
}

func TestModelAgrees(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, shape := range shapes() {
		for range 10 {
			s := draw(r, shape)
			s.ID = r.Uint64()
			t.Run(shape, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a, b := both(t, s, func(c conn) conn { return c })
					if a.Wrong != "" || b.Wrong != "" || a.Lost != "" || b.Lost != "" {
						t.Errorf("%+v:\n%+v\n%+v", s, a, b)
					}
					if s.End == endFin && (a.Sent != b.Received || a.Received != b.Sent || a.Sent != s.Up.Bytes) {
						t.Errorf("%+v:\n%+v\n%+v", s, a, b)
					}
				})
			})
		}
	}
}

// liar is a stream that spoils a read or an end.
type liar struct {
	conn
	spoil func(c conn, p []byte) (int, error)
	code  wire.Code // instead of the one given to Reset
	mute  bool      // CloseWrite does nothing
}

func (l *liar) Read(p []byte) (int, error) {
	if l.spoil == nil {
		return l.conn.Read(p)
	}
	return l.spoil(l.conn, p)
}

func (l *liar) Reset(code wire.Code) {
	if l.code != 0 && code != wire.CodeInternal {
		code = l.code
	}
	l.conn.Reset(code)
}

func (l *liar) CloseWrite() error {
	if l.mute {
		return l.conn.Close()
	}
	return l.conn.CloseWrite()
}

func TestModelFindsLies(t *testing.T) {
	bulk := spec{
		ID: 4711, Shape: shapeBulk, Kind: wire.KindKubelet, End: endFin,
		Up: flow{Bytes: 100_000, Piece: 1000}, Down: flow{Bytes: 100_000, Piece: 1000},
	}
	reset := spec{
		ID: 4711, Shape: shapeBroken, Kind: wire.KindKubelet, End: endReset, EndByOpener: true, EndAfter: 1, Code: wire.CodeNotFound,
		Up: flow{Bytes: 10, Piece: 10}, Down: flow{Bytes: endless, Piece: 1000, Pause: time.Millisecond},
	}
	reads := 0
	after := func(n int, lie func(c conn, p []byte) (int, error)) func(conn, []byte) (int, error) {
		return func(c conn, p []byte) (int, error) {
			if reads++; reads == n {
				return lie(c, p)
			}
			return c.Read(p)
		}
	}
	for _, tt := range []struct {
		name string
		spec spec
		liar liar
		want string
	}{
		{"a flipped bit", bulk, liar{spoil: after(3, func(c conn, p []byte) (int, error) {
			n, err := c.Read(p)
			p[n-1] ^= 1
			return n, err
		})}, "from byte"},
		{"a lost byte", bulk, liar{spoil: after(3, func(c conn, p []byte) (int, error) {
			if _, err := c.Read(p[:1]); err != nil {
				return 0, err
			}
			return c.Read(p)
		})}, "from byte"},
		{"a doubled piece", bulk, liar{spoil: after(1, func(c conn, p []byte) (int, error) {
			n, err := c.Read(p[:100])
			copy(p[n:], p[:n])
			return 2 * n, err
		})}, "from byte"},
		{"an early end", bulk, liar{spoil: after(5, func(conn, []byte) (int, error) {
			return 0, net.ErrClosed
		})}, "closed"},
		{"another code", reset, liar{code: wire.CodeNotRunning}, "want a reset with code 4"},
		{"a half-close that closes all", bulk, liar{mute: true}, "closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads = 0
				a, b := both(t, tt.spec, func(c conn) conn {
					tt.liar.conn = c
					return &tt.liar
				})
				if a.Wrong == "" && b.Wrong == "" || !strings.Contains(a.Wrong+b.Wrong, tt.want) {
					t.Errorf("want %q, got %q and %q", tt.want, a.Wrong, b.Wrong)
				}
			})
		})
	}
}

func TestModelExcusesTheSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud, edge := tunneltest.New(t, tunneltest.Options{RTT: 60 * time.Millisecond}).Pair("edge-1")
		st, err := edge.Open(t.Context(), wire.KindExec)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { cloud.Close(wire.CodeGoingAway, "test") })
		s := side{spec: draw(rand.New(rand.NewPCG(1, 1)), shapeTerminal), conn: st, opener: true}
		if r := s.run(); r.Lost == "" || r.Wrong != "" {
			t.Errorf("got %+v, want a stream that was lost", r)
		}
	})
}

var _ conn = (*tunnel.Stream)(nil)
