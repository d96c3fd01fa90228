package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// ErrRevoked means that the peer's certificate was revoked.
var ErrRevoked = errors.New("certificate was revoked")

// ServerConfig is what ServerTLS needs.
type ServerConfig struct {
	// GetCertificate gives this side's certificate, see KeyPairFile.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ClientCAs signs the peers.
	ClientCAs *x509.CertPool
	// Cluster is the only cluster whose nodes are let in.
	Cluster string
	// NextProtos are the ALPN names; at least one.
	NextProtos []string
	// Revoked refuses a certificate of a verified identity; nil refuses none.
	Revoked func(Identity, *x509.Certificate) bool
	// TicketSecret lets sessions be resumed at every server that has the same, also
	// after a restart; all zero means at this one while it runs.
	TicketSecret [32]byte
}

// ServerTLS builds the cloud side of the mutual handshake: TLS 1.3 only, and only
// nodes of this cluster with a valid certificate that is not revoked get through.
func ServerTLS(cfg ServerConfig) (*tls.Config, error) {
	switch {
	case cfg.GetCertificate == nil:
		return nil, errors.New("server tls: GetCertificate is missing")
	case cfg.ClientCAs == nil:
		// A nil pool would mean the CAs of the operating system.
		return nil, errors.New("server tls: ClientCAs is missing")
	case cfg.Cluster == "":
		return nil, errors.New("server tls: Cluster is missing")
	case len(cfg.NextProtos) == 0:
		return nil, errors.New("server tls: NextProtos is missing")
	}
	conf := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		NextProtos:       cfg.NextProtos,
		GetCertificate:   cfg.GetCertificate,
		ClientAuth:       tls.RequireAndVerifyClientCert,
		ClientCAs:        cfg.ClientCAs,
		VerifyConnection: verifier{cluster: cfg.Cluster, revoked: cfg.Revoked}.verify,
	}
	if cfg.TicketSecret != ([32]byte{}) {
		t := newTickets(cfg.TicketSecret)
		conf.WrapSession, conf.UnwrapSession = t.wrap, t.unwrap
	}
	return conf, nil
}

// ClientConfig is what ClientTLS needs.
type ClientConfig struct {
	// GetClientCertificate gives this side's certificate, see KeyPairFile.
	GetClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// RootCAs signs the proxy.
	RootCAs *x509.CertPool
	// Cluster is the cluster that the proxy must belong to.
	Cluster string
	// NextProtos are the ALPN names; at least one.
	NextProtos []string
	// ServerName is sent as SNI and must be in the proxy's certificate; empty
	// means ProxyServerName, which every proxy's certificate holds.
	ServerName string
	// SessionCache makes resumption possible; nil means none. A session is resumed
	// only with the certificate with which it began.
	SessionCache tls.ClientSessionCache
	// Clock is by what certificates are checked; nil means time.Now.
	Clock *Clock
}

// ClientTLS builds the edge side of the mutual handshake: TLS 1.3 only, and the
// peer must be the proxy of this edge's cluster.
func ClientTLS(cfg ClientConfig) (*tls.Config, error) {
	switch {
	case cfg.GetClientCertificate == nil:
		return nil, errors.New("client tls: GetClientCertificate is missing")
	case cfg.RootCAs == nil:
		return nil, errors.New("client tls: RootCAs is missing")
	case cfg.Cluster == "":
		return nil, errors.New("client tls: Cluster is missing")
	case len(cfg.NextProtos) == 0:
		return nil, errors.New("client tls: NextProtos is missing")
	}
	if cfg.ServerName == "" {
		cfg.ServerName = ProxyServerName
	}
	conf := &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           cfg.NextProtos,
		GetClientCertificate: cfg.GetClientCertificate,
		RootCAs:              cfg.RootCAs,
		ServerName:           cfg.ServerName,
	}
	v := verifier{cluster: cfg.Cluster, wantProxy: true}
	if cfg.Clock != nil {
		conf.Time, v.now = cfg.Clock.Now, cfg.Clock.Now
	}
	conf.VerifyConnection = v.verify
	if cfg.SessionCache != nil {
		conf.ClientSessionCache = sessionCache{cfg.SessionCache, cfg.GetClientCertificate}
	}
	return conf, nil
}

// verifier is what both sides check after the chain. crypto/tls calls
// VerifyConnection on every handshake, on resumed ones too (VerifyPeerCertificate
// it does not), so a ticket outlives neither a revocation nor the certificate.
type verifier struct {
	cluster   string
	wantProxy bool
	revoked   func(Identity, *x509.Certificate) bool
	now       func() time.Time // nil means time.Now
}

func (v verifier) verify(state tls.ConnectionState) error {
	id, err := PeerIdentity(state)
	if err != nil {
		return err
	}
	if id.Cluster != v.cluster {
		return fmt.Errorf("peer %s belongs to another cluster, this is %s", id, v.cluster)
	}
	if id.IsProxy() != v.wantProxy {
		return fmt.Errorf("peer %s has the wrong role", id)
	}
	leaf := state.VerifiedChains[0][0]
	now := time.Now
	if v.now != nil {
		now = v.now
	}
	if now().After(leaf.NotAfter) {
		return fmt.Errorf("certificate of %s expired %s", id, leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if v.revoked != nil && v.revoked(id, leaf) {
		return fmt.Errorf("%w: %s", ErrRevoked, id)
	}
	return nil
}
