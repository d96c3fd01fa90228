package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	scheme    = "skerry"
	nodePath  = "/node/"
	proxyPath = "/cloudproxy"

	// ProxyServerName is a DNS name that every cloud proxy's certificate holds
	// beside its public names. An edge verifies the session against it, so that
	// a moved or renamed proxy address needs no new certificate and no new join.
	// No DNS server ever answers for it (RFC 6761 keeps .internal names private).
	ProxyServerName = "cloudproxy.skerry.internal"

	maxNodeName = 253 // a DNS-1123 subdomain, the rule for Node names
	maxLabel    = 63
)

// ErrNoIdentity means that the peer showed no verified certificate with exactly
// one well-formed Skerry identity.
var ErrNoIdentity = errors.New("no skerry identity in the peer's certificate")

// Identity is what a certificate says about its holder. A node has both fields,
// the cloud proxy has an empty Node.
type Identity struct {
	// Cluster is the UID of the cluster's kube-system namespace.
	Cluster string
	// Node is the Kubernetes node name; empty means the cloud proxy.
	Node string
}

// IsProxy reports whether the holder is the cloud proxy.
func (id Identity) IsProxy() bool { return id.Cluster != "" && id.Node == "" }

// String gives the URI form, skerry://CLUSTER/node/NAME or skerry://CLUSTER/cloudproxy.
func (id Identity) String() string {
	if id.Node == "" {
		return scheme + "://" + id.Cluster + proxyPath
	}
	return scheme + "://" + id.Cluster + nodePath + id.Node
}

// URI gives the SAN to put into a certificate. It fails when the identity could
// not be parsed back.
func (id Identity) URI() (*url.URL, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	path := proxyPath
	if id.Node != "" {
		path = nodePath + id.Node
	}
	return &url.URL{Scheme: scheme, Host: id.Cluster, Path: path}, nil
}

// Validate checks both names.
func (id Identity) Validate() error {
	if !validLabel(id.Cluster) {
		return fmt.Errorf("cluster id %q is not a DNS label", id.Cluster)
	}
	if id.Node == "" {
		return nil
	}
	return ValidateNodeName(id.Node)
}

// ParseIdentity reads the URI form. It accepts exactly what String writes.
func ParseIdentity(s string) (Identity, error) {
	rest, ok := strings.CutPrefix(s, scheme+"://")
	if !ok {
		return Identity{}, fmt.Errorf("identity %q does not start with %s://", s, scheme)
	}
	cluster, path, ok := strings.Cut(rest, "/")
	if !ok {
		return Identity{}, fmt.Errorf("identity %q has no path", s)
	}
	id := Identity{Cluster: cluster}
	if path = "/" + path; path != proxyPath {
		if id.Node, ok = strings.CutPrefix(path, nodePath); !ok {
			return Identity{}, fmt.Errorf("identity %q is neither a node's nor the proxy's", s)
		}
		if err := ValidateNodeName(id.Node); err != nil {
			return Identity{}, fmt.Errorf("identity %q: %w", s, err)
		}
	}
	if err := id.Validate(); err != nil {
		return Identity{}, fmt.Errorf("identity %q: %w", s, err)
	}
	return id, nil
}

// CertificateIdentity reads the identity that a certificate names. It trusts
// nothing by itself: whether the certificate may say so is the chain's matter.
func CertificateIdentity(cert *x509.Certificate) (Identity, error) {
	var found *url.URL
	for _, u := range cert.URIs {
		if u.Scheme != scheme {
			continue
		}
		// Two identities in one certificate would let each reader pick another.
		if found != nil {
			return Identity{}, fmt.Errorf("%w: more than one identity", ErrNoIdentity)
		}
		found = u
	}
	if found == nil {
		return Identity{}, ErrNoIdentity
	}
	id, err := ParseIdentity(found.String())
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	return id, nil
}

// JoinedAt is when the edge joined that a certificate is of. A renewal keeps it, so that a
// revocation up to some moment holds for all certificates that descend from those signed
// until then, whenever they were renewed. It is in the subject's serialNumber (RFC 4519,
// section 2.31), as of RFC 3339; a certificate without one was signed at the join.
func JoinedAt(cert *x509.Certificate) time.Time {
	at, err := time.Parse(time.RFC3339, cert.Subject.SerialNumber)
	if err != nil || at.After(cert.NotBefore) {
		return cert.NotBefore
	}
	return at
}

// PeerIdentity gives the identity of the peer of a finished handshake. A state
// without a verified chain has none, whatever its certificates say.
func PeerIdentity(state tls.ConnectionState) (Identity, error) {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return Identity{}, fmt.Errorf("%w: no verified chain", ErrNoIdentity)
	}
	return CertificateIdentity(state.VerifiedChains[0][0])
}

// ValidateNodeName checks that name is a DNS-1123 subdomain of at most 253
// characters, the rule that Kubernetes has for the names of Nodes.
func ValidateNodeName(name string) error {
	if name == "" {
		return errors.New("node name is empty")
	}
	if len(name) > maxNodeName {
		return fmt.Errorf("node name has %d characters, at most %d are allowed", len(name), maxNodeName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validSubdomainPart(label) {
			return fmt.Errorf("node name %q must be lower-case letters, digits, '-' and '.', "+
				"and every part must start and end with a letter or digit", name)
		}
	}
	return nil
}

func validLabel(s string) bool { return len(s) <= maxLabel && validSubdomainPart(s) }

// validSubdomainPart has no length limit of its own: Kubernetes limits the whole
// name only.
func validSubdomainPart(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
