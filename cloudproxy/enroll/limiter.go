package enroll

import (
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// Limits bounds requests; a zero field means its default. They are there for
// load, not against guessing: a token's secret has 82 bits. A whole plant behind
// one NAT that joins at once must get in, hence the bursts; clients wait and retry.
type Limits struct {
	PerSource      float64 // requests a second of one address (IPv6: one /64); default 5
	PerSourceBurst int     // default 50
	Total          float64 // requests a second of all; default 50
	TotalBurst     int     // default 200
}

func (l Limits) withDefaults() Limits {
	if l.PerSource == 0 {
		l.PerSource = 5
	}
	if l.PerSourceBurst == 0 {
		l.PerSourceBurst = 50
	}
	if l.Total == 0 {
		l.Total = 50
	}
	if l.TotalBurst == 0 {
		l.TotalBurst = 200
	}
	return l
}

// maxSources bounds each generation of remembered addresses, about 1 MB in all.
const maxSources = 4096

// limiter remembers sources in two generations: when the younger one is full, the
// older one is dropped. That bounds memory without a clean-up goroutine, and who
// keeps asking stays remembered.
type limiter struct {
	limits Limits
	total  *rate.Limiter

	mu         sync.Mutex // guards the following fields
	young, old map[netip.Prefix]*rate.Limiter
}

func newLimiter(l Limits) *limiter {
	return &limiter{
		limits: l,
		total:  rate.NewLimiter(rate.Limit(l.Total), l.TotalBurst),
		young:  map[netip.Prefix]*rate.Limiter{},
	}
}

// allow counts a request. The source comes first, so that a flood from one address
// does not eat what all share.
func (l *limiter) allow(source netip.Addr) bool {
	return l.of(source).Allow() && l.total.Allow()
}

func (l *limiter) of(source netip.Addr) *rate.Limiter {
	const v6Subscriber = 64 // what one IPv6 customer has at least
	source = source.Unmap()
	bits := source.BitLen()
	if source.Is6() {
		bits = v6Subscriber
	}
	prefix, err := source.Prefix(bits)
	if err != nil {
		prefix = netip.Prefix{} // no address: all such share one
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lim, ok := l.young[prefix]; ok {
		return lim
	}
	lim, ok := l.old[prefix]
	if !ok {
		lim = rate.NewLimiter(rate.Limit(l.limits.PerSource), l.limits.PerSourceBurst)
	}
	if len(l.young) >= maxSources {
		l.old, l.young = l.young, map[netip.Prefix]*rate.Limiter{}
	}
	l.young[prefix] = lim
	return lim
}
