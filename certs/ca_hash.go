package certs

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const hashPrefix = "sha256:"

// CAHash pins a CA by its public key: SHA-256 of the SubjectPublicKeyInfo, as
// kubeadm's --discovery-token-ca-cert-hash. The key is pinned, not the
// certificate, so that a CA certificate renewed with its key keeps the hash.
type CAHash [sha256.Size]byte

// HashCA gives the hash of a CA certificate.
func HashCA(ca *x509.Certificate) CAHash { return sha256.Sum256(ca.RawSubjectPublicKeyInfo) }

// ParseCAHash reads the sha256:HEX form.
func ParseCAHash(s string) (CAHash, error) {
	var h CAHash
	digits, ok := strings.CutPrefix(s, hashPrefix)
	if !ok {
		return h, fmt.Errorf("ca hash must start with %q", hashPrefix)
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(h) {
		return h, errors.New("ca hash must have 64 hexadecimal digits after \"sha256:\"")
	}
	copy(h[:], b)
	return h, nil
}

// String gives the sha256:HEX form.
func (h CAHash) String() string { return hashPrefix + hex.EncodeToString(h[:]) }

// Matches reports, in constant time, whether cert holds the pinned key and may
// sign certificates at all.
func (h CAHash) Matches(cert *x509.Certificate) bool {
	got := HashCA(cert)
	return subtle.ConstantTimeCompare(h[:], got[:]) == 1 && cert.IsCA && cert.BasicConstraintsValid
}
