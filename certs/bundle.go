package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

const pemCertificate = "CERTIFICATE"

// ParseBundle reads certificates in PEM form, at least one. Blocks of other types
// are an error: a bundle holds no keys.
func ParseBundle(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("unexpected PEM block %q", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, errors.New("not PEM")
	}
	return list, nil
}

// EncodeBundle writes certificates in PEM form.
func EncodeBundle(list []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, cert := range list {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw}))
	}
	return b.Bytes()
}

// Pool makes a pool of the certificates.
func Pool(list []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range list {
		pool.AddCert(cert)
	}
	return pool
}

// Fingerprint names a certificate: SHA-256 of all of it. Unlike a CAHash it tells a
// CA's certificate from a later one for the same key.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hashPrefix + hex.EncodeToString(sum[:])
}

// KeyHash names the key of a certificate: SHA-256 of its SubjectPublicKeyInfo. A renewal
// keeps it.
func KeyHash(cert *x509.Certificate) string { return HashCA(cert).String() }

// Fingerprints names each certificate of a bundle.
func Fingerprints(list []*x509.Certificate) []string {
	names := make([]string, 0, len(list))
	for _, cert := range list {
		names = append(names, Fingerprint(cert))
	}
	return names
}

// SignerOf gives that CA of the list which signed cert, or nil.
func SignerOf(cert *x509.Certificate, list []*x509.Certificate) *x509.Certificate {
	for _, ca := range list {
		if bytes.Equal(ca.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}
