package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// SuccessionPath is where the proxy answers a GET, of anybody, with a Succession as
// JSON. It needs no trust in who answers: signatures prove what it says.
const SuccessionPath = "/ca/v1"

// maxLinks bounds the signatures that are checked of what a stranger sent.
const maxLinks = 16

// Succession tells who took a CA's place. It is for an edge that was offline while
// the CA was rotated, and trusts none of those who speak for the cloud now.
type Succession struct {
	// CAs is the present bundle, in PEM form.
	CAs string `json:"cas"`
	// Links are certificates in PEM form, each of a CA's name and key, signed by
	// the CA before it.
	Links string `json:"links"`
}

// ErrNoSuccession means that nothing leads from the CAs that are trusted to others.
var ErrNoSuccession = errors.New("no CA that is trusted has named a successor")

// Follow gives those CAs of s to which a chain of links leads from the trusted ones,
// as far as they are not trusted already. A link is a statement, not a part of a
// certificate chain: a CA that may sign leaves only can make it as well. That a link
// has not begun counts for nothing, since the clock of a machine that was off may be
// behind; one that has ended by now is void.
func Follow(trusted []*x509.Certificate, s Succession, now time.Time) ([]*x509.Certificate, error) {
	cas, err := ParseBundle([]byte(s.CAs))
	if err != nil {
		return nil, fmt.Errorf("succession: CAs: %w", err)
	}
	links, err := ParseBundle([]byte(s.Links))
	if err != nil {
		return nil, fmt.Errorf("succession: links: %w", err)
	}
	if len(cas) > maxLinks || len(links) > maxLinks {
		return nil, fmt.Errorf("succession: %d CAs and %d links, more than %d", len(cas), len(links), maxLinks)
	}
	reached := slices.Clone(trusted)
	for again := true; again; {
		again = false
		for _, link := range links {
			if now.After(link.NotAfter) || !link.IsCA || !link.BasicConstraintsValid || isAmong(link, reached) {
				continue
			}
			if SignerOf(link, reached) != nil {
				reached, again = append(reached, link), true
			}
		}
	}
	var found []*x509.Certificate
	for _, ca := range cas {
		if ca.IsCA && ca.BasicConstraintsValid && !isAmong(ca, trusted) && isAmong(ca, reached) {
			found = append(found, ca)
		}
	}
	if len(found) == 0 {
		return nil, ErrNoSuccession
	}
	return found, nil
}

// isAmong looks for the name and key of a CA.
func isAmong(ca *x509.Certificate, list []*x509.Certificate) bool {
	return slices.ContainsFunc(list, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubject, ca.RawSubject) && bytes.Equal(c.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo)
	})
}
