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

// command serves a command, or the joining of a container's own. The stream to the
// edge is opened first, so that a caller of an edge that is offline gets an HTTP
// status and not an upgraded connection.
func (s *Server) command(w http.ResponseWriter, r *http.Request, req *request) {
	opts, err := remotecommand.NewOptions(r)
	command := r.URL.Query()["command"]
	switch {
	case !httpstream.IsUpgradeRequest(r):
		s.fail(w, r, &refusal{http.StatusBadRequest, "Upgrade request required"})
		return
	case err != nil:
		s.fail(w, r, &refusal{http.StatusBadRequest, err.Error()})
		return
	case req.kind == kindAttach:
		command = nil
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
	x := newExecution(s, a, conn, opts)
	t := s.takeOver(w, r)
	defer t.close()
	switch {
	case wsstream.IsWebSocketRequestWithStreamCloseProtocol(r):
		serveV5(t.hijacked, t.r, x)
	case req.kind == kindAttach:
		remotecommand.ServeAttach(t.hijacked, t.r, x, req.pod, req.podUID, req.container,
			opts, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	default:
		remotecommand.ServeExec(t.hijacked, t.r, x, req.pod, req.podUID, req.container, command,
			opts, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	}
	// What the library leaves open on some of its ways out; it also ends the pumps.
	t.hijacked.end()
	x.close()
	a.close(x.ended)
	t.hijacked.linger(r.Context())
}

// takeover is a request whose connection is about to be upgraded.
type takeover struct {
	hijacked *hijacker
	// r has a context that also ends when the caller goes.
	r     *http.Request
	close func()
}

func (s *Server) takeOver(w http.ResponseWriter, r *http.Request) takeover {
	ctx, cancel := context.WithCancelCause(r.Context())
	h := &hijacker{ResponseWriter: w, gone: func() { cancel(errCallerGone) }}
	stop := context.AfterFunc(ctx, h.hurry)
	return takeover{hijacked: h, r: r.WithContext(ctx), close: func() {
		stop()
		cancel(nil)
	}}
}
