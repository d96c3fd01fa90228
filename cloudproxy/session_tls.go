package cloudproxy

import (
	"crypto/tls"
	"sync"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
	"github.com/skerry-io/skerry/tunnel"
)

// sessionTLS is the TLS of sessions as the CAs stand: each handshake takes the newest,
// and sessions that are there notice nothing. Tickets go with the CA: who has the key of
// one that was replaced could make some.
type sessionTLS struct {
	enroll *enroll.Service

	mu   sync.Mutex // guards the following fields
	of   *rotation.State
	conf *tls.Config
}

// config is what a listener takes.
func (s *sessionTLS) config() (*tls.Config, error) {
	now, err := s.current()
	if err != nil {
		return nil, err
	}
	conf := now.Clone()
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current() }
	return conf, nil
}

func (s *sessionTLS) current() (*tls.Config, error) {
	state := s.enroll.State()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == state && s.conf != nil {
		return s.conf, nil
	}
	secret, err := state.CA.Derive("session tickets")
	if err != nil {
		return nil, err
	}
	conf, err := certs.ServerTLS(certs.ServerConfig{
		GetCertificate: s.enroll.GetCertificate,
		ClientCAs:      certs.Pool(state.Trusted()),
		Cluster:        s.enroll.Cluster(),
		NextProtos:     []string{tunnel.ALPN},
		TicketSecret:   secret,
	})
	if err != nil {
		return nil, err
	}
	s.of, s.conf = state, conf
	return conf, nil
}
