package edgeagent

import (
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/certs/issuer"
)

// listening gives streams that the cloud opens.
type listening struct {
	net.Listener

	conns chan net.Conn
	ended chan struct{}
}

func (l *listening) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *listening) Close() error {
	close(l.ended)
	return nil
}

// TestNews: the edge renews when it is told of another CA, and says how it stands.
func TestNews(t *testing.T) {
	runRenewals(t, nil, func(c *renewals) {
		c.set(true, "", false)
		old, next := c.ca, newAuthority(c.t)
		ln := &listening{conns: make(chan net.Conn), ended: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- c.serveNews(c.t.Context(), ln) }()
		tell := func(news certs.CANews) (said certs.CAState) {
			here, there := net.Pipe()
			ln.conns <- there
			if err := json.NewEncoder(here).Encode(news); err != nil {
				c.t.Fatal(err)
			}
			if err := json.NewDecoder(here).Decode(&said); err != nil {
				c.t.Fatal(err)
			}
			return said
		}
		stands := func(step string, said certs.CAState, signer *issuer.CA, renewals int) {
			c.t.Helper()
			list, err := certs.ParseBundle([]byte(said.Certificate))
			if err != nil {
				c.t.Fatal(err)
			}
			streams, _ := c.counts()
			if list[0].CheckSignatureFrom(signer.Certificate()) != nil || !list[0].Equal(c.keys.Current().Leaf) || streams != renewals {
				c.t.Errorf("%s: after %d renewals, %+v", step, streams, said)
			}
		}
		news := func(signer *issuer.CA, trusted ...*issuer.CA) certs.CANews {
			n := certs.CANews{Signer: signer.Hash().String()}
			for _, ca := range trusted {
				n.Trusted = append(n.Trusted, certs.Fingerprint(ca.Certificate()))
			}
			return n
		}
		stands("as it is", tell(news(old, old)), old, 0)
		c.mu.Lock()
		c.ca = next
		c.also = old
		c.mu.Unlock()
		after(time.Second)
		stands("another", tell(news(next, next)), next, 1)
		on, err := os.ReadFile(filepath.Join(c.dir, "ca.crt"))
		if err != nil || string(on) != string(next.CertPEM()) {
			c.t.Errorf("ca.crt: %v\n%s", err, on)
		}
		c.set(true, certs.CodeUnavailable, false)
		if said := tell(news(old, old)); said.Problem == "" {
			c.t.Errorf("a renewal that fails is not told: %+v", said)
		}
		ln.Close()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
}

// TestKeepNeverLosesTheOld: whatever write fails, the certificate on the disk is one that
// the CAs on the disk have signed.
func TestKeepNeverLosesTheOld(t *testing.T) {
	dir := t.TempDir()
	old, next := newAuthority(t), newAuthority(t)
	keys := joined(t, old, dir)
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), old.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	trust, err := loadTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	// A folder in the place of the certificate: it can't be replaced.
	name := filepath.Join(dir, "edge.crt")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(name, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := trust.keep(bootstrap.Renewed{Certificate: next.CertPEM(), CA: next.CertPEM()}); err == nil {
		t.Fatal("the certificate was replaced")
	}
	again, err := loadTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	for what, tr := range map[string][]*x509.Certificate{"in use": trust.cas(), "on the disk": again.cas()} {
		if certs.SignerOf(keys.Current().Leaf, tr) == nil || len(tr) != 2 {
			t.Errorf("%s: %d CAs, and the old one is not among them", what, len(tr))
		}
	}
}

// TestSuccessor is what an edge asks that was off during a rotation: who answers needs no
// certificate that it knows.
func TestSuccessor(t *testing.T) {
	dir := t.TempDir()
	old, next, stranger := newAuthority(t), newAuthority(t), newAuthority(t)
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), old.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	trust, err := loadTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	var answer any
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != certs.SuccessionPath {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer srv.Close()
	ask := func() (bool, error) {
		return trust.successor(t.Context(), srv.Listener.Addr().String(), &certs.Clock{})
	}
	self, err := stranger.Link(stranger.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	for name, said := range map[string]any{
		"garbage": "x", "nothing": certs.Succession{},
		"a stranger": certs.Succession{CAs: string(stranger.CertPEM()), Links: string(certs.EncodeBundle([]*x509.Certificate{self}))},
	} {
		answer = said
		if news, err := ask(); news || err == nil || len(trust.cas()) != 1 {
			t.Errorf("%s: %v, %v", name, news, err)
		}
	}
	link, err := old.Link(next.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	answer = certs.Succession{CAs: string(next.CertPEM()), Links: string(certs.EncodeBundle([]*x509.Certificate{link}))}
	if news, err := ask(); !news || err != nil {
		t.Fatalf("%v, %v", news, err)
	}
	again, err := loadTrust(dir)
	if err != nil || len(again.cas()) != 2 || !again.cas()[1].Equal(next.Certificate()) {
		t.Errorf("on the disk: %v, %v", again.cas(), err)
	}
	if news, _ := ask(); news {
		t.Error("the same is news again")
	}
}

// TestSuccessorByALateClock: the link began in this machine's future.
func TestSuccessorByALateClock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		old, next := newAuthority(t), newAuthority(t)
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), old.CertPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		trust, err := loadTrust(dir)
		if err != nil {
			t.Fatal(err)
		}
		link, err := old.Link(next.Certificate())
		if err != nil {
			t.Fatal(err)
		}
		said := certs.Succession{CAs: string(next.CertPEM()), Links: string(certs.EncodeBundle([]*x509.Certificate{link}))}
		if _, err := trust.follow(said, epoch()); err != nil {
			t.Error(err)
		}
	})
}
