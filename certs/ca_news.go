package certs

import (
	"crypto/x509"
	"slices"
)

// CANews is what the cloud says on a renewal stream that it opens, as JSON: how the
// edge should stand. An edge that stands otherwise renews, which brings it both, and
// then answers with a CAState.
type CANews struct {
	// Trusted are the fingerprints of the CAs that the cloud's renewals name.
	Trusted []string `json:"trusted"`
	// Signer is the CAHash of the one that signs edges' certificates.
	Signer string `json:"signer"`
}

// CAState is how an edge stands, with all of it on its disk.
type CAState struct {
	// Certificate is its own, in PEM form.
	Certificate string `json:"certificate"`
	// Trusted are the fingerprints of the CAs that it trusts.
	Trusted []string `json:"trusted"`
	// Problem is why it could not come to stand as it was told; empty if it does.
	Problem string `json:"problem,omitempty"`
}

// Meets reports whether an edge that trusts these CAs and has this certificate
// stands as the cloud says.
func (n CANews) Meets(trusted []*x509.Certificate, leaf *x509.Certificate) bool {
	signer := SignerOf(leaf, trusted)
	return signer != nil && HashCA(signer).String() == n.Signer && SameSet(Fingerprints(trusted), n.Trusted)
}

// SameSet reports whether two lists hold the same, in whatever order.
func SameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
