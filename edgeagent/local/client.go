package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// maxErrorText is how much of an answer that is none is shown.
const maxErrorText = 4 << 10

// Errors of a Client that can't reach an agent.
var (
	// ErrNoAgent says that no agent listens at the socket.
	ErrNoAgent = errors.New("no edge agent runs on this machine")
	// ErrNotRoot says that the socket is not for this user.
	ErrNotRoot = errors.New("only root may ask the edge agent")
)

// Client asks the agent of this machine. The zero value but for Socket is ready.
type Client struct {
	// Socket is the agent's, see SocketPath.
	Socket string
}

// Pods gives the pods of this edge.
func (c *Client) Pods(ctx context.Context) (Pods, error) {
	var p Pods
	return p, c.get(ctx, pathPods, nil, &p)
}

// Node gives this edge.
func (c *Client) Node(ctx context.Context) (*corev1.Node, error) {
	var n corev1.Node
	return &n, c.get(ctx, pathNode, nil, &n)
}

// ConfigMaps gives the ConfigMaps that this edge has; empty means any.
func (c *Client) ConfigMaps(ctx context.Context, namespace, name string) ([]corev1.ConfigMap, error) {
	var l corev1.ConfigMapList
	err := c.get(ctx, pathConfigMaps, url.Values{"namespace": {namespace}, "name": {name}}, &l)
	return l.Items, err
}

// Logs copies a container's log to w; query is that of the kubelet's API.
func (c *Client) Logs(ctx context.Context, namespace, pod, container string, query url.Values, w io.Writer) error {
	path := pathLogs + url.PathEscape(namespace) + "/" + url.PathEscape(pod) + "/" + url.PathEscape(container)
	resp, err := c.do(ctx, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the log of %s: %w", pod, err)
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	resp, err := c.do(ctx, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// do sends one request on a connection of its own. The caller closes the body.
func (c *Client) do(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	req, err := request(ctx, path, query)
	if err != nil {
		return nil, err
	}
	rt := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask the edge agent: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		return nil, answerError(resp)
	}
	return resp, nil
}

func request(ctx context.Context, path string, query url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://edgeagent"+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the edge agent: %w", err)
	}
	req.URL.RawQuery = query.Encode()
	return req, nil
}

// answerError is the agent's own words.
func answerError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
	if s := strings.TrimSpace(string(text)); s != "" {
		return errors.New(s)
	}
	return fmt.Errorf("the edge agent answers %s", resp.Status)
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nothing listens at %s", ErrNoAgent, c.Socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %s", ErrNotRoot, c.Socket)
	}
	return nil, err
}

// upgrade opens a connection for one command.
func (c *Client) upgrade(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the edge agent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	req, err := request(ctx, pathExec, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", execProtocol)
	r := bufio.NewReader(conn)
	err = req.Write(conn)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(r, req) //nolint:bodyclose // the connection is its body
	}
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = answerError(resp)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ask the edge agent: %w", err)
	}
	return &upgraded{Conn: conn, r: r}, nil
}
