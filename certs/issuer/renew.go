package issuer

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/certs"
)

// ErrNotOurs means that a certificate to be renewed is not one that our CAs signed for
// an edge, or not that of the key that asks.
var ErrNotOurs = errors.New("not a certificate of this CA for the key that asks")

// Renewal is a checked request for an edge's next certificate.
type Renewal struct {
	// Old is the certificate to be renewed. It may have expired, and may be revoked:
	// that is the caller's to look at.
	Old *x509.Certificate
	// Identity is what Old names, an edge.
	Identity certs.Identity
	// Signer is the CA that signed Old.
	Signer *x509.Certificate

	csr []byte
}

// CheckRenewal checks what an edge asks for: that one of the CAs signed its certificate,
// and that who asks has the key. When it ended does not count. Errors are ErrBadRequest
// and ErrNotOurs.
func CheckRenewal(cas []*x509.Certificate, certPEM, csrPEM []byte) (*Renewal, error) {
	key, err := CheckRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	if len(certPEM) > maxCSR {
		return nil, fmt.Errorf("%w: the certificate is longer than %d bytes", ErrBadRequest, maxCSR)
	}
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != pemCertificate {
		return nil, fmt.Errorf("%w: no certificate in PEM form", ErrBadRequest)
	}
	old, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", ErrBadRequest, err)
	}
	if !key.Equal(old.PublicKey) {
		return nil, fmt.Errorf("%w: the request is signed by another key", ErrNotOurs)
	}
	chains, err := old.Verify(x509.VerifyOptions{
		Roots: certs.Pool(cas), CurrentTime: old.NotAfter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	id, err := certs.CertificateIdentity(old)
	if err != nil || id.IsProxy() {
		return nil, fmt.Errorf("%w: it is no edge's", ErrNotOurs)
	}
	return &Renewal{Old: old, Identity: id, Signer: chains[0][len(chains[0])-1], csr: csrPEM}, nil
}

// SignRenewal signs the next certificate: as SignEdge, but of an edge that joined when it
// did.
func (ca *CA) SignRenewal(r *Renewal, ttl time.Duration) ([]byte, error) {
	return ca.signEdge(r.csr, r.Identity, ttl, certs.JoinedAt(r.Old))
}
