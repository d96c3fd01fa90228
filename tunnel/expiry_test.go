package tunnel_test

import (
	"crypto/tls"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/tunneltest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// shortLived is an edge whose certificate can be replaced.
func shortLived(t *testing.T, n *tunneltest.Net, life time.Duration) (cloud, edge *tunnel.Session, own *atomic.Pointer[tls.Certificate]) {
	t.Helper()
	own = &atomic.Pointer[tls.Certificate]{}
	own.Store(n.Certificate("edge-1", life))
	cfg := n.Config("edge-1", 1)
	cfg.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.Load(), nil }
	edge, err := tunnel.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = edge.Close(wire.CodeOK, "end of test") })
	if cloud, err = n.Listener().Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	return cloud, edge, own
}

// TestCertificateEnds: the session of an edge that has renewed its certificate outlives
// the old one, with all that is under way, and the cloud knows by which it goes on.
func TestCertificateEnds(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const life = time.Hour
			n := tunneltest.New(t, tunneltest.Options{RTT: rtt, TCP: tcp})
			n.BlockUDP(tcp)
			cloud, edge, own := shortLived(t, n, life)
			say := shell(t, cloud, edge)
			for range 5 {
				first := cloud.Certificate()
				own.Store(n.Certificate("edge-1", life+time.Until(first.NotAfter)))
				for !time.Now().After(first.NotAfter) {
					if fault := say(); fault != "" {
						t.Fatal(fault)
					}
					tunneltest.Pass(time.Minute)
				}
				if fault := say(); fault != "" {
					t.Fatal(fault)
				}
				if now := cloud.Certificate(); now.Equal(first) || !now.NotAfter.After(time.Now()) {
					t.Errorf("the session goes on by a certificate that ended %v ago", time.Since(now.NotAfter))
				}
			}
			if got := cloud.Stats().Resumes; got != 5 || edge.Err() != nil {
				t.Errorf("%d carriers after the first, want one for each certificate; %v", got, edge.Err())
			}
		})
	}
}

// TestCertificateEndsUnrenewed: without a new certificate nothing is said after the end
// of the old one.
func TestCertificateEndsUnrenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tunneltest.New(t, tunneltest.Options{RTT: rtt})
		cloud, edge, _ := shortLived(t, n, time.Hour)
		say := shell(t, cloud, edge)
		if fault := say(); fault != "" {
			t.Fatal(fault)
		}
		tunneltest.Pass(time.Hour + time.Second)
		if ok, _ := cloud.Attached(); ok {
			t.Error("an edge whose certificate has expired has a carrier")
		}
		<-edge.Done()
		<-cloud.Done()
		if late := time.Since(cloud.Certificate().NotAfter); late > 15*time.Minute {
			t.Errorf("the session ended %v after its certificate", late)
		}
	})
}
