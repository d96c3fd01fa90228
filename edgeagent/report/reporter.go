package report

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Config is what a Reporter needs.
type Config struct {
	// Store, Dialer and Node.Name are required.
	Store  *store.Store
	Dialer uplink.Dialer
	// Node says where the node's status comes from.
	Node NodeConfig
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Stats tells how far a Reporter is.
type Stats struct {
	// Sent counts reports written to streams, again ones included; Acked counts
	// those that the cloud has written to the API.
	Sent, Acked uint64
	// Unacked is how many are on the way now.
	Unacked int
	// Failed counts reports that the store did not take at once. Events among them are
	// lost; what is said of pods is kept in memory until there is room on the disk.
	Failed uint64
	// Streams counts the streams that were opened.
	Streams uint64
}

// Reporter is the edge's half of the report stream.
type Reporter struct {
	store  *store.Store
	outbox *store.Outbox
	id     [8]byte // of outbox
	dialer uplink.Dialer
	log    *slog.Logger
	node   *nodeReporter
	events *events
	static *staticPods
	// refused is what is said of pods and found no room.
	refused *refused

	mu    sync.Mutex // guards the following fields
	stats Stats
}

// New checks cfg. Run does the work; reports are taken before it runs, too.
func New(cfg Config) (*Reporter, error) {
	if cfg.Store == nil || cfg.Dialer == nil {
		return nil, errors.New("report config: Store and Dialer are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	node, err := cfg.Node.fill()
	if err != nil {
		return nil, err
	}
	r := &Reporter{
		store:  cfg.Store,
		outbox: cfg.Store.Outbox(),
		dialer: cfg.Dialer,
		log:    cfg.Log,
		events: newEvents(node.Name), refused: newRefused(), static: newStaticPods(),
	}
	if err := r.identify(); err != nil {
		return nil, err
	}
	r.node = &nodeReporter{cfg: node, put: r.putNode, log: cfg.Log, again: make(chan struct{}, 1)}
	return r, nil
}

// metaOutbox is the id of the outbox. It comes and goes with the store, and with it
// the seqs.
const metaOutbox = "outbox-id"

// identify reads the id of the outbox, or draws one.
func (r *Reporter) identify() error {
	id, err := r.store.Meta(metaOutbox)
	if err == nil && len(id) == len(r.id) {
		r.id = [8]byte(id)
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	_, _ = rand.Read(r.id[:]) // never fails
	err = r.store.SetMeta(metaOutbox, r.id[:])
	if errors.Is(err, store.ErrDiskFull) {
		return nil // another one, then, until there is room
	}
	return err
}

// Stats gives the counters.
func (r *Reporter) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

func (r *Reporter) update(f func(s *Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.stats)
}

// PodStatus publishes a pod's status, in place of the one before if the cloud
// has not had it yet. Only namespace, name, UID and status of pod count.
func (r *Reporter) PodStatus(pod *corev1.Pod) {
	slim := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Status:     pod.Status,
	}
	value, err := slim.Marshal()
	if err == nil {
		err = r.putKeyed(wire.SubjectPod, wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name), value)
	}
	r.note(err, "pod status", pod.Namespace, pod.Name)
}

// PodGone says that nothing is left of a pod that was to be deleted. For one name
// there is one entry: a pod can only have a successor of its name when its own API
// object is gone, so the older entry has no work left.
func (r *Reporter) PodGone(namespace, name string, uid types.UID) {
	err := r.putKeyed(wire.SubjectPodGone, wire.ObjectKey(wire.ResourcePods, namespace, name), []byte(uid))
	r.note(err, "pod gone", namespace, name)
}

// CertificateRequest asks the cloud for a certificate for a pod, in place of what was asked
// before for the same source of the same volume. See wire.SubjectCertificate for what of
// req counts.
func (r *Reporter) CertificateRequest(volume string, source int, req *certificatesv1.PodCertificateRequest) {
	value, err := req.Marshal()
	if err == nil {
		err = r.putKeyed(wire.SubjectCertificate, wire.CertificateKey(req.Namespace, req.Spec.PodName, volume, source), value)
	}
	r.note(err, "certificate request", req.Namespace, req.Spec.PodName)
}

// Event sends an event as it is. Namespace and name are required; the same name
// again updates count, last time and message of the one in the API.
func (r *Reporter) Event(ev *corev1.Event) { r.appendEvent(ev) }

func (r *Reporter) appendEvent(ev *corev1.Event) (seq uint64) {
	var err error
	if ev.Namespace == "" || ev.Name == "" {
		err = errors.New("event without namespace or name")
	}
	var value []byte
	if err == nil {
		value, err = ev.Marshal()
	}
	if err == nil {
		seq, err = r.outbox.Append(uint64(wire.SubjectEvent), "events/"+ev.Namespace+"/"+ev.Name, value)
	}
	r.note(err, "event", ev.Namespace, ev.Name)
	return seq
}

// PodEvent builds and sends an event about a pod, or about the part of it that
// fieldPath names. Repetitions of one event are counted into it and sent again
// at most every 30 seconds, and later every 5 minutes.
func (r *Reporter) PodEvent(namespace, name string, uid types.UID, fieldPath, kind, reason, message string) {
	ref := corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: namespace, Name: name, UID: uid, FieldPath: fieldPath,
	}
	r.podEvent(ref, kind, reason, message)
}

// NodeEvent builds and sends an event about this node, counted as those of pods.
func (r *Reporter) NodeEvent(kind, reason, message string) {
	name := r.events.node
	// The kubelet's own reference: kubectl describe node looks for this UID.
	r.podEvent(corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: types.UID(name)}, kind, reason, message)
}

// podEvent keeps one entry of the outbox for an event and all its repetitions:
// through a long outage only the newest count waits. The old entry goes when the
// new one is on the disk; a crash in between sends both, which changes nothing.
func (r *Reporter) podEvent(ref corev1.ObjectReference, kind, reason, message string) {
	ev, old := r.events.next(time.Now(), ref, kind, reason, message)
	if ev == nil {
		return
	}
	seq := r.appendEvent(ev)
	if seq == 0 {
		return
	}
	r.events.stored(ref, ev.Name, seq)
	if old == 0 {
		return
	}
	if err := r.outbox.Trim(old); err != nil {
		r.log.Error("older count of an event can't be taken out of the outbox", "error", err)
	}
}

func (r *Reporter) putNode(status *corev1.NodeStatus) error {
	value, err := status.Marshal()
	if err == nil {
		_, err = r.outbox.PutKeyed(uint64(wire.SubjectNode), "", value)
	}
	return err
}

func (r *Reporter) note(err error, what, namespace, name string) {
	if err == nil {
		return
	}
	r.log.Error("report can't be stored", "what", what, "namespace", namespace, "name", name, "error", err)
	r.update(func(s *Stats) { s.Failed++ })
}

// Run watches the node and keeps one report stream open, until ctx ends or the
// store fails.
func (r *Reporter) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { r.node.run(ctx) })
	wg.Go(func() { r.retryRefused(ctx) })
	k := uplink.Keeper{
		Dialer: r.dialer, Kind: wire.KindReport, Failed: r.store.Err, Log: r.log,
		Serve: func(ctx context.Context, conn net.Conn) (bool, error) {
			acked := r.Stats().Acked
			err := r.serve(ctx, conn)
			return r.Stats().Acked > acked, err
		},
	}
	return k.Run(ctx)
}
