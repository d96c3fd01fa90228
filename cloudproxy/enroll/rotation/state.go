package rotation

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

const (
	keyNextCert = "next.crt"
	keyNextKey  = "next.key"
	keyPhase    = "phase"
	keyRetired  = "retired.crt"
	keyLinks    = "links.crt"
	keyBrought  = "next.brought"

	// A Secret with this label has a CA that Skerry made.
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "skerry"

	// maxKept bounds the CAs that are remembered. Who was off during more rotations
	// than that has to join again.
	maxKept = 8
)

// SecretName is that of the Secret, in the proxy's namespace.
const SecretName = "skerry-ca"

// Phase is how far a rotation is.
type Phase string

// The phases.
const (
	Idle  Phase = ""
	Trust Phase = "trust"
	Move  Phase = "move"
)

// State is what the Secret says. It is not changed once it is there.
type State struct {
	Phase Phase
	// CA signs the proxies' certificates, and those of edges unless the phase is Move.
	CA *issuer.CA
	// Next is to take its place; nil when the phase is Idle.
	Next *issuer.CA
	// Brought and NextBrought say that an operator brought CA and Next; others are ours.
	Brought, NextBrought bool
	// Retired are CAs that were replaced, the last one first. Nothing trusts them; an
	// edge that has a certificate of one renews it if it has the key that is known.
	Retired []*x509.Certificate
	// Links lead from each CA to the next.
	Links []*x509.Certificate
}

// Parse reads the Secret.
func Parse(secret *corev1.Secret) (*State, error) {
	s := &State{Phase: Phase(secret.Data[keyPhase]), Brought: secret.Labels[labelManagedBy] != managedBy}
	var err error
	if s.CA, err = issuer.ParseCA(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return nil, err
	}
	switch s.Phase {
	case Idle:
	case Trust, Move:
		if s.Next, err = issuer.ParseCA(secret.Data[keyNextCert], secret.Data[keyNextKey]); err != nil {
			return nil, fmt.Errorf("next ca: %w", err)
		}
		s.NextBrought = len(secret.Data[keyBrought]) > 0
	default:
		return nil, fmt.Errorf("phase %q is none of a rotation of the ca", s.Phase)
	}
	if s.Retired, err = parseList(secret.Data[keyRetired]); err != nil {
		return nil, fmt.Errorf("%s: %w", keyRetired, err)
	}
	if s.Links, err = parseList(secret.Data[keyLinks]); err != nil {
		return nil, fmt.Errorf("%s: %w", keyLinks, err)
	}
	return s, nil
}

func parseList(text []byte) ([]*x509.Certificate, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	return certs.ParseBundle(text)
}

// Fill writes the state into a Secret; keys that are not of this package stay.
func (s *State) Fill(secret *corev1.Secret) error {
	data := map[string][]byte{keyPhase: []byte(s.Phase), keyBrought: nil}
	for _, of := range []struct {
		ca        *issuer.CA
		cert, key string
	}{{s.CA, corev1.TLSCertKey, corev1.TLSPrivateKeyKey}, {s.Next, keyNextCert, keyNextKey}} {
		data[of.cert], data[of.key] = nil, nil
		if of.ca == nil {
			continue
		}
		key, err := of.ca.KeyPEM()
		if err != nil {
			return err
		}
		data[of.cert], data[of.key] = of.ca.CertPEM(), key
	}
	if s.NextBrought {
		data[keyBrought] = []byte("true")
	}
	s.label(secret)
	data[keyRetired], data[keyLinks] = certs.EncodeBundle(s.Retired), certs.EncodeBundle(s.Links)
	if secret.Data == nil {
		secret.Data = make(map[string][]byte)
	}
	for key, value := range data {
		if len(value) == 0 {
			delete(secret.Data, key)
		} else {
			secret.Data[key] = value
		}
	}
	return nil
}

// label says whose the CA is. Of an operator's Secret another value is the operator's.
func (s *State) label(secret *corev1.Secret) {
	switch {
	case !s.Brought:
		if secret.Labels == nil {
			secret.Labels = make(map[string]string)
		}
		secret.Labels[labelManagedBy] = managedBy
	case secret.Labels[labelManagedBy] == managedBy:
		delete(secret.Labels, labelManagedBy)
	}
}

// Signer signs edges' certificates.
func (s *State) Signer() *issuer.CA {
	if s.Phase == Move {
		return s.Next
	}
	return s.CA
}

// Trusted are the CAs that edges are to trust, and whose edges are let in. The first is
// the one that signs the proxies' certificates.
func (s *State) Trusted() []*x509.Certificate {
	list := []*x509.Certificate{s.CA.Certificate()}
	if s.Next != nil {
		list = append(list, s.Next.Certificate())
	}
	return list
}

// Known are the CAs whose edges can renew: those that are trusted, and the retired ones.
func (s *State) Known() []*x509.Certificate { return append(s.Trusted(), s.Retired...) }

// News is how edges should stand.
func (s *State) News() certs.CANews {
	return certs.CANews{Trusted: certs.Fingerprints(s.Trusted()), Signer: s.Signer().Hash().String()}
}

// Rotated reports whether the CA was ever rotated: only then can edges stand otherwise
// than News says.
func (s *State) Rotated() bool { return s.Phase != Idle || len(s.Links) > 0 }

// Succession is what edges are told that trust nobody of Trusted.
func (s *State) Succession() certs.Succession {
	return certs.Succession{CAs: string(certs.EncodeBundle(s.Trusted())), Links: string(certs.EncodeBundle(s.Links))}
}

// Equal reports whether both say the same.
func (s *State) Equal(o *State) bool {
	same := func(a, b []*x509.Certificate) bool {
		return slices.EqualFunc(a, b, (*x509.Certificate).Equal)
	}
	return s.Phase == o.Phase && same(s.Trusted(), o.Trusted()) && same(s.Retired, o.Retired) && same(s.Links, o.Links)
}

// Follows reports whether edges that trust what prev says can come to trust s. If not,
// somebody has put a CA in place of the other without telling edges.
func (s *State) Follows(prev *State) bool {
	if slices.ContainsFunc(prev.Trusted(), func(c *x509.Certificate) bool { return certs.HashCA(c) == s.CA.Hash() }) {
		return true
	}
	found, err := certs.Follow(prev.Trusted(), s.Succession(), s.CA.Certificate().NotBefore)
	return err == nil && slices.ContainsFunc(found, s.CA.Certificate().Equal)
}

// PhaseError means that a step does not follow on the phase.
type PhaseError struct {
	Phase Phase
}

// Error says what there is.
func (e *PhaseError) Error() string {
	switch e.Phase {
	case Idle:
		return "no rotation of the CA is under way: begin one with --step add"
	case Trust:
		return "a new CA is there already and trusted: the next step is move"
	default:
		return "edges move to the new CA already: the next step is drop"
	}
}

// Add begins a rotation to a CA, which an operator may have brought.
func (s *State) Add(next *issuer.CA, brought bool) (*State, error) {
	if s.Phase != Idle {
		return nil, &PhaseError{s.Phase}
	}
	if next.Hash() == s.CA.Hash() && next.Certificate().Equal(s.CA.Certificate()) {
		return nil, errors.New("the new CA is the present one")
	}
	link, err := s.CA.Link(next.Certificate())
	if err != nil {
		return nil, err
	}
	return &State{
		Phase: Trust, CA: s.CA, Next: next, Brought: s.Brought, NextBrought: brought,
		Retired: s.Retired, Links: first(append([]*x509.Certificate{link}, s.Links...)),
	}, nil
}

// Move has edges' certificates signed by the new CA.
func (s *State) Move() (*State, error) {
	if s.Phase != Trust {
		return nil, &PhaseError{s.Phase}
	}
	next := *s
	next.Phase = Move
	return &next, nil
}

// Drop puts the new CA in the place of the old one. With distrust edges that have not
// moved can't renew, which is for an old one whose key somebody else has.
func (s *State) Drop(distrust bool) (*State, error) {
	if s.Phase != Move {
		return nil, &PhaseError{s.Phase}
	}
	next := &State{CA: s.Next, Brought: s.NextBrought, Links: s.Links}
	if !distrust {
		next.Retired = first(append([]*x509.Certificate{s.CA.Certificate()}, s.Retired...))
	}
	return next, nil
}

// Abandon ends a rotation before edges have moved.
func (s *State) Abandon() (*State, error) {
	if s.Phase != Trust {
		return nil, &PhaseError{s.Phase}
	}
	return &State{CA: s.CA, Brought: s.Brought, Retired: s.Retired, Links: s.Links[1:]}, nil
}

func first(list []*x509.Certificate) []*x509.Certificate { return list[:min(len(list), maxKept)] }
