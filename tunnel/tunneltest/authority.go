package tunneltest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel"
)

// Cluster is the cluster of all identities here.
const Cluster = "5e6f7a1b-test"

// authority signs certificates with the bubble's clock.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tunneltest CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert: cert, key: key, pool: pool}
}

// year is longer than any test.
const year = 365 * 24 * time.Hour

// Certificate signs one for an edge that has this long to live.
func (n *Net) Certificate(node string, life time.Duration) *tls.Certificate {
	n.tb.Helper()
	return n.ca.issue(n.tb, certs.Identity{Cluster: Cluster, Node: node}, life)
}

func (a *authority) issue(tb testing.TB, id certs.Identity, life time.Duration) *tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	uri, err := id.URI()
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		NotBefore:    now.Add(-time.Minute), NotAfter: now.Add(life),
		URIs:        []*url.URL{uri},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if id.IsProxy() {
		template.DNSNames = []string{certs.ProxyServerName}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) serverTLS(tb testing.TB) *tls.Config {
	tb.Helper()
	cert := a.issue(tb, certs.Identity{Cluster: Cluster}, year)
	c, err := certs.ServerTLS(certs.ServerConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		ClientCAs:      a.pool, Cluster: Cluster, NextProtos: []string{tunnel.ALPN},
		TicketSecret: [32]byte{3},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func (a *authority) clientTLS(tb testing.TB, node string) *tls.Config {
	tb.Helper()
	cert := a.issue(tb, certs.Identity{Cluster: Cluster, Node: node}, year)
	c, err := certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		RootCAs:              a.pool, Cluster: Cluster, NextProtos: []string{tunnel.ALPN},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
