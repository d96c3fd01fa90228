package desired

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// ConditionStored is the type of a pod's condition that says whether its edge has
// stored its spec. It is there only of pods that had to wait once.
const ConditionStored corev1.PodConditionType = "skerry.io/Stored"

// Reasons of ConditionStored.
const (
	reasonOffline = "EdgeOffline"
	reasonSlow    = "EdgeSlow"
	reasonStored  = "EdgeStored"
)

const (
	// patience is how long a change may take without a word. Nothing is written
	// while all is prompt.
	patience = 10 * time.Second
	// conditionInterval is how often pods are looked through.
	conditionInterval = 5 * time.Second
)

// Conditions tells on pods that a change of their spec waits for their edge, and on
// Devices that their edge is away.
//
// It remembers nothing that another replica would have to know: that the edge has
// seen a spec is told by the status that the edge reports, observedGeneration.
type Conditions struct {
	pub     *Publisher
	client  kubernetes.Interface
	dynamic dynamic.Interface
	log     *slog.Logger
	nodes   cache.SharedIndexInformer
	// behind is since when a pod's generation has not been observed; pods that
	// are not behind are not in it.
	behind map[types.UID]behindSince
}

type behindSince struct {
	generation int64
	since      time.Time
}

// NewConditions makes Conditions for the pods that p serves. Run does the work.
func NewConditions(cfg Config, p *Publisher) (*Conditions, error) {
	if cfg.Client == nil || p == nil {
		return nil, errors.New("desired conditions: Client and Publisher are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Conditions{pub: p, client: cfg.Client, dynamic: cfg.Dynamic, log: cfg.Log, behind: make(map[types.UID]behindSince)}
	c.nodes = coreinformers.NewFilteredNodeInformer(cfg.Client, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.LabelSelector = report.LabelEdge + "=true"
	})
	if err := c.nodes.SetTransform(onlyReady); err != nil {
		return nil, fmt.Errorf("desired conditions: %w", err)
	}
	return c, nil
}

// onlyReady leaves of a Node what is asked of it here.
func onlyReady(o any) (any, error) {
	node, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	small := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Annotations: map[string]string{report.AnnotationOwner: node.Annotations[report.AnnotationOwner]},
	}}
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			small.Status.Conditions = []corev1.NodeCondition{cond}
		}
	}
	return small, nil
}

// Run writes conditions until ctx ends.
func (c *Conditions) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.nodes.RunWithContext(ctx)
	}()
	defer func() { <-done }()
	tick := time.NewTicker(conditionInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if c.nodes.HasSynced() && c.pub.pods.HasSynced() {
			c.look(ctx)
			c.lookAtDevices(ctx)
		}
	}
}

// look goes through the pods of all edges once.
func (c *Conditions) look(ctx context.Context) {
	before := c.behind
	c.behind = make(map[types.UID]behindSince)
	for _, o := range c.nodes.GetIndexer().List() {
		node, ok := o.(*corev1.Node)
		if !ok || !report.Owned(node) {
			continue
		}
		for _, pod := range c.pub.PodsOf(node.Name) {
			c.lookAt(ctx, node, pod, before[pod.UID])
		}
	}
}

func (c *Conditions) lookAt(ctx context.Context, node *corev1.Node, pod *corev1.Pod, before behindSince) {
	now := time.Now()
	told, generation := storedCondition(pod)
	if pod.Generation == pod.Status.ObservedGeneration || !wanted(pod, node.Name) {
		if told == corev1.ConditionFalse {
			// Of one that is done for, the edge need not have had the last generation.
			c.write(ctx, pod, pod.Status.ObservedGeneration, corev1.ConditionTrue, reasonStored, "the edge has stored the pod's spec")
		}
		return
	}
	if before.generation == 0 {
		before = behindSince{generation: pod.Generation, since: now}
	}
	c.behind[pod.UID] = before
	reason, message := "", ""
	has, here := c.pub.stored(node.Name, pod)
	lost, offline := report.OfflineSince(node)
	switch {
	case has && told == corev1.ConditionFalse:
		c.write(ctx, pod, pod.Generation, corev1.ConditionTrue, reasonStored, "the edge has stored the pod's spec")
		return
	case here && !has:
		reason, message = reasonSlow, "the edge is connected and has not stored the pod's spec yet"
	case !here && offline:
		reason, message = reasonOffline, "the pod's spec waits for its edge, which has had no session since "+lost.UTC().Format(time.RFC3339)
	default:
		return // stored, or another replica's
	}
	// What was stored once is stored, also where a replica still has the session that the
	// edge had before: the two would write one after the other for as long.
	stored := told == corev1.ConditionTrue && generation >= pod.Generation
	if now.Sub(before.since) >= patience && told != corev1.ConditionFalse && !stored {
		c.write(ctx, pod, pod.Generation, corev1.ConditionFalse, reason, message)
	}
}

// storedCondition gives what was said last, and of which generation.
func storedCondition(pod *corev1.Pod) (corev1.ConditionStatus, int64) {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == ConditionStored {
			return c.Status, c.ObservedGeneration
		}
	}
	return "", 0
}

func (c *Conditions) write(ctx context.Context, pod *corev1.Pod, generation int64, status corev1.ConditionStatus, reason, message string) {
	// Fields of metav1 types marshal as the API wants them; a condition's key is its type.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: ConditionStored, Status: status, Reason: reason, Message: message,
			LastTransitionTime: metav1.Now(), ObservedGeneration: generation,
		}}},
	})
	if err == nil {
		_, err = c.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	// Gone, or another pod by now; whatever else it is, the next look tries again.
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		c.log.Warn("condition of a pod can't be written", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
	}
}

// stored says whether the edge has the pod as it is here, and whether the edge has a
// stream here that could tell. It asks for what the edge has, not for what is on its way:
// between a change in the cache and its sending there are moments in which it is nowhere.
func (p *Publisher) stored(node string, pod *corev1.Pod) (stored, here bool) {
	p.mu.Lock()
	s := p.nodes[node]
	p.mu.Unlock()
	if s == nil {
		return false, false
	}
	version, err := podVersion(pod)
	return err == nil && s.has(wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name), version), true
}
