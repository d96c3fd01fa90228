package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// Bounds of what is in memory for one edge; the edge's own window is smaller.
	maxPending      = 256
	maxPendingBytes = 1 << 20
	// maxAcks bounds the bytes of acknowledgements that an edge has not taken yet.
	maxAcks = 64 << 10
	// maxWrites bounds the requests under way for one edge.
	maxWrites = 4
	// maxEventWrites are the most of them that events and requests for certificates may
	// take: a webhook that answers slowly must not hold up statuses.
	maxEventWrites = 3
	// maxSampleWrites bounds the frames of samples under way for one edge.
	maxSampleWrites = 2
	// samplesLane begins the name of the lane of a device's samples.
	samplesLane = "samples/"
	// maxCertificateTries is how often an API server may fail at a request for a
	// certificate, as it does while a webhook does, before its edge is to ask again.
	maxCertificateTries = 4
	// maxConflicts is how often a write is tried again at once.
	maxConflicts = 3
	// writeTimeout bounds an attempt, so that an API server that does not answer is
	// asked again.
	writeTimeout = 30 * time.Second
	minRetry     = 500 * time.Millisecond
	maxRetry     = 30 * time.Second
	// slowRetry is the least wait after an attempt that got no answer in time: the
	// API server has too much to do, or has told the client to wait for longer.
	slowRetry = 10 * time.Second
	// maxSuggested bounds what an API server, or what stands before it, may ask for.
	maxSuggested = 5 * time.Minute
	// unwelcomeRetry is how often an edge is asked again for static pods whose mirrors
	// were not allowed.
	unwelcomeRetry = 10 * time.Minute
)

// lanes keeps the order of reports about one object and lets objects pass one
// another, so that one that can't be written delays no other.
type lanes struct {
	r       *Receiver
	node    string
	log     *slog.Logger
	slots   chan struct{}
	events  chan struct{} // slots of events and requests for certificates; taken before slots
	samples chan struct{} // slots of samples, which take no others
	large   chan struct{} // the slot of a large report; taken before these
	room    chan struct{} // capacity 1: a report is done
	settled chan struct{} // capacity 1: there are acks to write
	wg      sync.WaitGroup

	mu     sync.Mutex // guards the following fields
	queues map[string][]wire.Report
	outbox [8]byte // whose seqs the reports have
	count  int
	bytes  int
	acks   []byte // ReportAck frames that are yet to be written
	// unwelcome are the keys of static pods to ask for again.
	unwelcome map[string]bool
}

func newLanes(r *Receiver, node string) *lanes {
	return &lanes{
		r: r, node: node, log: r.log.With("edge", node),
		slots:   make(chan struct{}, maxWrites),
		events:  make(chan struct{}, maxEventWrites),
		samples: make(chan struct{}, maxSampleWrites),
		large:   make(chan struct{}, 1),
		room:    make(chan struct{}, 1),
		settled: make(chan struct{}, 1),
		queues:  make(map[string][]wire.Report),

		unwelcome: make(map[string]bool),
	}
}

// add puts a report at the end of its lane, and starts the lane if it is idle.
func (l *lanes) add(ctx context.Context, report wire.Report) error {
	// A pod's status and its end share the pod's key, and so their lane.
	name := report.Key
	if report.Subject == wire.SubjectSamples {
		name = samplesLane + name // a receiver that is away holds up no status
	}
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
	again := time.NewTicker(unwelcomeRetry)
	defer again.Stop()
	for {
		select {
		case <-l.settled:
		case <-again.C:
			l.askUnwelcome()
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

// askUnwelcome asks for the static pods whose mirrors were not allowed.
func (l *lanes) askUnwelcome() {
	l.mu.Lock()
	keys := slices.Sorted(maps.Keys(l.unwelcome))
	clear(l.unwelcome)
	l.mu.Unlock()
	for _, key := range keys {
		l.tell(&wire.Resend{Key: key})
	}
}

// noteUnwelcome keeps the key of a static pod, of as many as an edge may have.
func (l *lanes) noteUnwelcome(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unwelcome) < maxMirrors {
		l.unwelcome[key] = true
	}
}

// superseded says whether a newer report of the same thing waits behind the first.
func (l *lanes) superseded(name string, report wire.Report) bool {
	if report.Subject == wire.SubjectEvent || report.Subject == wire.SubjectSamples {
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
	for tries := 1; ; tries++ {
		if l.superseded(name, report) {
			l.r.update(func(s *Stats) { s.Superseded++ })
			return wait, true
		}
		err := l.try(ctx, report)
		if ctx.Err() != nil {
			return wait, false
		}
		if report.Subject == wire.SubjectCertificate && apierrors.IsInternalError(err) && tries >= maxCertificateTries {
			err = fmt.Errorf("%w: %w", errAskAgain, err)
		}
		if l.verdict(report, err) {
			return minRetry, true
		}
		if errors.Is(err, context.DeadlineExceeded) {
			wait = max(wait, slowRetry)
		}
		level := slog.LevelWarn
		if errors.Is(err, errNodeAbsent) && wait == minRetry {
			level = slog.LevelDebug // the first report of a new edge is often faster than its Node
		}
		l.log.Log(ctx, level, "report can't be written now", "key", report.Key, "subject", uint64(report.Subject), "error", err, "wait", wait)
		select {
		case <-time.After(pause(wait, err)):
		case <-ctx.Done():
			return wait, false
		}
		wait = min(2*wait, maxRetry)
	}
}

// pause is wait with jitter, and on top of what the API server asks for.
func pause(wait time.Duration, err error) time.Duration {
	d := wait/2 + rand.N(wait)
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		d += min(time.Duration(seconds)*time.Second, maxSuggested)
	}
	return d
}

func (l *lanes) try(ctx context.Context, report wire.Report) error {
	if report.Subject == wire.SubjectSamples {
		return l.trySamples(ctx, report)
	}
	fields := countFields(report.Value)
	if fields > maxFields {
		return &badReportError{fmt.Errorf("%d bytes have more than %d fields", len(report.Value), maxFields)}
	}
	var slots []chan struct{}
	if fields > largeFields {
		slots = append(slots, l.large)
	}
	if report.Subject == wire.SubjectEvent || report.Subject == wire.SubjectCertificate {
		slots = append(slots, l.events)
	}
	for _, slot := range append(slots, l.slots) {
		select {
		case slot <- struct{}{}:
			defer func() { <-slot }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return l.r.write(ctx, l.node, l.stamp(report), report)
}

// trySamples is try for a frame of samples, which goes elsewhere than into the API.
func (l *lanes) trySamples(ctx context.Context, report wire.Report) error {
	select {
	case l.samples <- struct{}{}:
		defer func() { <-l.samples }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return l.r.write(ctx, l.node, stamp{}, report)
}

func (l *lanes) stamp(report wire.Report) stamp {
	l.mu.Lock()
	defer l.mu.Unlock()
	return stamp{outbox: l.outbox, seq: report.Seq}
}

// ask wants the status of the node once more.
func (l *lanes) ask() { l.tell(&wire.ReportAck{}) }

// tell writes a frame behind the acknowledgements, unless the edge takes none.
func (l *lanes) tell(f wire.Frame) {
	l.mu.Lock()
	if len(l.acks) < maxAcks {
		l.acks = wire.Append(l.acks, f)
	}
	l.mu.Unlock()
	ring(l.settled)
}

func (r *Receiver) write(ctx context.Context, node string, place stamp, report wire.Report) error {
	switch report.Subject {
	case wire.SubjectNode:
		return insist(func() error { return r.writeNode(ctx, node, place, report.Value) })
	case wire.SubjectPod:
		return insist(func() error { return r.writePodStatus(ctx, node, place, report.Value) })
	case wire.SubjectPodGone:
		return r.writePodGone(ctx, node, report.Key, report.Value)
	case wire.SubjectEvent:
		return r.writeEvent(ctx, node, report.Value)
	case wire.SubjectStaticPod:
		return insist(func() error { return r.writeStaticPod(ctx, node, report.Key, place, report.Value) })
	case wire.SubjectStaticPods:
		return insist(func() error { return r.writeStaticPods(ctx, node, place, report.Value) })
	case wire.SubjectDevice:
		return insist(func() error { return r.writeDevice(ctx, node, place, report.Value) })
	case wire.SubjectCertificate:
		return r.writeCertificate(ctx, node, report.Value)
	case wire.SubjectSamples:
		return r.takeSamples(ctx, node, report.Key, report.Value)
	}
	return &badReportError{fmt.Errorf("subject %d is not known", report.Subject)}
}

// insist tries at once again when somebody else has written to the object meanwhile.
func insist(write func() error) error {
	for range maxConflicts {
		if err := write(); !apierrors.IsConflict(err) {
			return err
		}
	}
	return write()
}
