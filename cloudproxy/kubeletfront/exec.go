package kubeletfront

import (
	"context"
	"errors"
	"net/http"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// idleTimeout ends a connection on which nothing moves: the kubelet's value.
	idleTimeout = 4 * time.Hour
	// creationTimeout bounds how long a caller may take to open its SPDY streams.
	creationTimeout = remotecommand.DefaultStreamCreationTimeout
)

var errCallerGone = errors.New("the caller went away")

// exec serves a command. The stream to the edge is opened first, so that a caller
// of an edge that is offline gets an HTTP status and not an upgraded connection.
func (s *Server) exec(w http.ResponseWriter, r *http.Request, req *request) {
	opts, err := remotecommand.NewOptions(r)
	command := r.URL.Query()["command"]
	switch {
	case !httpstream.IsUpgradeRequest(r):
		s.fail(w, r, &refusal{http.StatusBadRequest, "Upgrade request required"})
		return
	case err != nil:
		s.fail(w, r, &refusal{http.StatusBadRequest, err.Error()})
		return
	case len(command) == 0:
		s.fail(w, r, &refusal{http.StatusBadRequest, "you must specify a command"})
		return
	}
	a, err := s.openStream(req)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	a.command = command
	conn, err := s.cfg.Edges.DialEdge(r.Context(), req.node, wire.KindExec)
	if err != nil {
		e := unreachable(req.node, err)
		a.close(e.text)
		s.fail(w, r, e)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	x := newExecution(s, a, conn, opts)
	hijacked := &hijacker{ResponseWriter: w, gone: func() { cancel(errCallerGone) }}
	stop := context.AfterFunc(ctx, hijacked.hurry)
	defer stop()
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		serveV5(hijacked, r.WithContext(ctx), x)
	} else {
		remotecommand.ServeExec(hijacked, r.WithContext(ctx), x, req.pod, req.podUID, req.container, command,
			opts, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	}
	// What the library leaves open on some of its ways out; it also ends the pumps.
	hijacked.end()
	x.close()
	a.close(x.ended)
	hijacked.linger(r.Context())
}
