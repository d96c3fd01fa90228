package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const maxRejected = 64

// Store is the directory. Its methods may be called from many goroutines.
type Store struct {
	dir string
	own *Own
	mu  sync.Mutex // guards the directory rejected
}

// Open makes the directory if need be, and the own certificate for an application
// called name. It fails when files are there that cannot be used.
func Open(dir, name string) (*Store, error) {
	for _, sub := range []string{"own", "trusted", "issuers", "rejected"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	own, err := loadOwn(dir, name)
	if err != nil {
		return nil, err
	}
	return &Store{dir: dir, own: own}, nil
}

// Own is this edge's certificate.
func (s *Store) Own() *Own { return s.own }

// Fingerprint is the SHA-256 of a certificate (DER) in hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// normal takes fingerprints as people write them.
func normal(fingerprint string) string {
	return strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(fingerprint))
}

// Trust is what one device's configuration trusts besides the store.
type Trust struct {
	Fingerprints []string // SHA-256, hexadecimal, colons may be between
	Issuers      []*x509.Certificate
	Revocations  []*x509.RevocationList
}

// ParseTrust reads certificates of issuers and revocation lists, both PEM.
func ParseTrust(fingerprints []string, issuers, revocations []byte) (Trust, error) {
	t := Trust{Fingerprints: fingerprints}
	for block, rest := pem.Decode(issuers); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return t, fmt.Errorf("ca.crt: %w", err)
		}
		t.Issuers = append(t.Issuers, cert)
	}
	for block, rest := pem.Decode(revocations); block != nil; block, rest = pem.Decode(rest) {
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return t, fmt.Errorf("ca.crl: %w", err)
		}
		t.Revocations = append(t.Revocations, list)
	}
	if len(issuers) > 0 && len(t.Issuers) == 0 {
		return t, fmt.Errorf("ca.crt: no certificate in PEM")
	}
	return t, nil
}

// files reads the store's part of the trust anew, so that an operator's change
// holds at the next connection. A file that can't be read trusts nothing.
func (s *Store) files() Trust {
	var t Trust
	each := func(sub string, f func(der []byte)) {
		entries, _ := os.ReadDir(filepath.Join(s.dir, sub))
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(s.dir, sub, e.Name()))
			if err != nil {
				continue
			}
			if block, _ := pem.Decode(b); block != nil {
				b = block.Bytes
			}
			f(b)
		}
	}
	each("trusted", func(der []byte) { t.Fingerprints = append(t.Fingerprints, Fingerprint(der)) })
	each("issuers", func(der []byte) {
		if cert, err := x509.ParseCertificate(der); err == nil {
			t.Issuers = append(t.Issuers, cert)
		} else if list, err := x509.ParseRevocationList(der); err == nil {
			t.Revocations = append(t.Revocations, list)
		}
	})
	return t
}

func (s *Store) trust(more Trust) Trust {
	t := s.files()
	t.Fingerprints = append(t.Fingerprints, more.Fingerprints...)
	t.Issuers = append(t.Issuers, more.Issuers...)
	t.Revocations = append(t.Revocations, more.Revocations...)
	for i, f := range t.Fingerprints {
		t.Fingerprints[i] = normal(f)
	}
	return t
}

// reject keeps a certificate for whoever wants to look at it.
func (s *Store) reject(der []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, "rejected")
	name := Fingerprint(der) + ".der"
	if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
		return
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) >= maxRejected {
		oldest := slices.MinFunc(entries, func(a, b os.DirEntry) int {
			ai, aerr := a.Info()
			bi, berr := b.Info()
			if aerr != nil || berr != nil {
				return 0
			}
			return ai.ModTime().Compare(bi.ModTime())
		})
		_ = os.Remove(filepath.Join(dir, oldest.Name()))
	}
	_ = writeFile(filepath.Join(dir, name), der, 0o644) // for people only: the device's status has the fingerprint
}
