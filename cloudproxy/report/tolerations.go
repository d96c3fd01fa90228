package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
)

const (
	// AnnotationEvict is "true" on pods that are to be evicted, and so made anew
	// elsewhere, when their edge stays away, as pods of other nodes are.
	AnnotationEvict = "skerry.io/evict-when-offline"
	// DefaultTolerationSeconds is what kube-apiserver writes into each pod that does
	// not say how long it bears a node that is away.
	DefaultTolerationSeconds = 300

	// settleShare is which part of the seconds of kube-apiserver's making a pod is left
	// alone after it was bound. Each patch of the spec counts up its generation, which
	// some watch; and a pod that ends soon needs none. An eviction takes all the seconds
	// from the moment at which the node is away, so there is time enough.
	settleShare = 5

	tolerationWorkers  = 4
	minTolerationRetry = 200 * time.Millisecond
	maxTolerationRetry = time.Minute
)

// Pods knows the pods that are bound to nodes.
type Pods interface {
	// OnPod has changed called for each pod bound to a node, now and when it changes.
	OnPod(changed func(pod *corev1.Pod)) error
	// PodsOf gives the pods of one node.
	PodsOf(node string) []*corev1.Pod
	// Pod gives one of them; the error is a NotFound API error.
	Pod(namespace, name string) (*corev1.Pod, error)
}

// TolerationsConfig is what Tolerations needs.
type TolerationsConfig struct {
	// Client needs patch on pods. Required.
	Client kubernetes.Interface
	// Pods and Nodes are required.
	Pods  Pods
	Nodes *Nodes
	// DefaultSeconds is what kube-apiserver's flags --default-not-ready-toleration-seconds
	// and --default-unreachable-toleration-seconds say; zero means 300, as there.
	DefaultSeconds int64
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Tolerations lets the pods of edges bear an edge that is away for as long as it
// takes. The scheduler binds long after admission, so nothing that looks at the
// creation of a pod knows that it will be an edge's; but a pod may be given
// tolerations at any time, and this does so a minute after it was bound.
type Tolerations struct {
	cfg   TolerationsConfig
	log   *slog.Logger
	queue workqueue.TypedRateLimitingInterface[types.NamespacedName]
}

// NewTolerations checks cfg and begins to watch. Run does the work.
func NewTolerations(cfg TolerationsConfig) (*Tolerations, error) {
	if cfg.Client == nil || cfg.Pods == nil || cfg.Nodes == nil {
		return nil, errors.New("tolerations config: Client, Pods and Nodes are required")
	}
	if cfg.DefaultSeconds == 0 {
		cfg.DefaultSeconds = DefaultTolerationSeconds
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tolerations{
		cfg: cfg, log: cfg.Log,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](minTolerationRetry, maxTolerationRetry)),
	}
	if err := cfg.Pods.OnPod(t.note); err != nil {
		return nil, err
	}
	// A pod may be there before the Node, or the cache may know it before.
	return t, cfg.Nodes.onNode(func(node string) {
		for _, pod := range cfg.Pods.PodsOf(node) {
			t.note(pod)
		}
	})
}

func (t *Tolerations) note(pod *corev1.Pod) {
	if t.wanted(pod) != nil {
		t.queue.AddAfter(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}, t.unsettled(pod, time.Now()))
	}
}

// unsettled is for how long a pod is to be left alone yet.
func (t *Tolerations) unsettled(pod *corev1.Pod, now time.Time) time.Duration {
	bound := pod.CreationTimestamp.Time
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue && c.LastTransitionTime.After(bound) {
			bound = c.LastTransitionTime.Time
		}
	}
	settle := time.Duration(t.cfg.DefaultSeconds) * time.Second / settleShare
	// Whatever the API's clock says, it is no longer than that.
	return min(max(bound.Add(settle).Sub(now), 0), settle)
}

// wanted gives the tolerations that a pod should have, or nil when it needs no
// change.
func (t *Tolerations) wanted(pod *corev1.Pod) []corev1.Toleration {
	if !t.cfg.Nodes.owns(pod.Spec.NodeName) || pod.DeletionTimestamp != nil || pod.Annotations[AnnotationEvict] == "true" ||
		pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	want, changed := tolerateAbsence(pod.Spec.Tolerations, t.cfg.DefaultSeconds)
	if !changed {
		return nil
	}
	return want
}

// tolerateAbsence makes the tolerations of a node that is away endless, those that
// are missing and those of kube-apiserver's making. Any other number of seconds is
// somebody's will and stays.
func tolerateAbsence(have []corev1.Toleration, defaultSeconds int64) (want []corev1.Toleration, changed bool) {
	want = slices.Clone(have)
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		// The first that matches is the one that counts, so an endless one behind it
		// would change nothing. The API lets the seconds of an old one be changed.
		i := slices.IndexFunc(want, func(o corev1.Toleration) bool { return toleratesExecute(o, key) })
		switch {
		case i < 0:
			want = append(want, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
			changed = true
		case want[i].Key == key && want[i].TolerationSeconds != nil && *want[i].TolerationSeconds == defaultSeconds:
			want[i].TolerationSeconds = nil
			changed = true
		}
	}
	return want, changed
}

// toleratesExecute says whether a toleration is for the taint of this key, without
// value, that evicts.
func toleratesExecute(o corev1.Toleration, key string) bool {
	if o.Effect != "" && o.Effect != corev1.TaintEffectNoExecute {
		return false
	}
	switch o.Operator {
	case corev1.TolerationOpExists:
		return o.Key == "" || o.Key == key
	case corev1.TolerationOpEqual, "":
		return o.Key == key && o.Value == ""
	default:
		return false // comparisons of numbers
	}
}

// Run works until ctx ends.
func (t *Tolerations) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range tolerationWorkers {
		wg.Go(func() {
			for t.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	t.queue.ShutDown()
	wg.Wait()
	return nil
}

func (t *Tolerations) next(ctx context.Context) bool {
	key, shutdown := t.queue.Get()
	if shutdown {
		return false
	}
	defer t.queue.Done(key)
	err := t.ensure(ctx, key)
	switch {
	case err == nil:
		t.queue.Forget(key)
		return true
	case ctx.Err() != nil:
		return false
	case apierrors.IsConflict(err):
		// It changed meanwhile, or another replica was faster; the watch tells.
		t.log.Debug("pod has changed meanwhile", "namespace", key.Namespace, "pod", key.Name)
	default:
		t.log.Warn("pod can't be kept from eviction", "namespace", key.Namespace, "pod", key.Name, "error", err)
	}
	t.queue.AddRateLimited(key)
	return true
}

func (t *Tolerations) ensure(ctx context.Context, key types.NamespacedName) error {
	pod, err := t.cfg.Pods.Pod(key.Namespace, key.Name)
	if err != nil {
		return nil //nolint:nilerr // the only error of a cache is that it is not there
	}
	want := t.wanted(pod)
	if want == nil {
		return nil
	}
	// The list is written as a whole, so it must be the one that was read.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"spec":     map[string]any{"tolerations": want},
	})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	_, err = t.cfg.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("give pod tolerations: %w", err)
	}
	t.log.Debug("pod bears an edge that is away", "namespace", pod.Namespace, "pod", pod.Name)
	return nil
}
