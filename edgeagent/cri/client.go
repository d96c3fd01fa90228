package cri

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// maxMessage bounds one answer. A List of a full node is far below; the
	// kubelet uses the same 16 MB.
	maxMessage = 16 << 20

	// shortCall bounds calls that only read the runtime's books or start
	// something that is ready. Two minutes is the kubelet's default: a runtime
	// on a slow flash disk under load has been seen to need most of it.
	shortCall = 2 * time.Minute

	// sandboxCall bounds RunPodSandbox: it may pull the pause image and wait for
	// a network plugin that is itself a pod. The kubelet doubles its timeout here too.
	sandboxCall = 4 * time.Minute
)

// ErrNotFound says that the runtime does not know the sandbox, container or image.
var ErrNotFound = errors.New("not found in the container runtime")

// ErrUnsupported says that this runtime does not implement the call.
var ErrUnsupported = errors.New("not supported by the container runtime")

// UnavailableError says that nobody answered on the runtime's socket. Retrying
// helps once the runtime runs.
type UnavailableError struct {
	Endpoint string
	Err      error
}

// Error says what to look at.
func (e *UnavailableError) Error() string {
	// gRPC tells of a failed dial by its text alone.
	if strings.HasSuffix(e.Err.Error(), syscall.EACCES.Error()) || strings.Contains(e.Err.Error(), syscall.EACCES.Error()+`"`) {
		return fmt.Sprintf("the container runtime's socket %s lets nobody in but root: run this as root (%v)", e.Endpoint, e.Err)
	}
	return fmt.Sprintf("no container runtime answers at %s: is containerd running? (%v)", e.Endpoint, e.Err)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Config says where the runtime is.
type Config struct {
	// Endpoint is the socket, as unix:///path or a bare path. Required.
	Endpoint string
	// Log receives debug lines. Nil discards them.
	Log *slog.Logger
}

// Client calls the container runtime. It is safe for concurrent use.
type Client struct {
	endpoint string
	log      *slog.Logger
	conn     *grpc.ClientConn
	runtime  runtimev1.RuntimeServiceClient
	images   runtimev1.ImageServiceClient
	inside   chan struct{} // holds one item for each thread in a pod's network namespace
}

// New returns a client of the runtime at cfg.Endpoint. It does not dial yet.
func New(cfg Config) (*Client, error) {
	if cfg.Endpoint == "" {
		return nil, errors.New("cri: Endpoint is required")
	}
	path := strings.TrimPrefix(cfg.Endpoint, "unix://")
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("cri: Endpoint %q is not an absolute unix socket path", cfg.Endpoint)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	conn, err := grpc.NewClient("unix://"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		// The runtime is local: a service config from DNS and an HTTP proxy make no
		// sense, and a restarted runtime should be found within seconds.
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		// Small buffers: the default 2 x 32 KB per connection and the shared pool
		// cost more than this local traffic gains.
		grpc.WithReadBufferSize(8<<10),
		grpc.WithWriteBufferSize(8<<10),
	)
	if err != nil {
		return nil, fmt.Errorf("make cri client for %s: %w", cfg.Endpoint, err)
	}
	return &Client{
		endpoint: "unix://" + path,
		log:      cfg.Log,
		conn:     conn,
		runtime:  runtimev1.NewRuntimeServiceClient(conn),
		images:   runtimev1.NewImageServiceClient(conn),
		inside:   make(chan struct{}, maxInside),
	}, nil
}

// Close ends the connection; calls in flight fail.
func (c *Client) Close() error { return c.conn.Close() }

// Endpoint returns the socket as unix:///path.
func (c *Client) Endpoint() string { return c.endpoint }

// Version is what the runtime says of itself.
type Version struct {
	Name    string // such as containerd
	Version string // such as 1.6.20
	API     string // such as v1
}

// readyPause is how long a runtime that begins is left alone between two questions.
const readyPause = 200 * time.Millisecond

// Ready is Version once the runtime has begun: containerd answers for a moment that it
// is not initialized yet. Nobody on the socket is an error at once.
func (c *Client) Ready(ctx context.Context) (Version, error) {
	for {
		v, err := c.Version(ctx)
		if _, answered := errors.AsType[*RuntimeError](err); !answered {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, err
		case <-time.After(readyPause):
		}
	}
}

// Version asks the runtime for its name and version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.Version(ctx, &runtimev1.VersionRequest{Version: "0.1.0"})
	if err != nil {
		return Version{}, c.wrap("get runtime version", err)
	}
	return Version{Name: r.GetRuntimeName(), Version: r.GetRuntimeVersion(), API: r.GetRuntimeApiVersion()}, nil
}

// Health is what the runtime says about its readiness.
type Health struct {
	RuntimeReady, NetworkReady bool
	// Reason is empty when both are ready.
	Reason string
	// Handlers are the runtime's, by RuntimeClass, with what each can do. Runtimes
	// before containerd 2.0 tell of none.
	Handlers []Handler
	// StrictGroups says that the runtime knows that policy of supplemental groups.
	StrictGroups bool
}

// Handler is one way of the runtime to run pods. The default one has no name.
type Handler struct {
	HandlerFeatures

	Name string
}

// HandlerFeatures is what a runtime handler can do beyond the usual.
type HandlerFeatures struct {
	RecursiveReadOnly, UserNamespaces bool
}

// Health asks whether containers can run and whether the pod network is set up.
func (c *Client) Health(ctx context.Context) (Health, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.Status(ctx, &runtimev1.StatusRequest{})
	if err != nil {
		return Health{}, c.wrap("get runtime status", err)
	}
	var h Health
	var reasons []string
	for _, cond := range r.GetStatus().GetConditions() {
		switch cond.GetType() {
		case "RuntimeReady":
			h.RuntimeReady = cond.GetStatus()
		case "NetworkReady":
			h.NetworkReady = cond.GetStatus()
		default:
			continue
		}
		if !cond.GetStatus() {
			reasons = append(reasons, fmt.Sprintf("%s: %s %s", cond.GetType(), cond.GetReason(), cond.GetMessage()))
		}
	}
	h.Reason = strings.Join(reasons, "; ")
	for _, r := range r.GetRuntimeHandlers() {
		f := r.GetFeatures()
		h.Handlers = append(h.Handlers, Handler{
			Name:            r.GetName(),
			HandlerFeatures: HandlerFeatures{f.GetRecursiveReadOnlyMounts(), f.GetUserNamespaces()},
		})
	}
	h.StrictGroups = r.GetFeatures().GetSupplementalGroupsPolicy()
	return h, nil
}

// wrap turns a gRPC status into this package's errors and keeps the runtime's
// own text, which is what users see in a pod's status.
func (c *Client) wrap(what string, err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch s.Code() {
	case codes.Unavailable:
		return fmt.Errorf("%s: %w", what, &UnavailableError{Endpoint: c.endpoint, Err: errors.New(s.Message())})
	case codes.NotFound:
		return fmt.Errorf("%s: %w: %s", what, ErrNotFound, s.Message())
	case codes.Unimplemented:
		return fmt.Errorf("%s: %w: %s", what, ErrUnsupported, s.Message())
	case codes.Canceled:
		return fmt.Errorf("%s: %w", what, context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", what, context.DeadlineExceeded)
	default:
		return fmt.Errorf("%s: %w", what, &RuntimeError{Text: s.Message()})
	}
}

// RuntimeError is a failure that the runtime reported.
type RuntimeError struct {
	// Text is the runtime's message without any prefix of ours.
	Text string
}

// Error returns the runtime's message.
func (e *RuntimeError) Error() string { return e.Text }
