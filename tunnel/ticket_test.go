package tunnel_test

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// An edge that comes back resumes its TLS session, over either carrier and at a
// proxy that was started again.
func TestTicketsOutliveARestart(t *testing.T) {
	for _, kind := range []string{"quic", "tls"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := tunneltest.New(t, tunneltest.Options{RTT: 60 * time.Millisecond, TCP: true})
				n.BlockUDP(kind == "tls")
				cfg := n.Config("edge-1", 1)
				cfg.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(4)
				verify := cfg.TLS.VerifyConnection
				resumed := false
				cfg.TLS.VerifyConnection = func(s tls.ConnectionState) error {
					resumed = s.DidResume
					return verify(s)
				}
				for i, want := range []bool{false, true, true} {
					if i == 2 {
						n.Restart()
					}
					edge, err := tunnel.Dial(t.Context(), cfg)
					if err != nil {
						t.Fatal(err)
					}
					if got := edge.Stats().Link; got != kind {
						t.Fatalf("link %s", got)
					}
					tunneltest.Pass(time.Second) // the ticket is on its way
					if resumed != want {
						t.Errorf("dial %d: resumed %t, want %t", i, resumed, want)
					}
					if cloud, err := n.Listener().Accept(t.Context()); err != nil || cloud.Peer().Node != "edge-1" {
						t.Errorf("dial %d: %v", i, err)
					}
					edge.Close(wire.CodeOK, "")
				}
			})
		})
	}
}
