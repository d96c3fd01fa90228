package edgeagent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// renewTimeout bounds one try: a few round trips on the worst link.
	renewTimeout = 45 * time.Second
	// maxRenewPause bounds the wait between looks and between tries. The clock may be
	// corrected, and whoever runs the cloud may have mended it.
	maxRenewPause = time.Hour
)

// renewer gets this edge's next certificate when two thirds of the present one's life
// are over: by the session that there is, and when there is none since the certificate
// has expired, by HTTPS. When that is, the clock decides that the cloud tells.
type renewer struct {
	keys    *certs.KeyPairFile
	clock   *certs.Clock
	version string
	// dial opens a stream to the cloud when there is a session; connected tells.
	dial      func(ctx context.Context, kind wire.Kind) (net.Conn, error)
	connected func() bool
	changed   func() <-chan struct{}
	// refused, of capacity 1, gets something when the cloud has refused the certificate: it
	// may have expired though it has not by what is known here.
	refused chan struct{}
	// post asks the proxy without a session.
	post bootstrap.Ask
	// trust keeps the answer where the next agent finds it, too.
	trust *trust
	log   *slog.Logger
	// turn, of capacity 1, is held by who renews.
	turn chan struct{}
}

// run renews until ctx ends.
func (r *renewer) run(ctx context.Context) error {
	var (
		refused bool          // the cloud says that the certificate is good no more
		pause   time.Duration // of which the last wait after a failure was
		next    time.Time     // of the next try
	)
	for {
		changed := r.changed()
		leaf := r.keys.Current().Leaf
		life, now := leaf.NotAfter.Sub(leaf.NotBefore), r.clock.Now()
		due := leaf.NotBefore.Add(life * 2 / 3)
		expired := refused || now.After(leaf.NotAfter)
		wait := maxRenewPause
		switch {
		case !expired && now.Before(due):
			wait = min(wait, due.Sub(now))
		case !expired && !r.connected():
			wait = min(wait, leaf.NotAfter.Sub(now)+time.Second)
		case time.Now().Before(next):
			wait = time.Until(next)
		default:
			refused = false
			if err := r.renew(ctx); err == nil {
				pause = 0
				continue
			} else if ctx.Err() == nil {
				pause = min(max(2*pause, life/60), maxRenewPause)
				wait = pause/2 + rand.N(pause)
				next = time.Now().Add(wait)
				r.tell(err, leaf, wait)
			}
		}
		select {
		case <-time.After(wait):
		case <-changed:
		case <-r.refused:
			refused = true
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *renewer) tell(err error, leaf *x509.Certificate, pause time.Duration) {
	log := r.log.With("error", err, "not_after", leaf.NotAfter, "retry_in", pause)
	if refused, ok := errors.AsType[*bootstrap.RefusedError](err); ok && !refused.Code.Temporary() {
		log.Error("the cloud refuses to renew the certificate; if that stays so, run `skerry join --force` with a new token")
		return
	}
	log.Warn("certificate can't be renewed now")
}

func (r *renewer) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ask := r.throughSession
	if !r.connected() {
		ask = r.post
	}
	renewed, err := bootstrap.Renew(ctx, r.keys.Current(), r.version, ask)
	if err != nil {
		return err
	}
	if err := r.trust.keep(renewed); err != nil {
		return err
	}
	if err := r.keys.Replaced(); err != nil {
		return err
	}
	r.log.Info("certificate renewed", "not_after", renewed.Leaf.NotAfter)
	return nil
}

// throughSession is a bootstrap.Ask.
func (r *renewer) throughSession(ctx context.Context, request []byte) ([]byte, error) {
	conn, err := r.dial(ctx, wire.KindRenewal)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // all of it was read, or is of no use
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(request); err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return nil, fmt.Errorf("ask: %w", err)
		}
	}
	return bootstrap.ReadAnswer(conn)
}

// byHTTPS asks the proxy at server; who it is, the same trust says as for sessions. This
// edge needs to show nothing: the request is signed.
func byHTTPS(server string, trust func() certs.ClientConfig) bootstrap.Ask {
	return func(ctx context.Context, request []byte) ([]byte, error) {
		cfg := trust()
		cfg.NextProtos = []string{"http/1.1"}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		cfg.SessionCache = nil
		conf, err := certs.ClientTLS(cfg)
		if err != nil {
			return nil, err
		}
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, DisableKeepAlives: true}
		client := &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+server+certs.RenewPath, bytes.NewReader(request))
		if err != nil {
			return nil, fmt.Errorf("server %q: %w", server, err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close() //nolint:errcheck // all of it was read, or is of no use
		if resp.StatusCode == http.StatusNotFound {
			return nil, errors.New("the cloud proxy is too old to renew certificates: upgrade it")
		}
		return bootstrap.ReadAnswer(resp.Body)
	}
}
