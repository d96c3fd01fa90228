package report

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/cloudproxy/newest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxFrame is the bound of PROTOCOL.md for frames on this stream.
	maxFrame = 128 << 10
	// maxFields bounds what a report is in memory: until it is written, a field may
	// be 6 kB. Of a pod's report this bound is met before maxFrame: it has room for 60
	// containers with all that there is to say of each, volumes and the last end
	// included, which is 60 fields, and for 240 that just run. The status of a pod of
	// more is refused.
	maxFields = 4096
	// largeFields is how many fields make a report a large one, of which one is worked
	// on at a time for each edge.
	largeFields = 512
)

// Config is what a Receiver needs.
type Config struct {
	// Client is required. It needs get, create, delete on pods, patch on pods/status,
	// get, create and patch on events, get on nodes and patch on nodes/status, get on
	// serviceaccounts and create on podcertificaterequests.
	Client kubernetes.Interface
	// Dynamic reads and writes Devices: get on devices, patch on devices/status. Nil
	// means that there are none.
	Dynamic dynamic.Interface
	// Pod may read pods from a cache; it gives nil for one that is not there. Nil
	// means that the API is asked each time.
	Pod func(namespace, name string) *corev1.Pod
	// PodsOf may read the pods of a node from a cache. Nil means that the API is asked,
	// which takes list on pods.
	PodsOf func(node string) []*corev1.Pod
	// Requests may give the names of the PodCertificateRequests of edges that a pod has,
	// from a cache, and whether that has all. Nil means that there are none but the
	// Receiver's own.
	Requests func(pod types.UID) (names []string, known bool)
	// Samples takes what devices tell. Nil means that it is dropped.
	Samples SampleSink
	// Device may give a Device's node and UID from a cache. Nil means that the API is
	// asked each time.
	Device func(namespace, name string) (node string, uid types.UID, ok bool)
	// NodeWanted may say that the Node of an edge lacks what the edge knows of it:
	// the edge is then asked as soon as it opens a stream. Nil means that it never is.
	NodeWanted func(node string) bool
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Stats counts what became of reports.
type Stats struct {
	// Written reports changed the API or found it as they would have made it.
	Written uint64
	// Superseded reports were not written since a newer one of the same object came.
	Superseded uint64
	// Gone reports were about something that is not there any more.
	Gone uint64
	// Refused reports made no sense, or the API refuses them, for good or for now.
	Refused uint64
	// Foreign reports were about something that is not the edge's.
	Foreign uint64
	// Unwanted reports are samples that nobody takes.
	Unwanted uint64
	// Retried counts attempts that failed and were made again.
	Retried uint64
}

// Receiver serves the report streams of all edges.
type Receiver struct {
	client  kubernetes.Interface
	dynamic dynamic.Interface
	pod     func(namespace, name string) *corev1.Pod
	podsOf  func(node string) []*corev1.Pod
	wanted  func(node string) bool
	// cached gives a pod's PodCertificateRequests.
	cached   func(pod types.UID) (names []string, known bool)
	requests requests
	samples  SampleSink
	device   func(namespace, name string) (node string, uid types.UID, ok bool)
	log      *slog.Logger
	newest   newest.Streams

	mu      sync.Mutex // guards the following fields
	stats   Stats
	streams map[string]*lanes // node -> its open stream
}

// New checks cfg.
func New(cfg Config) (*Receiver, error) {
	if cfg.Client == nil {
		return nil, errors.New("report config: Client is required")
	}
	if cfg.Pod == nil {
		cfg.Pod = func(string, string) *corev1.Pod { return nil }
	}
	if cfg.Requests == nil {
		cfg.Requests = func(types.UID) ([]string, bool) { return nil, true }
	}
	if cfg.NodeWanted == nil {
		cfg.NodeWanted = func(string) bool { return false }
	}
	if cfg.Device == nil {
		cfg.Device = func(string, string) (string, types.UID, bool) { return "", "", false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{
		client: cfg.Client, dynamic: cfg.Dynamic, pod: cfg.Pod, podsOf: cfg.PodsOf, wanted: cfg.NodeWanted, cached: cfg.Requests, log: cfg.Log,
		samples: cfg.Samples, device: cfg.Device,
		streams: make(map[string]*lanes),
	}
	if cfg.Registerer != nil {
		if err := r.register(cfg.Registerer); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Stats gives the counters.
func (r *Receiver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

func (r *Receiver) update(f func(s *Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.stats)
}

// Serve works on one report stream of the edge called node until it fails, ctx ends
// or the edge opens another, and closes conn. Reports that are under way then are
// not acknowledged; the edge sends them again.
func (r *Receiver) Serve(ctx context.Context, node string, conn net.Conn) error {
	ctx, leave := r.newest.Enter(ctx, node)
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	l := newLanes(r, node)
	r.attach(l)
	defer r.detach(l)
	if r.wanted(node) {
		l.ask()
	}
	l.wg.Go(func() { cancel(l.writeAcks(ctx, conn)) })
	cancel(l.read(ctx, conn))
	_ = conn.Close()
	l.wg.Wait()
	return context.Cause(ctx)
}

// AskNode asks an edge for the status of its node, if it has a stream open. Edges
// send it when it changed, and don't know what others did to the Node.
func (r *Receiver) AskNode(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.streams[node]; l != nil {
		l.ask() // lock order: Receiver.mu, then lanes.mu
	}
}

func (r *Receiver) attach(l *lanes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[l.node] = l
}

func (r *Receiver) detach(l *lanes) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, l.node)
}

// read hands reports to their lanes until the stream ends.
func (l *lanes) read(ctx context.Context, conn io.Reader) error {
	frames := wire.NewReader(bufio.NewReader(conn), maxFrame)
	for {
		f, err := frames.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("edge ended the report stream: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		if outbox, ok := f.(*wire.Outbox); ok {
			l.mu.Lock()
			l.outbox = outbox.ID
			l.mu.Unlock()
		}
		report, ok := f.(*wire.Report)
		if !ok {
			continue
		}
		// The frame's bytes belong to the reader.
		own := *report
		own.Value = append([]byte(nil), report.Value...)
		if err := l.add(ctx, own); err != nil {
			return err
		}
	}
}
