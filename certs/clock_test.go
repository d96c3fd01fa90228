package certs_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

// skewed is the clock of a machine that is off by d.
func skewed(d time.Duration) *certs.Clock {
	return &certs.Clock{Local: func() time.Time { return time.Now().Add(d) }}
}

// meet shakes hands with the proxy as a machine with that clock.
func meet(t *testing.T, clock *certs.Clock, ca *issuer.CA, server *tls.Certificate) error {
	t.Helper()
	cfg := clockConfig(t, clock, ca)
	conf, err := certs.ClientTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, client := handshake(t, serverTLS(t, ca, server, nil), conf)
	return client.err
}

func clockConfig(t *testing.T, clock *certs.Clock, ca *issuer.CA) certs.ClientConfig {
	t.Helper()
	pair := edgePair(t, ca, certs.Identity{Cluster: cluster, Node: "edge"}, 0)
	return certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil },
		RootCAs:              ca.Pool(), Cluster: cluster, NextProtos: []string{alpn}, Clock: clock,
	}
}

// learn lets a machine look at the proxy's certificate.
func learn(t *testing.T, clock *certs.Clock, ca *issuer.CA, server *tls.Certificate, proxyCA *issuer.CA) (bool, error) {
	t.Helper()
	a, b := net.Pipe()
	near, far := newQueued(a), newQueued(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = tls.Server(far, serverTLS(t, proxyCA, server, nil)).HandshakeContext(t.Context())
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	news, err := clock.Learn(ctx, near, clockConfig(t, clock, ca))
	near.Close()
	<-done
	return news, err
}

const day = 24 * time.Hour

// The rule, with machines whose clock is wrong. Certificates live for 30 days.
func TestClockRule(t *testing.T) {
	for name, tt := range map[string]struct {
		off   time.Duration
		floor time.Duration // before now; 0 for none
		told  bool          // the cloud has told the time in a session before this one
		want  string        // in the error; empty for success
	}{
		"right":                          {0, 0, false, ""},
		"hours behind, no floor":         {-5 * time.Hour, 0, false, "not yet valid"},
		"years behind, no floor":         {-10 * 365 * day, 0, false, "not yet valid"},
		"years behind, floor is recent":  {-10 * 365 * day, time.Minute, false, ""},
		"hours behind, floor is recent":  {-5 * time.Hour, time.Minute, false, ""},
		"years behind, floor is too old": {-10 * 365 * day, 3 * day, false, "not yet valid"},
		"hours ahead":                    {5 * time.Hour, 0, false, ""},
		"years ahead":                    {10 * 365 * day, 0, false, "expired"},
		"years ahead, floor":             {10 * 365 * day, time.Minute, false, "expired"},
		"years ahead, told":              {10 * 365 * day, 0, true, ""},
		"years behind, told":             {-10 * 365 * day, 0, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newCA(t, cluster)
				time.Sleep(5 * day) //nolint:forbidigo // virtual time
				server := serverPair(t, ca, cluster)
				clock := skewed(tt.off)
				if tt.floor > 0 {
					clock.NotBefore(time.Now().Add(-tt.floor))
				}
				if tt.told {
					clock.Told(time.Now())
				}
				err := meet(t, clock, ca, server)
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			})
		})
	}
}

// An expired certificate stays expired: a floor in the past makes nothing valid
// that the machine's own clock, or what the cloud told, calls expired.
func TestClockExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, cluster)
		server := serverPair(t, ca, cluster)
		floor := time.Now()
		told := skewed(-10 * 365 * day)
		told.Told(time.Now())
		time.Sleep(31 * day) //nolint:forbidigo // virtual time
		right, behind := skewed(0), skewed(-10*365*day)
		right.NotBefore(floor)
		behind.NotBefore(time.Now().Add(-time.Hour))
		for name, clock := range map[string]*certs.Clock{"right": right, "behind with a recent floor": behind, "told long ago": told} {
			if err := meet(t, clock, ca, server); err == nil || !strings.Contains(err.Error(), "expired") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A machine that was off for long learns the time from the certificate itself,
// and only from one of its own CA.
func TestClockLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newCA(t, cluster), newCA(t, cluster)
		clock := skewed(-10 * 365 * day)
		clock.NotBefore(time.Now())
		time.Sleep(20 * day) //nolint:forbidigo // virtual time
		off := skewed(-10 * 365 * day)
		off.NotBefore(time.Now().Add(-20 * day))
		server := serverPair(t, ca, cluster)
		if err := meet(t, off, ca, server); err == nil {
			t.Fatal("the certificate is not of the future: this test tests nothing")
		}
		if news, err := learn(t, off, ca, serverPair(t, other, cluster), other); news || err == nil {
			t.Errorf("another CA is believed: %v", err)
		}
		if news, err := learn(t, off, ca, serverPair(t, ca, "another"), ca); news || err == nil {
			t.Errorf("another cluster's proxy is believed: %v", err)
		}
		if news, err := learn(t, off, ca, server, ca); !news || err != nil {
			t.Fatalf("nothing was learned: %v", err)
		}
		if err := meet(t, off, ca, server); err != nil {
			t.Errorf("still refused: %v", err)
		}
		if news, err := learn(t, off, ca, server, ca); news || err != nil {
			t.Errorf("the same is news again: %v", err)
		}
		// The floor of a machine that stayed on has kept time.
		if err := meet(t, clock, ca, server); err != nil {
			t.Errorf("a floor does not count on: %v", err)
		}
	})
}

func TestClockKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := skewed(10 * 365 * day)
		known := func() time.Time {
			at, _ := c.Known()
			return at
		}
		if !known().IsZero() {
			t.Errorf("the machine's own claim is kept: %v", known())
		}
		start := time.Now()
		c.NotBefore(start.Add(-time.Hour))
		c.NotBefore(start.Add(-2 * time.Hour)) // no news
		time.Sleep(time.Minute)                //nolint:forbidigo // virtual time
		if want := start.Add(-59 * time.Minute); !known().Equal(want) {
			t.Errorf("known %v, want %v", known(), want)
		}
		c.NotBefore(start.Add(9 * 365 * day)) // a floor that is wrong
		c.Told(time.Now())
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time
		if !known().Equal(time.Now()) || !c.Now().Equal(time.Now()) {
			t.Errorf("after the cloud told: known %v, now %v, want %v", known(), c.Now(), time.Now())
		}
	})
}
