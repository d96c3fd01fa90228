package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry-io/skerry/tunnel/link"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// tcpDelay is how much later than QUIC, at least, TCP is tried: it is for networks
	// that block UDP.
	tcpDelay = 300 * time.Millisecond
	// detourDelay is the same for other devices than the one that the routing table
	// chooses, while the round-trip time is not known.
	detourDelay = time.Second
	// attemptLife is how long a handshake may take beside some round trips, once it is
	// known how long they are.
	attemptLife = 2 * time.Second
)

// dialer makes the carriers of one session.
type dialer struct {
	cfg     DialConfig
	session *Session
	limits  link.Limits
	rounds  atomic.Uint64
	first   atomic.Uint64 // which way begins; the routing table's own is 0

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

	rank    rank
	way     string
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
	if w.carrier != nil { // else it is a probe
		w.carrier.cancel()
	}
	w.Conn.Close(code, text)
}

// carrier makes a connection of a rank below limit and says Hello on it. QUIC and
// TLS over TCP race, the latter with a handicap, and the ways out of the machine.
//
// Every attempt says Hello as early as it can, and the first Welcome wins: the
// cloud takes one of them, and refuses the others with CodeNextCarrier. On a way by
// which packets leave and none come back the cloud takes one that can't win. So the
// ways take turns in being first.
func (d *dialer) carrier(ctx context.Context, hello wire.Hello, limit rank) (*carrier, *greeting, error) {
	r := &round{hello: hello, limit: limit}
	r.number.Store(d.rounds.Add(1))
	k, err := d.connect(ctx, r)
	if err != nil {
		if _, later := refusal(err); later {
			d.first.Add(1)
		}
		return nil, nil, sessionError(err)
	}
	d.first.Store(0)
	c := k.carrier
	c.release, c.rank, c.way = k.release, k.rank, k.way
	return c, k.greeting, nil
}

// probe finds out whether a connection of a rank below limit could be had.
func (d *dialer) probe(ctx context.Context, limit rank) error {
	k, err := d.connect(ctx, &round{limit: limit, mute: true})
	if err != nil {
		return err
	}
	k.Close(wire.CodeCanceled, "only a probe")
	k.release()
	return nil
}

// attemptBits are the low bits of Hello's Carrier, which count the attempts of one
// round.
const attemptBits = 8

// roundOf gives the round of Hello's Carrier.
func roundOf(carrier uint64) uint64 { return carrier >> attemptBits }

// round is one search for a carrier.
type round struct {
	hello    wire.Hello
	limit    rank // only better ones will do
	mute     bool // don't say Hello
	number   atomic.Uint64
	attempts atomic.Uint64
}

// attempt gives the Hello of another attempt. There are fewer than 1<<attemptBits:
// a round is over long before.
func (r *round) attempt() *salute {
	s := &salute{hello: r.hello}
	s.hello.Carrier = r.number.Load()<<attemptBits | min(r.attempts.Add(1), 1<<attemptBits-1)
	return s
}

// greeted says Hello, if it was not said yet, and waits for Welcome.
func (d *dialer) greeted(ctx context.Context, conn link.Conn, r *round, s *salute) (*welcomed, error) {
	if r.mute {
		return &welcomed{Conn: conn}, nil
	}
	if s == nil {
		s = r.attempt()
	}
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
func (d *dialer) connect(ctx context.Context, r *round) (connection, error) {
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
	if r.limit > tlsByTable {
		run(func(ctx context.Context) connection { return d.tls(ctx, r) })
		left++
	}
	var failed error
	for ; left > 0; left-- {
		select {
		case k := <-results:
			// When the cloud took another attempt and nothing came of it, this round is over.
			if _, later := k.refusal(); k.err == nil || k.final || later {
				return k, k.err
			}
			failed = errors.Join(failed, k.err)
		case <-ctx.Done():
			if c, ok := errors.AsType[*link.ConnError](failed); ok && c.Untrusted {
				return connection{}, fmt.Errorf("no answer: %w: %w: %s", ctx.Err(), ErrStranger, c.Text)
			}
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

// refusal is the same of an attempt. By TCP, and on devices that the routing table
// would not take, something in between may answer, or a cloud that has only
// enrolment there: that says nothing about the others.
func (k *connection) refusal() (no, later bool) {
	no, later = refusal(k.err)
	if c, ok := errors.AsType[*link.ConnError](k.err); ok && k.rank != quicByTable && !c.Application {
		no = no && !k.rank.detour() && c.Remote && c.Untrusted
	}
	return no, later
}

// quic dials all addresses, again and again, by all ways that will do. Each way has a
// socket of its own.
func (d *dialer) quic(ctx context.Context, r *round) connection {
	wait, err := d.locate(ctx)
	defer wait()
	if err != nil {
		return connection{err: err}
	}
	s := sockets{log: d.cfg.Log, open: make(map[string]*link.Transport)}
	select {
	case <-d.session.nudge: // of before there was anything to doubt
	default:
	}
	k := race(ctx, d.session.nudge, d.patience(), &schedule{
		ways: d.ways(r.limit > quicByDetour), addrs: d.known, gap: d.gap(), quick: true, since: d.session.searching(),
		// The cloud may have taken an attempt whose answer goes to where this edge was
		// before: it takes none of the same round beside it, but one of the next.
		anew: func() { r.number.Store(d.rounds.Add(1)) },
		dial: func(ctx context.Context, way Way, addr net.Addr) connection {
			k := connection{rank: quicByTable.by(way), way: way.Name}
			var t *link.Transport
			if t, k.err = s.transport(way); k.err == nil {
				k.welcomed, k.err = d.try(ctx, t, addr, r)
			}
			return k
		},
	})
	if k.err != nil {
		s.close()
	} else {
		k.release = s.keep(k.way)
	}
	no, later := k.refusal()
	k.final = no && !later
	return k
}

// try makes one attempt over QUIC.
func (d *dialer) try(ctx context.Context, t *link.Transport, addr net.Addr, r *round) (*welcomed, error) {
	var s *salute
	var early func(link.Conn)
	if !r.mute {
		s = r.attempt()
		early = func(c link.Conn) { d.say(ctx, c, s) }
	}
	if rtt := d.session.lastRTT(); rtt > 0 {
		// The next attempts do better than this one's repeats.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, attemptLife+4*rtt)
		defer cancel()
	}
	conn, said, err := t.Dial(ctx, addr, d.cfg.handshakeTLS(), d.limits, early)
	if err != nil {
		return nil, err
	}
	if s != nil && (!said || s.err != nil) {
		s = nil
	}
	return d.greeted(ctx, conn, r, s)
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
	k := race(ctx, nil, d.patience(), &schedule{
		ways: d.ways(r.limit > tlsByDetour), addrs: d.known, gap: d.gap(), since: d.session.searching(),
		dial: func(ctx context.Context, way Way, addr net.Addr) connection {
			k := connection{rank: tlsByTable.by(way), way: way.Name, release: func() {}}
			dial := way.DialTCP
			switch {
			case dial == nil:
				k.err = fmt.Errorf("no TCP by %s", way.Name)
				return k
			case way.Name != "" && addr == nil:
				k.err = fmt.Errorf("no address to reach by %s", way.Name)
				return k
			case way.Name != "": // names are resolved by the routing table's own way, which may be dead
				dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
					return way.DialTCP(ctx, network, addr.String())
				}
			}
			var conn link.Conn
			conn, k.err = link.DialTLS(ctx, dial, d.cfg.Address, d.cfg.handshakeTLS(), d.limits.KeepAlive)
			if k.err == nil {
				k.welcomed, k.err = d.greeted(ctx, conn, r, nil)
			}
			return k
		},
	})
	no, later := k.refusal()
	k.final = no && !later
	return k
}

// ways gives the routing table's own way and, if wanted, the detours.
func (d *dialer) ways(detours bool) func() []Way {
	return func() []Way {
		ways := []Way{{PacketConn: d.cfg.PacketConn, DialTCP: d.cfg.DialTCP}}
		if detours && d.cfg.Detours != nil {
			ways = append(ways, d.cfg.Detours(d.known())...)
		}
		first := int(d.first.Load() % uint64(len(ways)))
		return slices.Concat(ways[first:], ways[:first])
	}
}

// gap is the advantage that each way has before the next: time for a handshake.
func (d *dialer) gap() time.Duration {
	rtt := d.session.lastRTT()
	if rtt == 0 {
		return detourDelay
	}
	return max(nextAddress, rtt*5/4)
}

// known gives the addresses that were found last; there is a nil one when there
// are none.
func (d *dialer) known() []net.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.addrs) == 0 {
		return []net.Addr{nil}
	}
	return d.addrs
}

// locate finds the proxy's addresses. Those known from before do meanwhile: a name
// often can't be resolved without the network that is being looked for. The caller
// calls wait at the end.
func (d *dialer) locate(ctx context.Context) (wait func(), err error) {
	if d.known()[0] == nil {
		addrs, err := resolve(ctx, d.cfg.Address)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.addrs = addrs
		return func() {}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		addrs, err := resolve(ctx, d.cfg.Address)
		if err != nil {
			return
		}
		d.mu.Lock()
		same := slices.EqualFunc(addrs, d.addrs, func(a, b net.Addr) bool { return a.String() == b.String() })
		d.addrs = addrs
		d.mu.Unlock()
		if !same {
			d.session.stir()
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}, nil
}
