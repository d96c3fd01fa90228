package kubeletfront

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tunnel/compress"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// podUIDHeader tells the edge which pod is meant.
const podUIDHeader = "Skerry-Pod-Uid"

const (
	// copyBuffer is what one log holds in memory here.
	copyBuffer = 16 << 10
	// maxTarget bounds path and query together: an edge takes 16 KiB of headers.
	maxTarget = 8 << 10
)

// edgeTransport speaks HTTP/1.1 on a new stream for each request: a stream costs
// nothing to open, and a request that is canceled ends with its own. There is no
// limit on the wait for an answer: a link may be away for minutes, and whoever
// asks decides how long that is worth waiting for.
func edgeTransport(edges Edges) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, fmt.Errorf("take the node from %q: %w", addr, err)
			}
			return edges.DialEdge(ctx, node, wire.KindKubelet)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true, // bytes go through as they are
		MaxResponseHeaderBytes: 16 << 10,
	}
}

// forward gives an HTTP request to its edge and streams the answer back.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, req *request) {
	if n := len(req.path) + len(r.URL.RawQuery); n > maxTarget {
		s.fail(w, r, &refusal{http.StatusRequestURITooLong, fmt.Sprintf("path and query have %d bytes, more than %d", n, maxTarget)})
		return
	}
	a, err := s.openStream(req)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	resp, err := s.ask(r, req)
	if err != nil {
		a.close(err.Error())
		s.fail(w, r, err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	for _, h := range []string{"Content-Type", "Content-Length", "X-Content-Type-Options"} {
		if v := resp.Header.Get(h); v != "" {
			w.Header().Set(h, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	err = copyFlush(w, resp.Body, a)
	switch {
	case err == nil:
		a.close(resp.Status)
	case context.Cause(r.Context()) != nil:
		a.close(context.Cause(r.Context()).Error())
		abort(r)
	default:
		a.close(fmt.Sprintf("cut off: %v", err))
		abort(r)
	}
}

// abort ends a response so that the caller sees that it is not whole.
func abort(r *http.Request) {
	if !errors.Is(context.Cause(r.Context()), context.Canceled) {
		panic(http.ErrAbortHandler)
	}
}

// ask returns the edge's answer. When the edge has no such pod, the API is asked
// whether there is another one by now.
func (s *Server) ask(r *http.Request, req *request) (*http.Response, error) {
	resp, err := s.askOnce(r, req)
	if err != nil || resp.StatusCode != http.StatusNotFound || req.kind == kindNode || req.kind == kindDevice {
		return resp, err
	}
	changed, err := s.confirm(r.Context(), req)
	if err == nil && !changed {
		return resp, nil
	}
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	return s.askOnce(r, req)
}

func (s *Server) askOnce(r *http.Request, req *request) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: req.node, Path: req.path, RawQuery: r.URL.RawQuery}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, u.String(), bytes.NewReader(req.body))
	if err != nil {
		return nil, fmt.Errorf("make the request for edge %s: %w", req.node, err)
	}
	if accept := r.Header.Get("Accept"); accept != "" {
		out.Header.Set("Accept", accept)
	}
	if req.podUID != "" {
		out.Header.Set(podUIDHeader, req.podUID)
	}
	if req.kind == kindLogs {
		out.Header.Set("Accept-Encoding", compress.Name)
	}
	resp, err := s.transport.RoundTrip(out)
	if err != nil {
		return nil, s.notReached(r.Context(), req, err)
	}
	if resp.Header.Get("Content-Encoding") == compress.Name {
		resp.Header.Del("Content-Length")
		resp.Body = &decompressed{s.codec.NewReader(resp.Body), resp.Body}
	}
	// net/http panics at a status below 100, and takes 1xx for an answer to come.
	if resp.StatusCode < http.StatusOK || resp.StatusCode > 599 {
		_ = resp.Body.Close()
		return nil, &refusal{http.StatusBadGateway, fmt.Sprintf("edge %s answered with status %d", req.node, resp.StatusCode)}
	}
	return resp, nil
}

// notReached is unreachable, but tells an edge that was never here from a node
// that does not exist: those who come without kube-apiserver may name any.
func (s *Server) notReached(ctx context.Context, req *request, err error) error {
	if off, ok := errors.AsType[offline](err); ok && (req.kind == kindNode || req.kind == kindDevice) {
		if _, since := off.Offline(); since.IsZero() {
			if _, gerr := s.cfg.Client.CoreV1().Nodes().Get(ctx, req.node, metav1.GetOptions{}); apierrors.IsNotFound(gerr) {
				return &refusal{http.StatusNotFound, fmt.Sprintf("nodes %q not found", req.node)}
			}
		}
	}
	return unreachable(req.node, err)
}

// decompressed is a body that an edge has compressed.
type decompressed struct {
	*compress.Reader
	body io.Closer
}

// Close implements io.Closer.
func (d *decompressed) Close() error { return d.body.Close() } //nolint:wrapcheck // as without compression

// copyFlush passes on what comes, at once.
func copyFlush(w http.ResponseWriter, body io.Reader, a *stream) error {
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return fmt.Errorf("start the answer: %w", err)
	}
	buf := make([]byte, copyBuffer)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			a.out.Add(int64(n))
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("write to the caller: %w", err)
			}
			if err := rc.Flush(); err != nil {
				return fmt.Errorf("write to the caller: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read from the edge: %w", err)
		}
	}
}
