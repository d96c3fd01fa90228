package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/skerry-io/skerry/certs"
)

const (
	// DefaultTTL is the life of what the CA signs. An edge renews at two thirds
	// of it, so that ten days without a link cost nothing.
	DefaultTTL = 30 * 24 * time.Hour

	maxCSR = 8 << 10 // a P-256 request takes 500 bytes
)

// ErrBadRequest means that the certificate request can't be signed, whoever asks.
var ErrBadRequest = errors.New("bad certificate request")

// CheckRequest parses a PEM certificate request and checks its signature and key.
// Callers that spend something on a request check it first.
func CheckRequest(csrPEM []byte) (*ecdsa.PublicKey, error) {
	if len(csrPEM) > maxCSR {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrBadRequest, maxCSR)
	}
	block, rest := pem.Decode(csrPEM)
	if block == nil || block.Type != pemRequest {
		return nil, fmt.Errorf("%w: not a PEM %s", ErrBadRequest, pemRequest)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: data after the request", ErrBadRequest)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	// The key first: checking a signature by a huge RSA key costs real time.
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || (key.Curve != elliptic.P256() && key.Curve != elliptic.P384()) {
		return nil, fmt.Errorf("%w: the key must be ECDSA P-256 or P-384", ErrBadRequest)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return key, nil
}

// SignEdge signs an edge's certificate and returns it in PEM form. Of the request
// only the key counts: subject, names and extensions asked for are ignored, the
// identity is what the caller found out. A ttl of 0 means DefaultTTL; the
// certificate never outlives the CA.
//
// NotBefore is the current second, never earlier: a revocation refuses all
// certificates of a node up to a point in time, and a backdated certificate from
// a join after it would be refused too (or, with the comparison turned round, one
// from before it let in). Only the proxy checks these certificates, by the clock
// that signed them, so a late clock on the edge does not matter.
func (ca *CA) SignEdge(csrPEM []byte, id certs.Identity, ttl time.Duration) ([]byte, error) {
	return ca.signEdge(csrPEM, id, ttl, time.Now().Truncate(time.Second))
}

// signEdge signs for an edge that joined at some time, see certs.JoinedAt.
func (ca *CA) signEdge(csrPEM []byte, id certs.Identity, ttl time.Duration, joined time.Time) ([]byte, error) {
	if id.IsProxy() {
		return nil, errors.New("sign edge: identity has no node name")
	}
	key, err := CheckRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		// The name is for people; nothing reads it.
		Subject:     pkix.Name{CommonName: commonName(id.Node), SerialNumber: joined.UTC().Format(time.RFC3339)},
		NotBefore:   time.Now().Truncate(time.Second),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := ca.sign(template, id, key, ttl)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", id, err)
	}
	return encodeCertificate(der), nil
}

// ServerRequest is what SignServer needs.
type ServerRequest struct {
	// Cluster is the proxy's cluster.
	Cluster string
	// Names are the DNS names and IP addresses that edges dial. The name
	// certs.ProxyServerName is always in.
	Names []string
	// TTL 0 means DefaultTTL.
	TTL time.Duration
}

// SignServer makes a key and a certificate for the cloud proxy. The chain holds
// the CA too: a joining machine knows its hash only, so it must be shown the CA.
func (ca *CA) SignServer(req ServerRequest) (*tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "skerry-cloudproxy"},
		NotBefore:   time.Now().Truncate(time.Second).Add(-backdate),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{certs.ProxyServerName},
	}
	for _, name := range req.Names {
		if addr, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, net.IP(addr.Unmap().AsSlice()))
		} else if name != "" {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make server key: %w", err)
	}
	der, err := ca.sign(template, certs.Identity{Cluster: req.Cluster}, &key.PublicKey, req.TTL)
	if err != nil {
		return nil, fmt.Errorf("sign server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse server certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// sign fills in what all leaves share.
func (ca *CA) sign(t *x509.Certificate, id certs.Identity, key *ecdsa.PublicKey, ttl time.Duration) ([]byte, error) {
	uri, err := id.URI()
	if err != nil {
		return nil, err
	}
	switch {
	case ttl < 0:
		return nil, fmt.Errorf("negative ttl %s", ttl)
	case ttl == 0:
		ttl = DefaultTTL
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, err
	}
	t.NotAfter = time.Now().Truncate(time.Second).Add(ttl)
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	if !t.NotAfter.After(time.Now()) {
		return nil, fmt.Errorf("the CA expired %s", ca.cert.NotAfter.Format(time.RFC3339))
	}
	t.URIs = []*url.URL{uri}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, t, ca.cert, key, ca.key)
}

// commonName cuts a node name to what X.520 allows.
func commonName(node string) string {
	const limit = 64
	return node[:min(len(node), limit)]
}
