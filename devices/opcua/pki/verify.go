package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// RejectedError says which certificate of a server is not believed, and why.
type RejectedError struct {
	Fingerprint string // SHA-256 of the leaf, hexadecimal
	Subject     string
	Reason      string
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("certificate of %s (SHA-256 %s) rejected: %s", e.Subject, e.Fingerprint, e.Reason)
}

// RejectedFingerprint is what to trust if the server is the right one.
func (e *RejectedError) RejectedFingerprint() string { return e.Fingerprint }

// Verify decides about a server's certificate: chain is the leaf and maybe its
// issuers, DER, one behind the other; host is what was dialled, uri the server's
// ApplicationUri. It gives the leaf's DER, or a *RejectedError; what was rejected is
// kept.
//
// A certificate that is trusted itself, by fingerprint or file, may have another
// host name: it was looked at. One that is trusted for its issuer may not. Time and
// application URI are checked for both.
func (s *Store) Verify(chain []byte, more Trust, host, uri string) ([]byte, error) {
	certs, err := x509.ParseCertificates(chain)
	if err != nil || len(certs) == 0 {
		if err == nil {
			err = errors.New("none")
		}
		return nil, &RejectedError{Fingerprint(chain), "an unknown server", "not an X.509 certificate: " + err.Error()}
	}
	leaf := certs[0]
	if err := verify(certs, s.trust(more), host, uri); err != nil {
		s.reject(leaf.Raw)
		return nil, &RejectedError{Fingerprint(leaf.Raw), leaf.Subject.String(), err.Error()}
	}
	return leaf.Raw, nil
}

func verify(certs []*x509.Certificate, t Trust, host, uri string) error {
	leaf, now := certs[0], time.Now()
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); !ok || key.Size() < 2048/8 {
		return errors.New("its key is not RSA of at least 2048 bits")
	}
	switch {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("it is valid from %s, and the edge's clock says %s", leaf.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it expired at %s; renew it at the server", leaf.NotAfter.Format(time.RFC3339))
	}
	if uri != "" && !hasURI(leaf, uri) {
		return fmt.Errorf("it is not for application %q", uri)
	}
	if slices.Contains(t.Fingerprints, Fingerprint(leaf.Raw)) {
		return nil
	}
	if err := chained(certs, t, now); err != nil {
		return err
	}
	return forHost(leaf, host)
}

// hasURI compares as text, since application URIs need not be proper URLs.
func hasURI(leaf *x509.Certificate, uri string) bool {
	for _, u := range leaf.URIs {
		if u.String() == uri || u.Opaque != "" && u.Scheme+":"+u.Opaque == uri {
			return true
		}
	}
	return false
}

// chained wants a way from the leaf to an issuer in t, with nothing on it revoked.
func chained(certs []*x509.Certificate, t Trust, now time.Time) error {
	if len(t.Issuers) == 0 {
		return errors.New("nobody trusts it")
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range t.Issuers {
		roots.AddCert(c)
	}
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("nobody trusts it or its issuer (%w)", err)
	}
	for _, chain := range chains {
		if err = unrevoked(chain, t.Revocations); err == nil {
			return nil
		}
	}
	return err
}

func unrevoked(chain []*x509.Certificate, lists []*x509.RevocationList) error {
	for i, cert := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		for _, list := range lists {
			if !bytes.Equal(list.RawIssuer, issuer.RawSubject) || list.CheckSignatureFrom(issuer) != nil {
				continue
			}
			for _, entry := range list.RevokedCertificateEntries {
				if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
					return fmt.Errorf("its issuer revoked %s at %s", cert.Subject, entry.RevocationTime.Format(time.RFC3339))
				}
			}
		}
	}
	return nil
}

func forHost(leaf *x509.Certificate, host string) error {
	if ip := net.ParseIP(host); ip != nil {
		if slices.ContainsFunc(leaf.IPAddresses, ip.Equal) || slices.Contains(leaf.DNSNames, host) {
			return nil
		}
	} else if slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return strings.EqualFold(n, host) }) {
		return nil
	}
	return fmt.Errorf("it is for %v %v, not for %q; trust its fingerprint if it is the right server", leaf.DNSNames, leaf.IPAddresses, host)
}
