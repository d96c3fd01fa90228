package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

const (
	readTimeout = 15 * time.Second // for a body of one packet, on the worst link
	workTimeout = 15 * time.Second // for a handful of API calls
	retryAfter  = "5"              // seconds
)

// statusOf maps refusals to HTTP.
func statusOf(code certs.EnrollCode) int {
	switch code {
	case certs.CodeBadRequest:
		return http.StatusBadRequest
	case certs.CodeUnauthorized, certs.CodeTokenExpired, certs.CodeTokenUsed, certs.CodeExpired:
		return http.StatusUnauthorized
	case certs.CodeTokenPurpose, certs.CodeOtherNode, certs.CodeRevoked:
		return http.StatusForbidden
	case certs.CodeNodeTaken, certs.CodeRevokedNow:
		return http.StatusConflict
	case certs.CodeTooMany:
		return http.StatusTooManyRequests
	case certs.CodeUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

func refuse(code certs.EnrollCode, text string) *jointoken.Refusal {
	return &jointoken.Refusal{Code: code, Text: text}
}

func (s *Service) serveEnroll(w http.ResponseWriter, r *http.Request) {
	source := sourceOf(r)
	if !s.limiter.allow(source) {
		s.answerRefusal(w, refuse(certs.CodeTooMany, "too many requests, try again in a few seconds"))
		return
	}
	// Not every ResponseWriter has deadlines; the server's own timeouts remain.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	req, err := decodeRequest(http.MaxBytesReader(w, r.Body, certs.MaxEnrollBody))
	if err != nil {
		s.answerRefusal(w, refuse(certs.CodeBadRequest, err.Error()))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), workTimeout)
	defer cancel()
	resp, err := s.enroll(ctx, req, source)
	if err == nil {
		s.answer(w, http.StatusOK, resp)
		return
	}
	var refusal *jointoken.Refusal
	if !errors.As(err, &refusal) {
		// What went wrong inside is for our log, not for strangers.
		s.log.Error("enrolment failed", "node", req.NodeName, "source", source.String(), "err", err)
		refusal = refuse(certs.CodeUnavailable, "the proxy can't answer now, try again")
	} else {
		s.log.Warn("enrolment refused", "node", loggable(req.NodeName), "source", source.String(), "code", string(refusal.Code))
	}
	s.answerRefusal(w, refusal)
}

func (s *Service) answerRefusal(w http.ResponseWriter, refusal *jointoken.Refusal) {
	if refusal.Code.Temporary() {
		w.Header().Set("Retry-After", retryAfter)
	}
	s.answer(w, statusOf(refusal.Code), certs.EnrollRefusal{Code: refusal.Code, Text: refusal.Text})
}

func (s *Service) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("enrolment answer not sent", "err", err)
	}
}

// decodeRequest reads one JSON object. Unknown fields are let through: a newer
// `skerry join` may say more than this proxy knows.
func decodeRequest(body io.Reader) (certs.EnrollRequest, error) {
	var req certs.EnrollRequest
	dec := json.NewDecoder(body)
	if err := dec.Decode(&req); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return req, errors.New("the request is too large")
		}
		// The decoder's text may quote the body, and a token is in there.
		return req, errors.New("the request is not JSON of the expected form")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return req, errors.New("there is data after the request")
	}
	if err := certs.ValidateNodeName(req.NodeName); err != nil {
		return req, err
	}
	return req, nil
}

// sourceOf gives the peer's address. No header is believed: anybody can send one.
func sourceOf(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// loggable cuts what a stranger sent.
func loggable(s string) string {
	const limit = 64
	return s[:min(len(s), limit)]
}
