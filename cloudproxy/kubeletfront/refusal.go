package kubeletfront

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// refusal is an error that a caller is answered with.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// offline is the error of Edges for an edge without a session.
type offline interface {
	error
	Offline() (node string, since time.Time)
}

// unreachable turns an error of Edges into an answer.
func unreachable(node string, err error) *refusal {
	if off, ok := errors.AsType[offline](err); ok {
		if _, since := off.Offline(); !since.IsZero() {
			return &refusal{http.StatusServiceUnavailable, fmt.Sprintf("edge %s is offline since %s", node, since.UTC().Format(time.RFC3339))}
		}
		return &refusal{http.StatusServiceUnavailable, fmt.Sprintf("edge %s is offline", node)}
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return &refusal{e.Code.HTTPStatus(), e.Error()}
	}
	switch {
	case errors.Is(err, tunnel.ErrTooManyStreams):
		return &refusal{http.StatusTooManyRequests, fmt.Sprintf("edge %s lets no more streams be open", node)}
	case errors.Is(err, tunnel.ErrNoMemory):
		return &refusal{http.StatusServiceUnavailable, fmt.Sprintf("no memory for another stream to edge %s: %v", node, err)}
	}
	return &refusal{http.StatusBadGateway, fmt.Sprintf("edge %s can't be reached: %v", node, err)}
}

// fail answers with err. kube-apiserver puts a plain text into a Status of its
// own, but passes the answer to an upgrade, or to a request for nodes/NAME/proxy,
// on as it is: there it is a Status, or kubectl would not show the reason.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*refusal](err)
	if !ok {
		e = &refusal{http.StatusInternalServerError, err.Error()}
	}
	s.log.Debug("request refused", "path", r.URL.Path, "status", e.status, "reason", e.text)
	s.metrics.refused(e.status)
	node, _ := forwardedNode(r.Header.Get("X-Forwarded-Uri"))
	asItIs := httpstream.IsUpgradeRequest(r) || node != ""
	if !asItIs || e.status == http.StatusUnauthorized || e.status == http.StatusForbidden {
		writeText(w, e.status, e.text)
		return
	}
	body, err := json.Marshal(&metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(e.status), Reason: reason(e.status), Message: e.text,
	})
	if err != nil {
		writeText(w, e.status, e.text)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(body)
}

func reason(status int) metav1.StatusReason {
	switch status {
	case http.StatusBadRequest:
		return metav1.StatusReasonBadRequest
	case http.StatusNotFound:
		return metav1.StatusReasonNotFound
	case http.StatusTooManyRequests:
		return metav1.StatusReasonTooManyRequests
	case http.StatusServiceUnavailable:
		return metav1.StatusReasonServiceUnavailable
	case http.StatusInternalServerError:
		return metav1.StatusReasonInternalError
	}
	return metav1.StatusReasonUnknown
}

// writeText writes text without a newline, as a kubelet does.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}
