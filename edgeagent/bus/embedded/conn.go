package embedded

import (
	"crypto/tls"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	// connectTimeout is how long a client may take to say who it is.
	connectTimeout = 5 * time.Second
	// writeTimeout is how long a client may not read before it is cut off.
	writeTimeout = 10 * time.Second
	// closingTimeout is that when the broker ends.
	closingTimeout = 200 * time.Millisecond
	// acceptPause is how long nothing is accepted after an error, as of too many files.
	acceptPause = 100 * time.Millisecond
	// packetRate and packetBurst bound the packets of a client a second.
	packetRate, packetBurst = 1000, 1000
)

// conn is the connection of a client, and what is known of it. A write that takes too long
// ends it: half a packet may be on its way.
type conn struct {
	net.Conn
	closing *atomic.Bool

	// account is set before another goroutine sees the client.
	account *account
	// The following fields are of the goroutine that reads.
	packets float64 // that may come now
	at      time.Time
	wanted  []string // filters of a subscription whose retained messages are due
	granted []string // of these, what was granted
}

// SetDeadline is what mochi-mqtt calls after each packet: it bounds how long none comes.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) Write(b []byte) (int, error) {
	limit := writeTimeout
	if c.closing.Load() {
		limit = closingTimeout
	}
	if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		_ = c.Close() // the error says it
	}
	return n, err
}

// pace is how long a client has to wait before its next packet is taken.
func (c *conn) pace(now time.Time) time.Duration {
	if c.at.IsZero() {
		c.packets = packetBurst
	} else {
		c.packets = min(packetBurst, c.packets+now.Sub(c.at).Seconds()*packetRate)
	}
	c.at = now
	c.packets--
	if c.packets >= 0 {
		return 0
	}
	return time.Duration(-c.packets / packetRate * float64(time.Second))
}

// listener gives connections to mochi-mqtt: a bounded number of them, each with a
// deadline from the start. What a packet makes panic ends its connection.
type listener struct {
	net.Listener
	tls     *tls.Config // nil: none
	most    int
	log     *slog.Logger
	closing atomic.Bool
	refused atomic.Uint64
	all     sync.WaitGroup

	mu    sync.Mutex // guards the following field
	conns map[*conn]struct{}
}

// Init implements listeners.Listener.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID implements listeners.Listener.
func (l *listener) ID() string { return "bus" }

// Address implements listeners.Listener.
func (l *listener) Address() string { return l.Addr().String() }

// Protocol implements listeners.Listener.
func (l *listener) Protocol() string { return "tcp" }

// Serve implements listeners.Listener.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		raw, err := l.Accept()
		switch {
		case l.closing.Load():
			if err == nil {
				_ = raw.Close() // nobody has seen it
			}
			return
		case err != nil:
			l.log.Warn("local bus can't take connections", "error", err)
			pause := time.NewTimer(acceptPause)
			<-pause.C
			continue
		}
		c := l.add(raw)
		if c == nil {
			l.refused.Add(1)
			_ = raw.Close() // there are too many
			continue
		}
		go func() {
			defer l.remove(c)
			defer func() {
				if r := recover(); r != nil {
					l.log.Error("a client of the local bus made the broker panic", "remote", raw.RemoteAddr(), "panic", r, "stack", string(debug.Stack()))
				}
			}()
			if err := establish(l.ID(), c); err != nil {
				l.log.Debug("client of the local bus has gone", "remote", raw.RemoteAddr(), "error", err)
			}
		}()
	}
}

// add gives nil when there are too many.
func (l *listener) add(raw net.Conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= l.most || l.closing.Load() {
		return nil
	}
	if err := raw.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
		return nil
	}
	if l.tls != nil {
		raw = tls.Server(raw, l.tls)
	}
	c := &conn{Conn: raw, closing: &l.closing}
	l.conns[c] = struct{}{}
	l.all.Add(1)
	return c
}

func (l *listener) remove(c *conn) {
	_ = c.Close() // perhaps again
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.all.Done()
}

// Close implements listeners.Listener: it returns when no client is left.
func (l *listener) Close(tell listeners.CloseFn) {
	l.mu.Lock()
	l.closing.Store(true)
	for c := range l.conns {
		_ = c.SetWriteDeadline(time.Now().Add(closingTimeout)) // one that is under way
	}
	l.mu.Unlock()
	_ = l.Listener.Close() // it can't be used any more
	tell(l.ID())
	l.mu.Lock()
	for c := range l.conns {
		_ = c.Close() // as above
	}
	l.mu.Unlock()
	l.all.Wait()
}
