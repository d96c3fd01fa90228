package opcua

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/pki"
)

const (
	firstWait, longestWait = 200 * time.Millisecond, 2 * time.Second
	// After hours a wait is a share of the time without a session.
	waitShare, hoursWait = 20, time.Minute
	// A no is not changed by asking often, and servers lock users out.
	firstRefused, longestRefused = 5 * time.Second, time.Minute
)

// backoff says when to connect again. There is one attempt at a time for a server.
type backoff struct {
	failures int
	since    time.Time
}

func (b *backoff) next(err error, served bool) time.Duration {
	if served || b.since.IsZero() {
		b.failures, b.since = 0, time.Now()
	}
	b.failures++
	first, longest := firstWait, max(longestWait, min(time.Since(b.since)/waitShare, hoursWait))
	if refused(err) {
		first, longest = firstRefused, longestRefused
	}
	wait := min(first<<min(b.failures-1, 10), longest)
	return wait*3/4 + rand.N(wait/2)
}

// refused reports whether the other side, or the configuration, said no.
func refused(err error) bool {
	var rejected *pki.RejectedError
	if errors.As(err, &rejected) || errors.Is(err, discovery.ErrNoEndpoint) || errors.Is(err, errSecret) || userRejected(err) {
		return true
	}
	for _, s := range []ua.StatusCode{
		ua.StatusBadTooManySessions, ua.StatusBadCertificateUntrusted, ua.StatusBadSecurityChecksFailed, ua.StatusBadCertificateURIInvalid,
		ua.StatusBadSecurityPolicyRejected, ua.StatusBadSecurityModeRejected,
	} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

func userRejected(err error) bool {
	return errors.Is(err, ua.StatusBadUserAccessDenied) || errors.Is(err, ua.StatusBadIdentityTokenRejected) || errors.Is(err, ua.StatusBadIdentityTokenInvalid)
}
