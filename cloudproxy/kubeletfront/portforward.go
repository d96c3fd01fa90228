package kubeletfront

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxPorts is how many ports the WebSocket protocol of before can forward to.
const maxPorts = 127

// forwarding is one caller that forwards connections to ports of a pod. It holds
// one place among the streams, and each of its connections another.
type forwarding struct {
	s *Server
	a *stream
	// served counts the connections so far.
	served atomic.Int64
}

// portForward serves a caller that forwards connections, in one of three ways:
// SPDY, SPDY inside a WebSocket, and the WebSocket protocol of before, which has
// one connection for each port of the query.
func (s *Server) portForward(w http.ResponseWriter, r *http.Request, req *request) {
	tunneled := wsstream.IsWebSocketRequestWithTunnelingProtocol(r)
	var opts *portforward.V4Options
	var err error
	if !httpstream.IsUpgradeRequest(r) {
		err = errors.New("Upgrade request required") //nolint:staticcheck // the kubelet's words
	} else if !tunneled {
		opts, err = portforward.NewV4Options(r)
		// The protocol names a port's two channels by a byte.
		if err == nil && len(opts.Ports) > maxPorts {
			err = fmt.Errorf("%d ports, of which one WebSocket can carry %d", len(opts.Ports), maxPorts)
		}
	}
	if err != nil {
		s.fail(w, r, &refusal{http.StatusBadRequest, err.Error()})
		return
	}
	a, err := s.openStream(req)
	if err == nil {
		if err = s.present(r.Context(), req.node); err != nil {
			a.close(err.Error())
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	t := s.takeOver(w, r)
	defer t.close()
	f := &forwarding{s: s, a: a}
	switch {
	case tunneled:
		f.serveTunneled(t.hijacked, t.r)
	case wsstream.IsWebSocketRequest(r):
		f.serveWebSocket(t.hijacked, t.r, opts)
	default:
		f.serveSPDY(t.hijacked, t.r)
	}
	t.hijacked.end()
	ended := "the caller has ended it"
	if cause := context.Cause(t.r.Context()); cause != nil {
		ended = cause.Error()
	}
	a.close(fmt.Sprintf("%d connections: %s", f.served.Load(), ended))
	t.hijacked.linger(r.Context())
}

// present fails for an edge that can't be reached now, so that its caller gets an
// HTTP status and not an upgraded connection. It waits for no answer.
func (s *Server) present(ctx context.Context, node string) error {
	conn, err := s.cfg.Edges.DialEdge(ctx, node, wire.KindForward)
	if err != nil {
		return unreachable(node, err)
	}
	abandon(conn, wire.CodeOK)
	return nil
}

// abandon ends both directions of a stream to an edge at once.
func abandon(conn io.Closer, code wire.Code) {
	if r, ok := conn.(interface{ Reset(code wire.Code) }); ok {
		r.Reset(code)
	}
	_ = conn.Close()
}

func (f *forwarding) serveSPDY(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, portforward.SupportedProtocols); err != nil {
		return // the caller has been answered
	}
	c := f.newConnections(r.Context())
	if conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, c.accept); conn != nil {
		c.serve(conn)
	}
}

// serveTunneled serves SPDY inside a WebSocket: newer callers need it where
// something between them and the cluster knows WebSockets only. kube-apiserver
// takes it apart unless the node declares ExtendWebSocketsToKubelet.
func (f *forwarding) serveTunneled(w http.ResponseWriter, r *http.Request) {
	ws := websocket.Server{
		Handshake: chooseTunnel,
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			c := f.newConnections(r.Context())
			if conn, err := spdy.NewServerConnection(ws, c.accept); err == nil {
				c.serve(conn)
			}
		},
	}
	ws.ServeHTTP(w, r)
}

// chooseTunnel picks the one subprotocol that is served inside a WebSocket.
func chooseTunnel(cfg *websocket.Config, _ *http.Request) error {
	const want = portforward.WebsocketsSPDYTunnelingPortForwardV1
	if slices.Contains(cfg.Protocol, want) {
		cfg.Protocol = []string{want}
		return nil
	}
	return fmt.Errorf("requested protocols are not supported: %s; supports %s", strings.Join(cfg.Protocol, ", "), want)
}

// serveWebSocket serves the older protocol. It can't end one direction alone, so
// a connection is over when the pod has ended its own.
func (f *forwarding) serveWebSocket(w http.ResponseWriter, r *http.Request, opts *portforward.V4Options) {
	c := f.newConnections(r.Context())
	defer c.wait()
	portforward.ServePortForward(w, r, legacyForwarder{c}, f.a.req.pod, f.a.req.podUID, opts,
		idleTimeout, creationTimeout, portforward.SupportedProtocols)
}

// legacyForwarder is a portforward.PortForwarder.
type legacyForwarder struct{ c *connections }

// PortForward implements portforward.PortForwarder.
func (l legacyForwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	return l.c.forward(uint16(port), stream)
}
