package bootstrap

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/skerry-io/skerry/certs"
)

// Renewed is what a renewal gave, in PEM form.
type Renewed struct {
	Certificate, CA []byte
	// Leaf is the certificate.
	Leaf *x509.Certificate
}

// Ask carries a certs.RenewRequest to a proxy, and its answer back; both are JSON.
type Ask func(ctx context.Context, request []byte) (answer []byte, err error)

// Renew gets the next certificate for a key pair, with the same identity and for the
// same key, so that one file is replaced by one rename. A *RefusedError is the proxy's
// last word unless its code is temporary; all other errors are worth another try.
func Renew(ctx context.Context, pair *tls.Certificate, agentVersion string, ask Ask) (Renewed, error) {
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || pair.Leaf == nil {
		return Renewed{}, errors.New("renew: the key pair can't sign")
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return Renewed{}, fmt.Errorf("renew: make certificate request: %w", err)
	}
	request, err := json.Marshal(certs.RenewRequest{
		Certificate:  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})),
		CSR:          string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
		AgentVersion: agentVersion,
	})
	if err != nil {
		return Renewed{}, fmt.Errorf("renew: encode request: %w", err)
	}
	raw, err := ask(ctx, request)
	if err != nil {
		return Renewed{}, fmt.Errorf("renew: %w", err)
	}
	var answer certs.RenewAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		return Renewed{}, fmt.Errorf("renew: the proxy's answer can't be read: %w", err)
	}
	switch {
	case answer.Refused != nil:
		return Renewed{}, &RefusedError{Code: answer.Refused.Code, Text: printable(answer.Refused.Text)}
	case answer.Granted == nil:
		return Renewed{}, errors.New("renew: the proxy's answer is empty")
	}
	renewed, err := checkRenewed(pair.Leaf, answer.Granted)
	if err != nil {
		return Renewed{}, fmt.Errorf("renew: the proxy's answer is not usable: %w", err)
	}
	return renewed, nil
}

// checkRenewed makes sure that what replaces a working certificate works as well: for
// its time the certificate's own is taken, since the edge's clock may be wrong.
func checkRenewed(old *x509.Certificate, resp *certs.EnrollResponse) (Renewed, error) {
	leaves, err := certs.ParseBundle([]byte(resp.Certificate))
	if err != nil {
		return Renewed{}, fmt.Errorf("certificate: %w", err)
	}
	leaf := leaves[0]
	if key, ok := old.PublicKey.(interface{ Equal(x crypto.PublicKey) bool }); !ok || !key.Equal(leaf.PublicKey) {
		return Renewed{}, errors.New("the certificate is for another key")
	}
	before, err := certs.CertificateIdentity(old)
	if err != nil {
		return Renewed{}, err
	}
	if id, err := certs.CertificateIdentity(leaf); err != nil || id != before {
		return Renewed{}, fmt.Errorf("the certificate is for %s, want %s", id, before)
	}
	cas, err := certs.ParseBundle([]byte(resp.CA))
	if err != nil {
		return Renewed{}, fmt.Errorf("CA: %w", err)
	}
	if slices.ContainsFunc(cas, func(ca *x509.Certificate) bool { return !ca.IsCA }) {
		return Renewed{}, errors.New("the CA bundle holds a certificate that is no CA")
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: certs.Pool(cas), CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return Renewed{}, fmt.Errorf("certificate: %w", err)
	}
	// Another CA may end sooner, and what it signs with it.
	if leaf.NotAfter.Before(old.NotAfter) && certs.SignerOf(old, []*x509.Certificate{certs.SignerOf(leaf, cas)}) != nil {
		return Renewed{}, fmt.Errorf("the certificate ends %s, sooner than the one before", leaf.NotAfter.UTC())
	}
	return Renewed{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), CA: certs.EncodeBundle(cas), Leaf: leaf,
	}, nil
}

// ReadAnswer reads an answer of a proxy, whose length nobody vouches for.
func ReadAnswer(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, certs.MaxEnrollBody+1))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if len(b) > certs.MaxEnrollBody {
		return nil, fmt.Errorf("the answer is larger than %d bytes", certs.MaxEnrollBody)
	}
	return b, nil
}
