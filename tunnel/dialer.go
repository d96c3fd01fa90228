package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// resolveTimeout bounds a look at DNS for addresses that are known already.
	resolveTimeout = time.Second
	// tcpDelay is how much later than QUIC, at least, TCP is tried: it is for networks
	// that block UDP.
	tcpDelay = 300 * time.Millisecond
)

// dialer makes the carriers of one session.
type dialer struct {
	cfg     DialConfig
	session *Session
	seq     atomic.Uint64

	mu    sync.Mutex // guards the following field
	addrs []net.Addr // the last that were found
}

// connection is an attempt's outcome.
type connection struct {
	conn    link.Conn
	release func()
	err     error
	final   bool // err is the cloud's own word: it says no to this edge
}

// carrier makes a connection and says Hello on it. QUIC and TLS over TCP race, the
// latter with a handicap, unless only QUIC will do.
func (d *dialer) carrier(ctx context.Context, hello wire.Hello, onlyQUIC bool) (*carrier, *greeting, error) {
	k, err := d.connect(ctx, onlyQUIC)
	if err != nil {
		return nil, nil, sessionError(err)
	}
	hello.Carrier = d.seq.Add(1)
	c, g, err := d.greet(ctx, k.conn, &hello)
	if err != nil {
		code := abandoned(&hello)
		if refused, ok := errors.AsType[*SessionError](err); ok && !refused.Remote {
			code = refused.Code
		}
		k.conn.Close(code, "no session")
		k.release()
		return nil, nil, err
	}
	c.release = k.release
	return c, g, nil
}

// connect gives the first connection. An answer that says no ends the race.
func (d *dialer) connect(ctx context.Context, onlyQUIC bool) (connection, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan connection)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	run := func(dial func(context.Context) connection) {
		wg.Go(func() {
			k := dial(ctx)
			select {
			case results <- k:
			case <-ctx.Done():
				if k.err == nil {
					k.conn.Close(wire.CodeCanceled, "another attempt was faster")
					k.release()
				}
			}
		})
	}
	run(d.quic)
	left := 1
	if !onlyQUIC {
		run(d.tls)
		left++
	}
	var failed error
	for ; left > 0; left-- {
		select {
		case k := <-results:
			if k.err == nil || k.final {
				return k, k.err
			}
			failed = errors.Join(failed, k.err)
		case <-ctx.Done():
			return connection{}, fmt.Errorf("no answer: %w", ctx.Err())
		}
	}
	return connection{}, failed
}

// refusal reports that the cloud itself has said no.
func refusal(err error) bool {
	no, ok := errors.AsType[*link.ConnError](err)
	return ok && (no.Remote || no.Untrusted)
}

// quic dials all addresses, again and again.
func (d *dialer) quic(ctx context.Context) connection {
	addrs, err := d.resolve(ctx)
	if err != nil {
		return connection{err: err}
	}
	pc, err := d.cfg.PacketConn()
	if err != nil {
		return connection{err: fmt.Errorf("open socket: %w", err)}
	}
	t, err := link.NewTransport(link.TransportConfig{PacketConn: pc})
	if err != nil {
		return connection{err: errors.Join(err, pc.Close())}
	}
	release := func() {
		if err := t.Close(); err != nil {
			d.cfg.Log.Debug("close the carrier's socket", "err", err)
		}
	}
	conn, err := race(ctx, addrs, d.session.nudge, func(ctx context.Context, addr net.Addr) (link.Conn, error) {
		return t.Dial(ctx, addr, d.cfg.TLS, link.EdgeLimits())
	})
	if err != nil {
		release()
	}
	return connection{conn: conn, release: release, err: err, final: refusal(err)}
}

// tls dials TCP, again and again, once QUIC has had its chance.
func (d *dialer) tls(ctx context.Context) connection {
	select {
	case <-time.After(max(tcpDelay, d.session.lastRTT())):
	case <-ctx.Done():
		return connection{err: ctx.Err()}
	}
	conn, err := race(ctx, []net.Addr{nil}, nil, func(ctx context.Context, _ net.Addr) (link.Conn, error) {
		return link.DialTLS(ctx, d.cfg.DialTCP, d.cfg.Address, d.cfg.TLS, link.EdgeLimits().KeepAlive)
	})
	// What is at the TCP port may be something in between, or a cloud that has only
	// enrolment there: that says nothing about QUIC.
	no, ok := errors.AsType[*link.ConnError](err)
	return connection{conn: conn, release: func() {}, err: err, final: ok && no.Remote && (no.Untrusted || no.Application)}
}

// resolve finds the proxy's addresses. Those known from before do, when a name
// can't be resolved without the network that is being looked for.
func (d *dialer) resolve(ctx context.Context) ([]net.Addr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.addrs) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, resolveTimeout)
		defer cancel()
	}
	addrs, err := resolve(ctx, d.cfg.Address)
	if err == nil {
		d.addrs = addrs
	}
	if len(d.addrs) == 0 {
		return nil, err
	}
	return d.addrs, nil
}
