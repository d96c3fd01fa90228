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
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxFrame is the bound of PROTOCOL.md for frames on this stream.
const maxFrame = 4 << 20

// Config is what a Receiver needs.
type Config struct {
	// Client is required. It needs get, delete on pods, patch on pods/status, get,
	// create and patch on events, get on nodes and patch on nodes/status.
	Client kubernetes.Interface
	// Pod may read pods from a cache; it gives nil for one that is not there. Nil
	// means that the API is asked each time.
	Pod func(namespace, name string) *corev1.Pod
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
	// Refused reports made no sense, or the API refuses them for good.
	Refused uint64
	// Foreign reports were about something that is not the edge's.
	Foreign uint64
	// Retried counts attempts that failed and were made again.
	Retried uint64
}

// Receiver serves the report streams of all edges.
type Receiver struct {
	client kubernetes.Interface
	pod    func(namespace, name string) *corev1.Pod
	log    *slog.Logger

	mu    sync.Mutex // guards the following fields
	stats Stats
}

// New checks cfg.
func New(cfg Config) (*Receiver, error) {
	if cfg.Client == nil {
		return nil, errors.New("report config: Client is required")
	}
	if cfg.Pod == nil {
		cfg.Pod = func(string, string) *corev1.Pod { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{client: cfg.Client, pod: cfg.Pod, log: cfg.Log}
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

// Serve works on one report stream of the edge called node until it fails or ctx
// ends, and closes conn. Reports that are under way then are not acknowledged; the
// edge sends them again.
func (r *Receiver) Serve(ctx context.Context, node string, conn net.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	l := newLanes(r, node)
	l.wg.Go(func() { cancel(l.writeAcks(ctx, conn)) })
	cancel(l.read(ctx, conn))
	_ = conn.Close()
	l.wg.Wait()
	return context.Cause(ctx)
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
