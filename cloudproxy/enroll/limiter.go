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

// maxSources bounds each generation of those that are remembered, about 1 MB in all.
const maxSources = 4096

// An edge renews thrice in a rotation of the CA, and else each twenty days. Each renewal
// takes signatures, and a request to kube-apiserver that others wait behind.
const (
	renewalsPerSecond = 1.0 / 20
	renewalsBurst     = 6
)

// limiter bounds the requests of strangers, and the renewals of edges.
type limiter struct {
	total    *rate.Limiter
	sources  recent[netip.Prefix]
	renewals recent[string]
}

func newLimiter(l Limits) *limiter {
	return &limiter{
		total:    rate.NewLimiter(rate.Limit(l.Total), l.TotalBurst),
		sources:  recent[netip.Prefix]{limit: rate.Limit(l.PerSource), burst: l.PerSourceBurst},
		renewals: recent[string]{limit: renewalsPerSecond, burst: renewalsBurst},
	}
}

// allow counts a request. The source comes first, so that a flood from one address
// does not eat what all share.
func (l *limiter) allow(source netip.Addr) bool {
	return l.of(source).Allow() && l.total.Allow()
}

// renewal counts one through the session of a node.
func (l *limiter) renewal(node string) bool { return l.renewals.of(node).Allow() }

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
	return l.sources.of(prefix)
}

// recent remembers who asks in two generations: when the younger one is full, the
// older one is dropped. That bounds memory without a clean-up goroutine, and who
// keeps asking stays remembered.
type recent[K comparable] struct {
	limit rate.Limit
	burst int

	mu         sync.Mutex // guards the following fields
	young, old map[K]*rate.Limiter
}

func (r *recent[K]) of(who K) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if lim, ok := r.young[who]; ok {
		return lim
	}
	lim, ok := r.old[who]
	if !ok {
		lim = rate.NewLimiter(r.limit, r.burst)
	}
	if r.young == nil || len(r.young) >= maxSources {
		r.old, r.young = r.young, map[K]*rate.Limiter{}
	}
	r.young[who] = lim
	return lim
}
