package enroll

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

// DefaultGrace is how long after its end a certificate can still be renewed.
const DefaultGrace = 90 * 24 * time.Hour

// renew gives an edge its next certificate. As is whom it has proved to be already, empty
// for nobody; it gets no other's, though it had the key. Nothing is counted or written: whoever has
// the key may ask as often as the limits let them, and gets no more than they have.
func (s *Service) renew(ctx context.Context, body io.Reader, as, from string) certs.RenewAnswer {
	granted, node, err := s.grant(ctx, body, as, from)
	if err == nil {
		return certs.RenewAnswer{Granted: granted}
	}
	var refusal *jointoken.Refusal
	if !errors.As(err, &refusal) {
		s.log.Error("renewal failed", "node", loggable(node), "from", from, "err", err)
		refusal = refuse(certs.CodeUnavailable, "the proxy can't answer now, try again")
	} else {
		s.log.Warn("renewal refused", "node", loggable(node), "from", from, "code", string(refusal.Code), "text", refusal.Text)
	}
	return certs.RenewAnswer{Refused: &certs.EnrollRefusal{Code: refusal.Code, Text: refusal.Text}}
}

func (s *Service) grant(ctx context.Context, body io.Reader, as, from string) (*certs.EnrollResponse, string, error) {
	auth := s.identity.Load()
	if auth == nil {
		return nil, "", errors.New("not ready")
	}
	var req certs.RenewRequest
	if err := json.NewDecoder(io.LimitReader(body, certs.MaxEnrollBody)).Decode(&req); err != nil {
		return nil, "", refuse(certs.CodeBadRequest, "the request is not JSON of the expected form, or too large")
	}
	r, err := issuer.CheckRenewal(auth.state.Known(), []byte(req.Certificate), []byte(req.CSR))
	switch {
	case errors.Is(err, issuer.ErrBadRequest):
		return nil, "", refuse(certs.CodeBadRequest, err.Error())
	case err != nil:
		return nil, "", refuse(certs.CodeUnauthorized, err.Error())
	}
	node := r.Identity.Node
	if r.Identity.Cluster != auth.cluster {
		return nil, node, refuse(certs.CodeUnauthorized, "the certificate is of another cluster")
	}
	if as != "" && as != node {
		return nil, node, refuse(certs.CodeUnauthorized, fmt.Sprintf("the certificate is that of node %q, the session that of %q", node, as))
	}
	if s.Revoked(r.Identity, r.Old) {
		return nil, node, refuse(certs.CodeRevoked, fmt.Sprintf("node %q was revoked; it may join again with a new token", node))
	}
	if ended := r.Old.NotAfter; time.Since(ended) > s.cfg.Grace {
		return nil, node, refuse(certs.CodeExpired, fmt.Sprintf("the certificate of node %q ended %s, longer than %s ago; join again with a new token",
			node, ended.UTC().Format(time.RFC3339), s.cfg.Grace))
	}
	if err := s.checkHolder(ctx, auth.state, r); err != nil {
		return nil, node, err
	}
	certificate, err := auth.state.Signer().SignRenewal(r, s.cfg.TTL)
	if err != nil {
		return nil, node, err
	}
	s.log.Info("certificate renewed", "node", node, "from", from, "ended", r.Old.NotAfter, "agent_version", loggable(req.AgentVersion))
	return &certs.EnrollResponse{
		Certificate: string(certificate), CA: string(certs.EncodeBundle(auth.state.Trusted())), Cluster: auth.cluster, NodeName: node,
	}, node, nil
}

// checkHolder refuses the name of a Node that is none of ours. Of a certificate of a CA
// that was replaced it wants the key by which the node was known: who has the old CA's key
// can make such certificates, and the CA may have been replaced for that.
func (s *Service) checkHolder(ctx context.Context, state *rotation.State, r *issuer.Renewal) error {
	name := r.Identity.Node
	node, err := s.ownNode(ctx, name)
	if err != nil || slices.ContainsFunc(state.Trusted(), r.Signer.Equal) {
		return err
	}
	known := ""
	if node != nil {
		known = s.cfg.Key(node)
	}
	if sum := certs.KeyHash(r.Old); known == "" || subtle.ConstantTimeCompare([]byte(known), []byte(sum)) != 1 {
		return refuse(certs.CodeUnauthorized, fmt.Sprintf("the CA of the certificate was replaced, and the key is not the one by which node %q was known; "+
			"join again with a new token", name))
	}
	return nil
}

// serveSuccession tells edges that trust no CA of ours who took its place.
func (s *Service) serveSuccession(w http.ResponseWriter, r *http.Request) {
	state := s.State()
	switch {
	case !s.limiter.allow(sourceOf(r)):
		s.answerRefusal(w, refuse(certs.CodeTooMany, "too many requests, try again in a few seconds"))
	case state == nil:
		s.answerRefusal(w, refuse(certs.CodeUnavailable, "the proxy can't answer now, try again"))
	default:
		s.answer(w, http.StatusOK, state.Succession())
	}
}

// serveRenew is for edges that can't open a session.
func (s *Service) serveRenew(w http.ResponseWriter, r *http.Request) {
	source := sourceOf(r)
	if !s.limiter.allow(source) {
		s.answerRenewal(w, tooMany())
		return
	}
	// Not every ResponseWriter has deadlines; the server's own timeouts remain.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	ctx, cancel := context.WithTimeout(r.Context(), workTimeout)
	defer cancel()
	s.answerRenewal(w, s.renew(ctx, r.Body, "", source.String()))
}

func tooMany() certs.RenewAnswer {
	return certs.RenewAnswer{Refused: &certs.EnrollRefusal{Code: certs.CodeTooMany, Text: "too many requests, try again in a few seconds"}}
}

func (s *Service) answerRenewal(w http.ResponseWriter, a certs.RenewAnswer) {
	status := http.StatusOK
	if a.Refused != nil {
		status = statusOf(a.Refused.Code)
		if a.Refused.Code.Temporary() {
			w.Header().Set("Retry-After", retryAfter)
		}
	}
	s.answer(w, status, a)
}

// OnRenewed has f called with a node that was given a certificate through its session. It
// must not block. Register before Run.
func (s *Service) OnRenewed(f func(node string)) { s.renewed = f }

// ServeRenewal answers one stream of an edge's session: a certs.RenewRequest as JSON up to
// the end of the edge's side, a certs.RenewAnswer back.
func (s *Service) ServeRenewal(ctx context.Context, node string, conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // what was written is on its way
	if err := conn.SetDeadline(time.Now().Add(readTimeout + workTimeout)); err != nil {
		return fmt.Errorf("renewal of %s: %w", node, err)
	}
	answer := tooMany()
	if s.limiter.renewal(node) {
		answer = s.renew(ctx, conn, node, "session of "+node)
	}
	if err := json.NewEncoder(conn).Encode(answer); err != nil {
		return fmt.Errorf("answer renewal of %s: %w", node, err)
	}
	if answer.Granted != nil && s.renewed != nil {
		s.renewed(node)
	}
	return nil
}
