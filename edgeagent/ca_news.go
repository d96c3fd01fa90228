package edgeagent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
)

// newsTimeout bounds one conversation about the CA: a renewal, and what is round it.
const newsTimeout = renewTimeout + 15*time.Second

// serveNews answers the streams by which the cloud tells how this edge should stand
// with CAs. One at a time is enough, and two renewals at once would be of no use.
func (r *renewer) serveNews(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.news(ctx, conn); err != nil && ctx.Err() == nil {
			r.log.Warn("what the cloud tells of its CA can't be answered", "error", err)
		}
	}
}

func (r *renewer) news(ctx context.Context, conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // what was written is on its way
	if err := conn.SetDeadline(time.Now().Add(newsTimeout)); err != nil {
		return err
	}
	var told certs.CANews
	if err := json.NewDecoder(io.LimitReader(conn, certs.MaxEnrollBody)).Decode(&told); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	var problem string
	if !told.Meets(r.trust.cas(), r.keys.Current().Leaf) {
		r.log.Info("the cloud's CA changes, the certificate is renewed", "signer", told.Signer)
		if err := r.renew(ctx); err != nil {
			problem = err.Error()
		}
	}
	return json.NewEncoder(conn).Encode(r.state(problem))
}

// state is how this edge stands.
func (r *renewer) state(problem string) certs.CAState {
	return certs.CAState{
		Certificate: string(certs.EncodeBundle([]*x509.Certificate{r.keys.Current().Leaf})),
		Trusted:     certs.Fingerprints(r.trust.cas()),
		Problem:     problem,
	}
}

// successor asks at server who took the place of the CA, which needs no trust in who
// answers, and reports whether that was news. It is for an edge that was off, or out of
// reach, while the CA was rotated.
func (t *trust) successor(ctx context.Context, server string, clock *certs.Clock) (bool, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}, // signatures prove the answer
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+server+certs.SuccessionPath, http.NoBody)
	if err != nil {
		return false, fmt.Errorf("server %q: %w", server, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // all of it was read, or is of no use
	body, err := bootstrap.ReadAnswer(resp.Body)
	if err != nil {
		return false, err
	}
	var said certs.Succession
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("ask for the CA's successor: %s", resp.Status)
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return false, fmt.Errorf("ask for the CA's successor: the answer can't be read: %w", err)
	}
	found, err := t.follow(said, clock.Now())
	return err == nil && len(found) > 0, err
}
