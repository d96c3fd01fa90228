package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// newRequest makes a key of a type as corev1.PodCertificateProjection names them, and an
// empty PKCS#10 request (RFC 2986) that proves its possession. RSA keys take seconds.
func newRequest(keyType string) (*request, error) {
	key, err := newKey(keyType)
	if err != nil {
		return nil, fmt.Errorf("make a key of type %s: %w", keyType, err)
	}
	r := &request{}
	if r.DER, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
		return nil, fmt.Errorf("sign a certificate request: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	r.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return r, nil
}

func newKey(keyType string) (crypto.Signer, error) { //nolint:ireturn // one of three
	switch keyType {
	case "ED25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "ECDSAP256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSAP384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSAP521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RSA3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, fmt.Errorf("%q is not known to this agent", keyType)
	}
}

// certifies says whether a certificate is for the key of the request.
func (r *request) certifies(leaf *x509.Certificate) bool {
	csr, err := x509.ParseCertificateRequest(r.DER)
	if err != nil {
		return false
	}
	public, ok := csr.PublicKey.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && public.Equal(leaf.PublicKey)
}
