package uplink

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// A path that failed is tried again at once, and then every 2 s: after an
	// outage the user waits for the next try. Each costs some kilobytes, so that after
	// hours the waits are a share of what was waited already.
	firstWait, longestWait = 200 * time.Millisecond, 2 * time.Second
	waitShare, hoursWait   = 200, 30 * time.Second
	// An answer that says no is not changed by asking often.
	firstRefused, longestRefused = 2 * time.Second, 30 * time.Second
	// A proxy that goes away sends all its edges off at the same moment.
	goingAwaySpread = 2 * time.Second
	// goodSession is how long a session must live for the next failure to count
	// as the first.
	goodSession = 10 * time.Second
)

// backoff says when to dial again.
type backoff struct {
	failures int
	since    time.Time // when the last session ended
}

// next takes how long the session lived (zero when there was none) and why it
// ended. The result is spread by a quarter to either side.
func (b *backoff) next(lived time.Duration, err error) time.Duration {
	if lived > 0 {
		b.since = time.Now()
	}
	if lived >= goodSession {
		b.failures = 0
	}
	if errors.Is(err, errGoingAway) {
		b.failures = 0 // of the next session's
		return rand.N(goingAwaySpread)
	}
	b.failures++
	first, longest := firstWait, max(longestWait, min(time.Since(b.since)/waitShare, hoursWait))
	if refused(err) || replaced(err) {
		first, longest = firstRefused, longestRefused
	}
	wait := min(first<<min(b.failures-1, 10), longest)
	wait = wait*3/4 + rand.N(wait/2)
	if lived > 0 && code(err) == wire.CodeGoingAway {
		wait += rand.N(goingAwaySpread)
	}
	return wait
}

// refused reports whether the cloud said no to this edge itself.
func refused(err error) bool {
	if errors.Is(err, tunnel.ErrUntrusted) {
		return true
	}
	switch code(err) {
	case wire.CodeRevoked, wire.CodeVersion, wire.CodeBadRequest, wire.CodeUnsupported, wire.CodeProtocol:
		return true
	default:
		return false
	}
}

// replaced reports whether the cloud preferred another session. This uplink has
// one at a time, so the other one is not ours.
func replaced(err error) bool { return code(err) == wire.CodeReplaced }

// code is the peer's code in err, or CodeOK.
func code(err error) wire.Code {
	var s *tunnel.SessionError
	if errors.As(err, &s) && s.Remote {
		return s.Code
	}
	return wire.CodeOK
}
