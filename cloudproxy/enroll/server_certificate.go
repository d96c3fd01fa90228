package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/skerry-io/skerry/certs/issuer"
)

// retryRenewal is how soon a failed renewal is tried again. Ten days are left at
// that point, so there is no hurry.
const retryRenewal = time.Hour

type serverCertificate struct {
	pair  *tls.Certificate
	renew time.Time
}

// ServerCertificate gives the proxy's own certificate with the CA behind it, nil
// before Prepare. It changes when it is renewed: use it through GetCertificate.
func (s *Service) ServerCertificate() *tls.Certificate {
	if auth := s.identity.Load(); auth != nil {
		return auth.server.Load().pair
	}
	return nil
}

// GetCertificate fits tls.Config.
func (s *Service) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := s.ServerCertificate(); pair != nil {
		return pair, nil
	}
	return nil, errors.New("enrolment is not ready")
}

// renewServerCertificate signs a new one. The next is due at two thirds of its life.
func (s *Service) renewServerCertificate(auth *authority) error {
	names := append([]string(nil), s.cfg.Names...)
	for _, addr := range s.cfg.Advertise {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		names = append(names, host)
	}
	pair, err := auth.state.CA.SignServer(issuer.ServerRequest{Cluster: auth.cluster, Names: names})
	if err != nil {
		return err
	}
	now := time.Now()
	renew := now.Add(pair.Leaf.NotAfter.Sub(now) * 2 / 3)
	auth.server.Store(&serverCertificate{pair, renew})
	return nil
}

// keepServerCertificate renews the one in use. A change of the CA brings its own.
func (s *Service) keepServerCertificate(ctx context.Context) error {
	var retry time.Time
	for {
		changed, auth := s.Changed(), s.identity.Load()
		due := auth.server.Load().renew
		if due.Before(retry) {
			due = retry
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
			continue
		case <-timer.C:
		}
		if err := s.renewServerCertificate(auth); err != nil {
			s.log.Error("server certificate not renewed", "err", err)
			retry = time.Now().Add(retryRenewal)
			continue
		}
		s.log.Info("server certificate renewed", "not_after", s.ServerCertificate().Leaf.NotAfter)
	}
}
