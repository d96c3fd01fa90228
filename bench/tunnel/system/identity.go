package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

// cluster is that of all certificates here.
const cluster = "5e6f7a1b-bench"

// Authority signs the certificates of one run. It travels to the agents as JSON.
type Authority struct {
	Cert []byte `json:"cert"` // PEM
	Key  []byte `json:"key"`  // PEM
}

// NewAuthority makes one.
func NewAuthority() (Authority, error) {
	ca, err := issuer.NewCA(cluster)
	if err != nil {
		return Authority{}, err
	}
	key, err := ca.KeyPEM()
	return Authority{Cert: ca.CertPEM(), Key: key}, err
}

// Issuer makes the TLS configurations. They share the CA, as those of one
// process do.
type Issuer struct {
	ca   *issuer.CA
	pool *x509.CertPool
}

// Issuer reads the authority.
func (a Authority) Issuer() (*Issuer, error) {
	ca, err := issuer.ParseCA(a.Cert, a.Key)
	if err != nil {
		return nil, err
	}
	return &Issuer{ca: ca, pool: ca.Pool()}, nil
}

// Server is the TLS configuration of the cloud.
func (i *Issuer) Server() (*tls.Config, error) {
	cert, err := i.ca.SignServer(issuer.ServerRequest{Cluster: cluster})
	if err != nil {
		return nil, err
	}
	return certs.ServerTLS(certs.ServerConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		ClientCAs:      i.pool, Cluster: cluster, NextProtos: []string{"bench"},
	})
}

// Client is the TLS configuration of an edge; a cache makes resumption possible,
// nil makes none.
func (i *Issuer) Client(node string, cache tls.ClientSessionCache) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})
	signed, err := i.ca.SignEdge(request, certs.Identity{Cluster: cluster, Node: node}, 0)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(signed)
	if block == nil {
		return nil, fmt.Errorf("certificate of %s: no PEM", node)
	}
	cert := &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	return certs.ClientTLS(certs.ClientConfig{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		RootCAs:              i.pool, Cluster: cluster, NextProtos: []string{"bench"}, SessionCache: cache,
	})
}

// withALPN is c for one protocol.
func withALPN(c *tls.Config, name string) *tls.Config {
	c = c.Clone()
	c.NextProtos = []string{name}
	return c
}
