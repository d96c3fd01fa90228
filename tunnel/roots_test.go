package tunnel_test

import (
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// TestRoots: each handshake of a session goes by those who are trusted then, also over
// a carrier that the session looks for by itself.
func TestRoots(t *testing.T) {
	for _, kind := range []string{"quic", "tls"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: 60 * time.Millisecond, TCP: true})
				n.BlockUDP(kind == "tls")
				cfg := n.Config("edge-1", 1)
				good := cfg.TLS.RootCAs
				var roots atomic.Pointer[x509.CertPool]
				roots.Store(x509.NewCertPool())
				cfg.Roots = roots.Load
				want := map[string]error{"quic": tunnel.ErrUntrusted, "tls": tunnel.ErrStranger}[kind]
				if _, err := tunnel.Dial(t.Context(), cfg); !errors.Is(err, want) {
					t.Errorf("trusting nobody: %v", err)
				}
				roots.Store(good)
				edge, err := tunnel.Dial(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				roots.Store(good.Clone())
				cloud, err := n.Listener().Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				say := shell(t, cloud, edge)
				n.Outage(true)
				tunneltest.Pass(time.Minute)
				n.Outage(false)
				if fault := say(); fault != "" || edge.Stats().Resumes == 0 {
					t.Errorf("after an outage: %s, %d resumes", fault, edge.Stats().Resumes)
				}
				edge.Close(wire.CodeOK, "")
			})
		})
	}
}
