package tunnel

import (
	"crypto/x509"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Peer is who the other side is, by its verified certificate. Before Dial has
// returned it is empty, as are Certificate and Welcome.
func (s *Session) Peer() certs.Identity { return s.peer }

// Certificate is what Peer was read from; in the cloud, that of the last carrier, for
// an edge renews its own. It must not be changed.
func (s *Session) Certificate() *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cert
}

// Hello is what the edge said when the session began.
func (s *Session) Hello() wire.Hello { return s.hello }

// Welcome is what the cloud answered.
func (s *Session) Welcome() wire.Welcome { return s.welcome }
