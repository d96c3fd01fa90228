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
	rounds  atomic.Uint64

	mu    sync.Mutex // guards the following field
	addrs []net.Addr // the last that were found
}

// salute is a Hello, and the lane by which it was sent.
type salute struct {
	hello   wire.Hello
	control link.Lane
	err     error
}

// connection is an attempt's outcome.
type connection struct {
	*welcomed

	release func()
	err     error
	final   bool // err is the cloud's own word: it says no to this edge
}

// welcomed is a connection on which the cloud has answered Hello.
type welcomed struct {
	link.Conn
	carrier  *carrier
	greeting *greeting
}

// Close implements link.Conn. The session's context forgets the carrier, too.
func (w *welcomed) Close(code wire.Code, text string) {
	w.carrier.cancel()
	w.Conn.Close(code, text)
}

// carrier makes a connection and says Hello on it. QUIC and TLS over TCP race, the
// latter with a handicap, unless only QUIC will do.
//
// Every attempt says Hello as early as it can, and the first Welcome wins: the
// cloud takes one of them, and refuses the others with CodeNextCarrier.
func (d *dialer) carrier(ctx context.Context, hello wire.Hello, onlyQUIC bool) (*carrier, *greeting, error) {
	r := &round{hello: hello}
	r.hello.Carrier = d.rounds.Add(1) << attemptBits
	k, err := d.connect(ctx, r, onlyQUIC)
	if err != nil {
		return nil, nil, sessionError(err)
	}
	k.welcomed.carrier.release = k.release
	return k.welcomed.carrier, k.welcomed.greeting, nil
}

// attemptBits are the low bits of Hello's Carrier, which count the attempts of one
// round.
const attemptBits = 8

// round is one search for a carrier.
type round struct {
	hello    wire.Hello
	attempts atomic.Uint64
}

// attempt gives the Hello of another attempt. There are fewer than 1<<attemptBits:
// a round is over long before.
func (r *round) attempt() *salute {
	s := &salute{hello: r.hello}
	s.hello.Carrier |= min(r.attempts.Add(1), 1<<attemptBits-1)
	return s
}

// greeted says Hello, if it was not said yet, and waits for Welcome.
func (d *dialer) greeted(ctx context.Context, conn link.Conn, s *salute) (*welcomed, error) {
	c, g, err := d.greet(ctx, conn, s)
	if err != nil {
		code := wire.CodeNextCarrier
		if refused, ok := errors.AsType[*SessionError](err); ok && !refused.Remote {
			code = refused.Code
		}
		conn.Close(code, "no session")
		return nil, err
	}
	return &welcomed{conn, c, g}, nil
}

// connect gives the first connection with a Welcome. An answer that says no ends the race.
func (d *dialer) connect(ctx context.Context, r *round, onlyQUIC bool) (connection, error) {
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
					k.Close(wire.CodeNextCarrier, "another attempt was faster")
					k.release()
				}
			}
		})
	}
	run(func(ctx context.Context) connection { return d.quic(ctx, r) })
	left := 1
	if !onlyQUIC {
		run(func(ctx context.Context) connection { return d.tls(ctx, r) })
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

// refusal reports that the cloud itself has said no. later means that it only has
// said so to this attempt, because it has taken another.
func refusal(err error) (no, later bool) {
	e, ok := errors.AsType[*SessionError](sessionError(err))
	if !ok {
		return false, false
	}
	no = e.Remote || errors.Is(e, ErrUntrusted)
	return no, no && e.Code == wire.CodeNextCarrier
}

// quic dials all addresses, again and again.
func (d *dialer) quic(ctx context.Context, r *round) connection {
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
	conn, err := race(ctx, addrs, d.session.nudge, d.session.searching(), d.patience(), func(ctx context.Context, addr net.Addr) (*welcomed, error) {
		s := r.attempt()
		conn, said, err := t.Dial(ctx, addr, d.cfg.TLS, link.EdgeLimits(), func(c link.Conn) { d.say(ctx, c, s) })
		if err != nil {
			return nil, err
		}
		if !said || s.err != nil {
			s = r.attempt()
		}
		return d.greeted(ctx, conn, s)
	})
	if err != nil {
		release()
	}
	no, later := refusal(err)
	return connection{welcomed: conn, release: release, err: err, final: no && !later}
}

// patience is how long the other attempts may take once the cloud has said that it
// took one of them.
func (d *dialer) patience() time.Duration { return time.Second + 2*d.session.lastRTT() }

// tls dials TCP, again and again, once QUIC has had its chance.
func (d *dialer) tls(ctx context.Context, r *round) connection {
	select {
	case <-time.After(max(tcpDelay, d.session.lastRTT())):
	case <-ctx.Done():
		return connection{err: ctx.Err()}
	}
	conn, err := race(ctx, []net.Addr{nil}, nil, d.session.searching(), d.patience(), func(ctx context.Context, _ net.Addr) (*welcomed, error) {
		conn, err := link.DialTLS(ctx, d.cfg.DialTCP, d.cfg.Address, d.cfg.TLS, link.EdgeLimits().KeepAlive)
		if err != nil {
			return nil, err
		}
		return d.greeted(ctx, conn, r.attempt())
	})
	// What is at the TCP port may be something in between, or a cloud that has only
	// enrolment there: that says nothing about QUIC.
	no, later := refusal(err)
	if c, ok := errors.AsType[*link.ConnError](err); ok && !c.Application && (!c.Remote || !c.Untrusted) {
		no = false
	}
	return connection{welcomed: conn, release: func() {}, err: err, final: no && !later}
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
