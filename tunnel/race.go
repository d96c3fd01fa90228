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
	// old one, at first and at last. quic-go's own repeats get further and further
	// apart; after an outage nothing moves before the next one, so their distance is
	// what users wait. Each attempt costs some kilobytes.
	nextAttempt, lastAttempt = time.Second, 2 * time.Second
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

type attempt struct {
	conn *welcomed
	err  error
}

// race dials the addresses one after the other and again, each attempt beside
// those that still wait, and gives the first connection. nudge begins the next
// attempt at once; since is when the search began. An answer that says no ends it, to ask again is the caller's
// decision; one that says that another attempt was taken ends it after patience.
func race(ctx context.Context, addrs []net.Addr, nudge <-chan struct{}, since time.Time, patience time.Duration, dial func(context.Context, net.Addr) (*welcomed, error)) (*welcomed, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	results := make(chan attempt)
	defer wg.Wait()
	defer cancel()

	start := time.NewTimer(0)
	defer start.Stop()
	var last error
	var enough <-chan time.Time
	for i := 0; ; {
		select {
		case <-nudge:
			start.Reset(0)
		case <-start.C:
			addr := addrs[i%len(addrs)]
			wg.Go(func() {
				conn, err := dial(ctx, addr)
				select {
				case results <- attempt{conn, err}:
				case <-ctx.Done():
					if conn != nil {
						conn.Close(wire.CodeNextCarrier, "another attempt was faster")
					}
				}
			})
			i++
			wait := nextAddress
			if i >= len(addrs) {
				every := min(max(nextAttempt, time.Since(since)/60), lastAttempt)
				wait = every*3/4 + rand.N(every/2)
			}
			start.Reset(wait)
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			last = r.err
			switch no, later := refusal(r.err); {
			case later && enough == nil:
				enough = time.After(patience)
			case no && !later:
				return nil, r.err
			}
		case <-enough:
			return nil, last
		case <-ctx.Done():
			if last != nil {
				return nil, fmt.Errorf("%w; last attempt: %s", ctx.Err(), last.Error())
			}
			return nil, fmt.Errorf("no answer: %w", ctx.Err())
		}
	}
}
