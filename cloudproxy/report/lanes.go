package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// Bounds of what is in memory for one edge; the edge's own window is smaller.
	maxPending      = 256
	maxPendingBytes = 4 << 20
	// maxAcks bounds the bytes of acknowledgements that an edge has not taken yet.
	maxAcks = 64 << 10
	// maxWrites bounds the requests under way for one edge.
	maxWrites = 4
	minRetry  = 500 * time.Millisecond
	maxRetry  = 30 * time.Second
)

// Verdicts on reports that will never be written. Both are acknowledged.
var (
	// errGone says that what the report is about is not there any more.
	errGone = errors.New("object is gone")
	// errForeign says that the report is about something that is not the edge's.
	errForeign = errors.New("object is not this edge's")
	// errNodeAbsent says that Nodes has yet to make the edge's Node; it is no verdict.
	errNodeAbsent = errors.New("node is not made yet")
)

// lanes keeps the order of reports about one object and lets objects pass one
// another, so that one that can't be written delays no other.
type lanes struct {
	r       *Receiver
	node    string
	log     *slog.Logger
	slots   chan struct{}
	room    chan struct{} // capacity 1: a report is done
	settled chan struct{} // capacity 1: there are acks to write
	wg      sync.WaitGroup

	mu     sync.Mutex // guards the following fields
	queues map[string][]wire.Report
	count  int
	bytes  int
	acks   []byte // ReportAck frames that are yet to be written
}

func newLanes(r *Receiver, node string) *lanes {
	return &lanes{
		r: r, node: node, log: r.log.With("edge", node),
		slots:   make(chan struct{}, maxWrites),
		room:    make(chan struct{}, 1),
		settled: make(chan struct{}, 1),
		queues:  make(map[string][]wire.Report),
	}
}

// add puts a report at the end of its lane, and starts the lane if it is idle.
func (l *lanes) add(ctx context.Context, report wire.Report) error {
	// A pod's status and its end share the pod's key, and so their lane.
	name := report.Key
	for {
		l.mu.Lock()
		if l.count < maxPending && l.bytes < maxPendingBytes && len(l.acks) < maxAcks {
			break
		}
		l.mu.Unlock()
		select {
		case <-l.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer l.mu.Unlock()
	q, running := l.queues[name]
	l.queues[name] = append(q, report)
	l.count++
	l.bytes += size(report)
	if !running {
		l.wg.Go(func() { l.run(ctx, name) })
	}
	return nil
}

// run works off one lane.
func (l *lanes) run(ctx context.Context, name string) {
	wait := minRetry
	for {
		report, ok := l.first(name)
		if !ok {
			return
		}
		if wait, ok = l.settle(ctx, name, report, wait); !ok {
			return // the stream is over; nothing is acknowledged
		}
		l.done(name, report)
	}
}

func (l *lanes) first(name string) (wire.Report, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[name]
	if len(q) == 0 {
		delete(l.queues, name)
		return wire.Report{}, false
	}
	return q[0], true
}

// done acknowledges the first report of a lane and takes it off.
func (l *lanes) done(name string, report wire.Report) {
	l.mu.Lock()
	l.acks = wire.Append(l.acks, &wire.ReportAck{Seq: report.Seq})
	l.queues[name] = l.queues[name][1:]
	l.count--
	l.bytes -= size(report)
	l.mu.Unlock()
	ring(l.room)
	ring(l.settled)
}

// size is what a report holds in memory; an edge may send what it likes as a key.
func size(r wire.Report) int { return len(r.Key) + len(r.Value) }

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// writeAcks writes acknowledgements until ctx ends, those that are there together
// in one write.
func (l *lanes) writeAcks(ctx context.Context, w io.Writer) error {
	for {
		select {
		case <-l.settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		l.mu.Lock()
		acks := l.acks
		l.acks = nil
		l.mu.Unlock()
		if len(acks) == 0 {
			continue
		}
		if _, err := w.Write(acks); err != nil {
			return fmt.Errorf("write acks: %w", err)
		}
		ring(l.room)
	}
}

// superseded says whether a newer report of the same thing waits behind the first.
func (l *lanes) superseded(name string, report wire.Report) bool {
	if report.Subject == wire.SubjectEvent {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.queues[name][1:] {
		if other.Subject == report.Subject {
			return true
		}
	}
	return false
}

// settle tries until the report is written, or never can be. It returns false
// when ctx ended before. The wait between attempts is the lane's and not the
// report's, so that reports which supersede one another do not hasten it.
func (l *lanes) settle(ctx context.Context, name string, report wire.Report, wait time.Duration) (time.Duration, bool) {
	for {
		if l.superseded(name, report) {
			l.r.update(func(s *Stats) { s.Superseded++ })
			return wait, true
		}
		err := l.try(ctx, report)
		if ctx.Err() != nil {
			return wait, false
		}
		if l.verdict(report, err) {
			return minRetry, true
		}
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			wait = max(wait, time.Duration(seconds)*time.Second)
		}
		level := slog.LevelWarn
		if errors.Is(err, errNodeAbsent) && wait == minRetry {
			level = slog.LevelDebug // the first report of a new edge is often faster than its Node
		}
		l.log.Log(ctx, level, "report can't be written now", "key", report.Key, "subject", uint64(report.Subject), "error", err, "wait", wait)
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return wait, false
		}
		wait = min(2*wait, maxRetry)
	}
}

// verdict counts what became of an attempt and says whether it was the last.
func (l *lanes) verdict(report wire.Report, err error) bool {
	switch {
	case err == nil:
		l.r.update(func(s *Stats) { s.Written++ })
		return true
	case errors.Is(err, errForeign):
		l.log.Warn("report about something that is not this edge's, dropped", "key", report.Key, "subject", uint64(report.Subject), "error", err)
		l.r.update(func(s *Stats) { s.Foreign++ })
		return true
	case errors.Is(err, errGone):
		l.log.Info("report about something that is gone, dropped", "key", report.Key, "subject", uint64(report.Subject), "error", err)
		l.r.update(func(s *Stats) { s.Gone++ })
		return true
	case hopeless(err):
		// One of the two halves is wrong, and what the cluster shows is not what is.
		l.log.Warn("report is refused for good, dropped", "key", report.Key, "subject", uint64(report.Subject), "error", err)
		l.r.update(func(s *Stats) { s.Refused++ })
		return true
	}
	l.r.update(func(s *Stats) { s.Retried++ })
	return false
}

func (l *lanes) try(ctx context.Context, report wire.Report) error {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return l.r.write(ctx, l.node, report)
}

func (r *Receiver) write(ctx context.Context, node string, report wire.Report) error {
	switch report.Subject {
	case wire.SubjectNode:
		return r.writeNode(ctx, node, report.Value)
	case wire.SubjectPod:
		return r.writePodStatus(ctx, node, report.Value)
	case wire.SubjectPodGone:
		return r.writePodGone(ctx, node, report.Key, report.Value)
	case wire.SubjectEvent:
		return r.writeEvent(ctx, node, report.Value)
	}
	return &badReportError{fmt.Errorf("subject %d is not known", report.Subject)}
}

// badReportError says that a report makes no sense, now and for ever.
type badReportError struct{ err error }

// Error implements error.
func (e *badReportError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *badReportError) Unwrap() error { return e.err }

// hopeless says that trying again can't help. Forbidden is not among it: rights
// of the proxy that are missing are put right by an operator, and until then the
// edge keeps what it has to say.
func hopeless(err error) bool {
	var bad *badReportError
	return errors.As(err, &bad) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsUnsupportedMediaType(err)
}
