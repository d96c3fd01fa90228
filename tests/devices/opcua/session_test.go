package opcua_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/channel"
	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/pki"
	"github.com/skerry-io/skerry/devices/opcua/session"
)

func opened(t *testing.T, p *peer, want discovery.Want, user session.User) *session.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	store, err := pki.Open(t.TempDir(), "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	want.User = user.Kind()
	endpoints, err := discovery.Endpoints(ctx, &net.Dialer{}, p.url)
	if err != nil {
		t.Fatal(err)
	}
	choice, err := discovery.Choose(endpoints, want)
	if err != nil {
		t.Fatal(err)
	}
	e := choice.Endpoint
	conn, err := discovery.Dial(ctx, &net.Dialer{}, p.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg := channel.Config{URL: e.EndpointURL, Policy: e.SecurityPolicyURI, Mode: e.SecurityMode}
	if e.SecurityPolicyURI != ua.SecurityPolicyURINone {
		cfg.Certificate, cfg.Key = store.Own().Certificate, store.Own().Key
		if cfg.Server, err = store.Verify(e.ServerCertificate, pki.Trust{Fingerprints: []string{pki.Fingerprint(e.ServerCertificate)}}, "127.0.0.1", e.Server.ApplicationURI); err != nil {
			t.Fatal(err)
		}
	}
	c, err := channel.Open(ctx, conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s, err := session.Create(ctx, c, session.Config{
		Name: "test", URI: store.Own().URI, Timeout: time.Minute, User: user, Token: choice.Token,
		Check: func(told []*ua.EndpointDescription) error { return discovery.Same(endpoints, told) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every policy and mode, and every kind of user, of a server by others.
func TestSecurity(t *testing.T) {
	p := startPeer(t, nil)
	for _, policy := range []string{ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss} {
		for _, mode := range []ua.MessageSecurityMode{ua.MessageSecurityModeSign, ua.MessageSecurityModeSignAndEncrypt} {
			t.Run(policy[len(ua.SecurityPolicyURIPrefix):]+mode.String(), func(t *testing.T) {
				s := opened(t, p, discovery.Want{Policy: policy, Mode: mode}, session.User{})
				n, err := s.Namespaces(t.Context())
				if err != nil || len(n) < 3 {
					t.Errorf("%v %v", n, err)
				}
			})
		}
	}
	t.Run("None", func(t *testing.T) { opened(t, p, discovery.Want{Policy: ua.SecurityPolicyURINone}, session.User{}) })
	t.Run("Best", func(t *testing.T) {
		s := opened(t, p, discovery.Want{}, session.User{})
		if c := s.Channel().Config(); c.Policy != ua.SecurityPolicyURIAes256Sha256RsaPss || c.Mode != ua.MessageSecurityModeSignAndEncrypt {
			t.Errorf("chose %s %v", c.Policy, c.Mode)
		}
	})
	t.Run("User", func(t *testing.T) { opened(t, p, discovery.Want{}, session.User{Name: "operator", Password: "secret"}) })
	t.Run("UserCertificate", func(t *testing.T) {
		store, err := pki.Open(t.TempDir(), "operator")
		if err != nil {
			t.Fatal(err)
		}
		opened(t, p, discovery.Want{}, session.User{Certificate: store.Own().Certificate, Key: store.Own().Key})
	})
}
