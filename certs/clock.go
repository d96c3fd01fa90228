package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// agreement is how far apart two clocks may be that say the same.
const agreement = time.Hour

// Clock is what a machine takes for the time when it checks certificates. Its own
// clock may be wrong by years, and the cloud's by days; DESIGN.md tells what is
// believed when, and why. In short:
//
//   - Until the cloud has told the time, it is the later of the machine's clock and
//     the floor: moments of which it is said that they have passed. A machine's clock
//     that was ahead when the cloud last told is taken back by as much.
//   - Once the cloud has told, it is that, and what has gone by since on a clock that
//     nobody sets.
//   - The cloud's certificate is a witness: one of the future raises the floor, and one
//     that has expired by what the cloud told, but not by another clock that may be
//     right, makes the other one count. [Clock.Learn] asks it.
//
// The zero Clock has no floor. It may be used by several goroutines.
type Clock struct {
	// Local is the machine's clock; nil means time.Now.
	Local func() time.Time

	mu     sync.Mutex    // guards the following fields
	proved mark          // has passed, without a doubt
	floor  mark          // has passed, if who said so was right
	ahead  time.Duration // by which Local was ahead in a session before this start
	kept   mark          // what was known before this start
	told   mark
	before mark // what the cloud told before it told something else, also before this start
}

// mark is a moment in true time, and when that was on the clock that only counts.
type mark struct{ t, at time.Time }

func markAt(t time.Time) mark { return mark{t.Round(0), time.Now()} }

func (m mark) now() time.Time {
	if m.t.IsZero() {
		return time.Time{}
	}
	return m.t.Add(time.Since(m.at))
}

func (m mark) agrees(t time.Time) bool {
	return !m.t.IsZero() && t.Sub(m.now()).Abs() <= agreement
}

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

func (c *Clock) nowLocked() time.Time {
	if told := c.told.now(); !told.IsZero() {
		return latest(told, c.floor.now())
	}
	return latest(c.localLocked().Add(-c.ahead), c.floor.now(), c.proved.now())
}

func (c *Clock) localLocked() time.Time {
	if c.Local == nil {
		return time.Now()
	}
	return c.Local()
}

func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}

// NotBefore says that t has passed, as the begin of the machine's own certificate: the
// cloud would refuse that, were it not so.
func (c *Clock) NotBefore(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.proved.now()) {
		c.proved = markAt(t)
	}
}

// Kept takes what Known gave before this start.
func (c *Clock) Kept(known time.Time, localAhead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = markAt(known)
	if known.After(c.floor.now()) {
		c.floor = c.kept
	}
	// Only ahead: a clock that was behind may have begun anew, or have been set since,
	// and the floor is there for it.
	c.ahead = 0
	if localAhead > agreement {
		c.ahead = localAhead
	}
}

// Told says that the cloud has just told, in a session, that it is t.
func (c *Clock) Told(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.before.agrees(t):
		c.before = mark{} // what was told meanwhile was wrong
	case !c.told.t.IsZero():
		if !c.told.agrees(t) {
			c.before = c.told
		}
	case !c.kept.agrees(t) && t.Sub(c.localLocked().Add(-c.ahead)).Abs() > agreement:
		// The machine was off, or the cloud is wrong: nobody else says what it says.
		c.before = c.kept
	}
	c.told, c.kept = markAt(t), mark{}
	c.floor, c.ahead = mark{}, 0 // they have served; were they wrong, nothing else would correct them
}

// Known is what to keep for the next start: the latest time that is more than the
// machine's own claim, zero when there is none, and by how much the machine's clock was
// ahead of it. Where the cloud has told two things it is the lower one: a floor that
// is too low is mended by the next certificate, one that is too high shuts out.
func (c *Clock) Known() (t time.Time, localAhead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t = c.told.now(); t.IsZero() {
		return latest(c.proved.now(), c.floor.now()), c.ahead
	}
	if b := c.before.now(); !b.IsZero() && b.Before(t) {
		t = b
	}
	return t, c.localLocked().Sub(t)
}

// expiredLocked is for a certificate that has expired by this clock. If the machine's
// own clock, or what the cloud told before, finds it valid, that counts from now on.
func (c *Clock) expiredLocked(cert *x509.Certificate) bool {
	valid := func(t time.Time) bool { return !t.Before(cert.NotBefore) && !t.After(cert.NotAfter) }
	local := c.localLocked()
	switch {
	case valid(local) && !local.Before(c.proved.now()):
		c.told, c.before, c.kept, c.floor, c.ahead = mark{}, mark{}, mark{}, mark{}, 0
	case valid(c.before.now()):
		c.told, c.before, c.floor = c.before, mark{}, mark{}
	default:
		return false
	}
	return true
}

// weigh asks the cloud's certificate for the time, and says whether that was news.
func (c *Clock) weigh(cert *x509.Certificate) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := c.nowLocked(); {
	case cert.NotBefore.After(now):
		c.floor = markAt(cert.NotBefore)
	case now.After(cert.NotAfter):
		return c.expiredLocked(cert)
	default:
		return false
	}
	return true
}

// errLearned ends a handshake that was only about the peer's certificate.
var errLearned = errors.New("the certificate was seen")

// Learn is for a machine that has refused the cloud's certificate. It looks at the
// certificate that the cloud shows on conn and ends the handshake there. One of our CA,
// for this cluster's proxy, that seems to be one of the future is taken for proof that
// it has begun; one that seems to have expired is weighed against the other clocks that
// there are. It reports whether that was news. The peer is told nothing, and nothing
// else of it is believed, not even that it has the key: the next handshake checks all
// as ever.
func (c *Clock) Learn(ctx context.Context, conn net.Conn, cfg ClientConfig) (bool, error) {
	conf, err := ClientTLS(cfg)
	if err != nil {
		return false, err
	}
	var seen *x509.Certificate
	conf.ClientSessionCache = nil // a resumed session shows no certificate
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		others := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			others.AddCert(cert)
		}
		chains, err := leaf.Verify(x509.VerifyOptions{
			DNSName: conf.ServerName, Roots: conf.RootCAs, Intermediates: others, CurrentTime: leaf.NotBefore,
		})
		if err != nil {
			return err
		}
		id, err := PeerIdentity(tls.ConnectionState{VerifiedChains: chains})
		if err != nil {
			return err
		}
		if id.Cluster != cfg.Cluster || !id.IsProxy() {
			return fmt.Errorf("peer %s is not this cluster's proxy", id)
		}
		seen = leaf
		return errLearned
	}
	err = tls.Client(conn, conf).HandshakeContext(ctx)
	if !errors.Is(err, errLearned) {
		return false, fmt.Errorf("look at the cloud's certificate: %w", err)
	}
	return c.weigh(seen), nil
}
