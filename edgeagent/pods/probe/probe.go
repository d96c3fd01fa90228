package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// Result is the outcome of one probe.
type Result int

// The results. Unknown means that the probe itself did not work; it counts
// neither for nor against the container.
const (
	Unknown Result = iota
	Success
	Failure
)

const (
	// maxBody bounds what is read of an answer and of a command's output.
	maxBody = 10 << 10
	// maxRedirects is Go's own default.
	maxRedirects = 10
)

// Executor runs commands in containers.
type Executor interface {
	ExecSync(ctx context.Context, containerID string, cmd []string, timeout time.Duration) (cri.ExecResult, error)
}

// Target is the container to probe.
type Target struct {
	ContainerID string
	PodIP       string
	// Container resolves named ports.
	Container *corev1.Container
}

// Prober performs probes. It is safe for concurrent use.
type Prober struct {
	exec   Executor
	client *http.Client
	h2     *http.Client
}

// New returns a Prober that runs commands through exec.
func New(exec Executor) *Prober {
	transport := &http.Transport{
		Proxy: nil, // pods are near; a proxy from the environment is for far things
		// A probe asks whether the server accepts a connection now.
		DisableKeepAlives:  true,
		DisableCompression: true,
		// The kubelet does not verify either: the certificate is for other names.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
	}
	var cleartext http.Protocols
	cleartext.SetUnencryptedHTTP2(true)
	return &Prober{
		exec:   exec,
		client: &http.Client{Transport: transport, CheckRedirect: sameHost},
		h2: &http.Client{Transport: &http.Transport{
			Proxy: nil, DisableKeepAlives: true, DisableCompression: true, Protocols: &cleartext,
		}},
	}
}

// Run performs a probe and says why it failed.
func (p *Prober) Run(ctx context.Context, spec *corev1.Probe, t Target) (Result, string) {
	timeout := time.Duration(max(spec.TimeoutSeconds, 1)) * time.Second
	if spec.Exec != nil {
		return p.runExec(ctx, spec.Exec.Command, t.ContainerID, timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case spec.HTTPGet != nil:
		return p.runHTTP(ctx, spec.HTTPGet, t)
	case spec.TCPSocket != nil:
		return runTCP(ctx, spec.TCPSocket, t)
	case spec.GRPC != nil:
		return p.runGRPC(ctx, spec.GRPC, t)
	default:
		return Unknown, "missing probe handler"
	}
}

// Hook performs a lifecycle hook. It returns when the hook has ended.
func (p *Prober) Hook(ctx context.Context, h *corev1.LifecycleHandler, t Target) error {
	switch {
	case h.Exec != nil:
		res, err := p.exec.ExecSync(ctx, t.ContainerID, h.Exec.Command, 0)
		if err != nil {
			return fmt.Errorf("exec hook: %w", err)
		}
		if res.ExitCode != 0 {
			return fmt.Errorf("command '%s' exited with %d: %s", strings.Join(h.Exec.Command, " "), res.ExitCode, output(res))
		}
		return nil
	case h.HTTPGet != nil:
		resp, err := p.get(ctx, h.HTTPGet, t)
		if err != nil {
			return fmt.Errorf("http hook: %w", err)
		}
		// Any answer will do; the kubelet looks at transport errors only.
		return resp.Body.Close()
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
			return nil
		}
	default:
		return errors.New("invalid handler")
	}
}

func (p *Prober) runExec(ctx context.Context, cmd []string, id string, timeout time.Duration) (Result, string) {
	res, err := p.exec.ExecSync(ctx, id, cmd, timeout)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return Failure, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(cmd, " "), timeout)
	case err != nil:
		return Unknown, err.Error()
	case res.ExitCode != 0:
		return Failure, output(res)
	default:
		return Success, ""
	}
}

func output(res cri.ExecResult) string {
	out := string(res.Stdout) + string(res.Stderr)
	return out[:min(len(out), maxBody)]
}

func (p *Prober) runHTTP(ctx context.Context, h *corev1.HTTPGetAction, t Target) (Result, string) {
	resp, err := p.get(ctx, h, t)
	if err != nil {
		return Failure, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil && ctx.Err() != nil {
		return Failure, err.Error()
	}
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return Failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return Success, ""
}

func (p *Prober) get(ctx context.Context, h *corev1.HTTPGetAction, t Target) (*http.Response, error) {
	port, err := resolvePort(h.Port, t.Container)
	if err != nil {
		return nil, err
	}
	host := h.Host
	if host == "" {
		host = t.PodIP
	}
	scheme := strings.ToLower(string(h.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	u, err := url.Parse(h.Path)
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	for _, kv := range h.HTTPHeaders {
		if http.CanonicalHeaderKey(kv.Name) == "Host" {
			req.Host = kv.Value
			continue
		}
		req.Header.Add(kv.Name, kv.Value)
	}
	// Servers answer probes differently by these, as they do a kubelet's.
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "kube-probe/1.37")
	}
	if _, ok := req.Header["Accept"]; !ok {
		req.Header.Set("Accept", "*/*")
	}
	return p.client.Do(req)
}

// sameHost follows redirects only on the host probed: a redirect elsewhere
// proves that the server answers, and the other host is not ours to ask.
func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

func runTCP(ctx context.Context, s *corev1.TCPSocketAction, t Target) (Result, string) {
	port, err := resolvePort(s.Port, t.Container)
	if err != nil {
		return Unknown, err.Error()
	}
	host := s.Host
	if host == "" {
		host = t.PodIP
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failure, err.Error()
	}
	_ = conn.Close()
	return Success, ""
}

func resolvePort(p intstr.IntOrString, c *corev1.Container) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	if c != nil {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				return int(cp.ContainerPort), nil
			}
		}
	}
	port, err := strconv.Atoi(p.StrVal)
	if err != nil {
		return 0, fmt.Errorf("couldn't find port %q", p.StrVal)
	}
	return port, nil
}
