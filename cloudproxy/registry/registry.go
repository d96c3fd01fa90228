package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxHandlers is the default bound on the streams of one edge that are served at
// once. An edge of this version has two open, desired and report.
const maxHandlers = 32

// Listener gives new sessions; a *tunnel.Listener is one.
type Listener interface {
	Accept(ctx context.Context) (*tunnel.Session, error)
	// Drain tells edges to go elsewhere, and ends when nothing runs any more.
	Drain(ctx context.Context, within time.Duration) error
}

// ErrDraining is what DialEdge gives once Drain was called. It is a *wire.Error
// with CodeGoingAway.
var ErrDraining error = &wire.Error{
	Code: wire.CodeGoingAway,
	Text: "the proxy is shutting down: try again in some seconds",
}

// Handler serves one stream that an edge opened. ctx ends with the edge's
// session. The stream is closed when it returns nil, and reset with
// CodeInternal, or the code of a *CodeError, when it returns an error.
type Handler func(ctx context.Context, node string, c net.Conn) error

// CodeError lets a Handler choose the code that the edge sees.
type CodeError struct {
	Code wire.Code
	Err  error
}

// Error implements error.
func (e *CodeError) Error() string { return fmt.Sprintf("%s: %v", e.Code, e.Err) }

// Unwrap gives the cause.
func (e *CodeError) Unwrap() error { return e.Err }

// OfflineError means that an edge has no session here, or one without a link.
type OfflineError struct {
	Node string
	// Since is when its last link was lost; zero when there was none since this
	// proxy started.
	Since time.Time
}

// Error implements error.
func (e *OfflineError) Error() string {
	if e.Since.IsZero() {
		return fmt.Sprintf("edge %s is not connected", e.Node)
	}
	return fmt.Sprintf("edge %s is not connected since %s", e.Node, e.Since.UTC().Format(time.RFC3339))
}

// Offline tells which edge, and since when; package kubeletfront asks for it.
func (e *OfflineError) Offline() (node string, since time.Time) { return e.Node, e.Since }

// Config is what New needs.
type Config struct {
	// Listener gives the sessions.
	Listener Listener
	// Refuse is asked once a session is in the table, where Close finds it: what has
	// changed since the listener let it in would be missed otherwise. Any code but
	// CodeOK ends the session; nil lets all in.
	Refuse func(certs.Identity, *x509.Certificate) (wire.Code, string)
	// MaxHandlers bounds the streams of one edge that are served at once; zero means
	// 32. More are reset with CodeTooMany.
	MaxHandlers int
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer
	// EdgeMetrics adds series for each edge to the metrics of all of them together.
	EdgeMetrics bool
	// Log is for edges that come and go; nil means none.
	Log *slog.Logger
}

// Info is one edge with a session.
type Info struct {
	Node  string
	Hello wire.Hello
	Stats tunnel.Stats
	// Certificate is what its last handshake showed.
	Certificate *x509.Certificate
}

// Registry is the table of connected edges.
type Registry struct {
	cfg     Config
	metrics *metrics
	wg      sync.WaitGroup // what Run started

	mu       sync.Mutex // guards the following fields
	handlers map[wire.Kind]Handler
	edges    map[string]*edge // every edge seen since the start
	draining bool
	change   chan struct{}
}

// edge is one node's row.
type edge struct {
	session *tunnel.Session // nil while there is none
	since   time.Time       // when the last one ended, or lost its link before that
}

// New makes an empty table and registers its metrics.
func New(cfg Config) (*Registry, error) {
	if cfg.Listener == nil {
		return nil, errors.New("registry: Listener is missing")
	}
	if cfg.MaxHandlers == 0 {
		cfg.MaxHandlers = maxHandlers
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		cfg:      cfg,
		handlers: make(map[wire.Kind]Handler),
		edges:    make(map[string]*edge),
		change:   make(chan struct{}),
	}
	var err error
	if r.metrics, err = newMetrics(&cfg, r); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return r, nil
}

// Handle serves the streams of a kind that edges open. It must be called before
// Run. Streams of other kinds are reset with CodeUnsupported.
func (r *Registry) Handle(kind wire.Kind, h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handlers[kind] = h
}

// Run takes sessions in until ctx or the listener ends, then closes them all.
func (r *Registry) Run(ctx context.Context) error {
	defer r.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.wg.Go(func() { r.metrics.tunnel.run(ctx) })
	for {
		s, err := r.cfg.Listener.Accept(ctx)
		if err != nil && r.isDraining() && errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept session: %w", err)
		}
		r.wg.Go(func() { r.run(ctx, s) })
	}
}

// Drain tells edges to go elsewhere, lets streams that were dialed here run on for
// as long as within, and then ends the listener, and Run with it. New streams are
// refused from now on; those that edges open are served to the end.
func (r *Registry) Drain(ctx context.Context, within time.Duration) error {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	return r.cfg.Listener.Drain(ctx, within)
}

func (r *Registry) isDraining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining
}

// DialEdge opens a stream to an edge. It takes no round trip, and fails at once:
// with an *OfflineError when the edge has no session here or its session has no
// link, with tunnel.ErrTooManyStreams when it has all the streams it allows, with
// ErrDraining when this proxy is about to stop.
func (r *Registry) DialEdge(ctx context.Context, node string, kind wire.Kind) (net.Conn, error) {
	for range 3 { // a session may end, and its successor come, while we look
		if r.isDraining() {
			return nil, ErrDraining
		}
		s, since := r.lookup(node)
		if s == nil {
			return nil, &OfflineError{Node: node, Since: since}
		}
		// A session without a link would take the stream and open it once it has one:
		// nobody who waits for an answer should wait for that unknowingly.
		if attached, since := s.Attached(); !attached && s.Err() == nil {
			return nil, &OfflineError{Node: node, Since: since}
		}
		st, err := s.Open(ctx, kind)
		switch {
		case err == nil:
			return st, nil
		case errors.Is(err, tunnel.ErrGoingAway):
			return nil, ErrDraining
		case errors.Is(err, net.ErrClosed):
			r.left(node, s)
		default:
			return nil, fmt.Errorf("dial %s stream of edge %s: %w", kind, node, err)
		}
	}
	return nil, &OfflineError{Node: node, Since: time.Now()}
}

// Sessions lists the connected edges by name.
func (r *Registry) Sessions() []Info {
	sessions := r.live()
	infos := make([]Info, 0, len(sessions))
	for _, s := range sessions {
		if attached, _ := s.Attached(); !attached {
			continue
		}
		infos = append(infos, Info{Node: s.Peer().Node, Hello: s.Hello(), Stats: s.Stats(), Certificate: s.Certificate()})
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Node, b.Node) })
	return infos
}

// Session gives one edge's session, also one that has no link at the moment:
// Stats.Attached tells. Without a session since is when the last one was lost,
// zero when there was none since this proxy started.
func (r *Registry) Session(node string) (info Info, since time.Time, ok bool) {
	s, since := r.lookup(node)
	if s == nil {
		return Info{}, since, false
	}
	return Info{Node: node, Hello: s.Hello(), Stats: s.Stats(), Certificate: s.Certificate()}, time.Time{}, true
}

// Changed gives a channel that is closed when an edge next comes, goes, is
// replaced, or loses or regains its link. Ask for it before Sessions, so that
// nothing is missed.
func (r *Registry) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.change
}

// Close ends an edge's session with a code, such as CodeRevoked, and reports
// whether there was one. The edge may dial again; refusing it is the listener's matter.
func (r *Registry) Close(node string, code wire.Code, text string) bool {
	s, _ := r.lookup(node)
	if s == nil {
		return false
	}
	_ = s.Close(code, text) // never fails
	r.left(node, s)
	return true
}

func (r *Registry) lookup(node string) (*tunnel.Session, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.edges[node]; e != nil {
		return e.session, e.since
	}
	return nil, time.Time{}
}

func (r *Registry) live() []*tunnel.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	sessions := make([]*tunnel.Session, 0, len(r.edges))
	for _, e := range r.edges {
		if e.session != nil {
			sessions = append(sessions, e.session)
		}
	}
	return sessions
}
