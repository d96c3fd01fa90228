package tunnel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// nextAddress is when the next of several addresses is tried beside the first.
	nextAddress = 250 * time.Millisecond
	// nextAttempt is when a handshake that got no answer is begun anew beside the
	// old one, at first and at most. quic-go's own repeats get further and further
	// apart; after an outage nothing moves before the next one, so their distance is
	// what users wait. Each attempt costs some kilobytes, so they wait a share of what
	// they have waited already.
	nextAttempt, lastAttempt = 800 * time.Millisecond, 30 * time.Second
	patienceShare            = 200
	// maxAddresses bounds what a DNS answer can make us try.
	maxAddresses = 8
)

func resolve(ctx context.Context, address string) ([]net.Addr, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]net.Addr, 0, maxAddresses)
	for _, ip := range ips[:min(len(ips), maxAddresses)] {
		// Unmapped, because a socket without IPv6 takes IPv4 addresses only as such.
		addrs = append(addrs, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port))))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return addrs, nil
}

// schedule orders attempts. A turn takes one address by each way, and the next turn
// the next address.
type schedule struct {
	ways  func() []Way // asked for each turn: devices come and go
	addrs func() []net.Addr
	gap   time.Duration // between the ways of a turn
	quick bool          // begin with a turn for each address
	since time.Time     // when the search began
	anew  func()        // called before a turn that the session's nudge begins
	dial  func(context.Context, Way, net.Addr) connection

	turn int
	left []Way // of the present turn
}

// next gives an attempt, and how long after its begin the next one begins.
func (s *schedule) next(anew bool) (dial func(context.Context) connection, wait time.Duration) {
	if anew || len(s.left) == 0 {
		s.left = s.ways()
		s.turn++
	}
	way := s.left[0]
	s.left = s.left[1:]
	addrs := s.addrs()
	addr := addrs[(s.turn-1)%len(addrs)]
	switch {
	case len(s.left) > 0:
		wait = s.gap
	case s.quick && s.turn < len(addrs):
		wait = nextAddress
	default:
		every := min(max(nextAttempt, time.Since(s.since)/patienceShare), lastAttempt)
		wait = every*3/4 + rand.N(every/2)
	}
	return func(ctx context.Context) connection { return s.dial(ctx, way, addr) }, wait
}

// race begins attempt after attempt, each beside those that still wait, and gives
// the first connection. nudge begins a new turn at once. An answer that says no ends
// it, to ask again is the caller's decision; one that says that another attempt was
// taken ends it after patience.
func race(ctx context.Context, nudge <-chan struct{}, patience time.Duration, s *schedule) connection {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	results := make(chan connection)
	defer wg.Wait()
	defer cancel()

	start := time.NewTimer(0)
	defer start.Stop()
	var last connection
	var enough <-chan time.Time
	for anew := false; ; {
		select {
		case <-nudge:
			anew = true
			s.anew()
			start.Reset(0)
		case <-start.C:
			dial, wait := s.next(anew)
			anew = false
			wg.Go(func() {
				k := dial(ctx)
				select {
				case results <- k:
				case <-ctx.Done():
					if k.err == nil {
						k.Close(wire.CodeNextCarrier, "another attempt was faster")
					}
				}
			})
			start.Reset(wait)
		case k := <-results:
			if k.err == nil {
				return k
			}
			last = k
			no, later := refusal(k.err)
			if k.rank.detour() {
				no, later = k.refusal()
			}
			switch {
			case later && enough == nil:
				enough = time.After(patience)
			case no && !later:
				return k
			}
		case <-enough:
			return last
		case <-ctx.Done():
			if last.err != nil {
				return connection{err: fmt.Errorf("%w; last attempt: %s", ctx.Err(), last.err.Error())}
			}
			return connection{err: fmt.Errorf("no answer: %w", ctx.Err())}
		}
	}
}
