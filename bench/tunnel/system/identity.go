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

// Server is the TLS configuration of the cloud.
func (a Authority) Server() (*tls.Config, error) {
	ca, err := issuer.ParseCA(a.Cert, a.Key)
	if err != nil {
		return nil, err
	}
	cert, err := ca.SignServer(issuer.ServerRequest{Cluster: cluster})
	if err != nil {
		return nil, err
	}
	return certs.ServerTLS(certs.ServerConfig{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		ClientCAs:      ca.Pool(), Cluster: cluster, NextProtos: []string{"bench"},
	})
}

// Client is the TLS configuration of an edge; a cache makes resumption possible,
// nil makes none.
func (a Authority) Client(node string, cache tls.ClientSessionCache) (*tls.Config, error) {
	ca, err := issuer.ParseCA(a.Cert, a.Key)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})
	signed, err := ca.SignEdge(request, certs.Identity{Cluster: cluster, Node: node}, 0)
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
		RootCAs:              ca.Pool(), Cluster: cluster, NextProtos: []string{"bench"}, SessionCache: cache,
	})
}

// withALPN is c for one protocol.
func withALPN(c *tls.Config, name string) *tls.Config {
	c = c.Clone()
	c.NextProtos = []string{name}
	return c
}
