package pods

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// memObjects is the store of desired state, in memory.
type memObjects struct {
	mu         sync.Mutex
	pods       map[string]*corev1.Pod
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	broken     error
}

func newObjects(pods ...*corev1.Pod) *memObjects {
	o := &memObjects{pods: map[string]*corev1.Pod{}, configMaps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}}
	for _, p := range pods {
		o.put(p)
	}
	return o
}

func keyOf(p *corev1.Pod) string { return "pods/" + p.Namespace + "/" + p.Name }

func (o *memObjects) put(p *corev1.Pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pods[keyOf(p)] = p
}

func (o *memObjects) remove(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.pods, key)
}

func (o *memObjects) Pod(key string) (*corev1.Pod, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken != nil {
		return nil, o.broken
	}
	if p := o.pods[key]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s: %w", key, ErrNotFound)
}

func (o *memObjects) Pods() ([]*corev1.Pod, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken != nil {
		return nil, o.broken
	}
	var out []*corev1.Pod
	for _, p := range o.pods {
		out = append(out, p)
	}
	return out, nil
}

func (o *memObjects) ConfigMap(ns, name string) (*corev1.ConfigMap, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.configMaps[ns+"/"+name]; c != nil {
		return c, nil
	}
	return nil, ErrNotFound
}

func (o *memObjects) Secret(ns, name string) (*corev1.Secret, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.secrets[ns+"/"+name]; s != nil {
		return s, nil
	}
	return nil, ErrNotFound
}

func (o *memObjects) Token(string, string, string) (*authenticationv1.TokenRequest, error) {
	return nil, ErrNotFound
}

// recorder takes statuses, ends and events.
type recorder struct {
	mu      sync.Mutex
	status  map[string]corev1.PodStatus // by namespace/name
	history map[string][]string         // what each pod went through, see describe
	static  map[string]*corev1.Pod      // by namespace/name
	gone    []types.UID
	events  []string
	changed chan struct{}
}

func newRecorder() *recorder {
	return &recorder{status: map[string]corev1.PodStatus{}, history: map[string][]string{}, static: map[string]*corev1.Pod{}, changed: make(chan struct{}, 1)}
}

func (r *recorder) ring() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) StaticPod(p *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.static[p.Namespace+"/"+p.Name] = p
}

func (r *recorder) PodStatus(p *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := p.Namespace + "/" + p.Name
	r.status[name] = p.Status
	if d := describe(&p.Status); len(r.history[name]) == 0 || r.history[name][len(r.history[name])-1] != d {
		r.history[name] = append(r.history[name], d)
	}
	r.ring()
}

func (r *recorder) PodGone(_, _ string, uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = append(r.gone, uid)
	r.ring()
}

func (r *recorder) Event(_ PodRef, kind, reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, kind+" "+reason+": "+message)
}

func (r *recorder) get(name string) corev1.PodStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status[name]
}

func (r *recorder) isGone(uid types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.gone, uid)
}

func (r *recorder) hasEvent(sub string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.events, func(e string) bool { return strings.Contains(e, sub) })
}

// wait waits until ok, for as long as the test may take.
func (r *recorder) wait(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	for !ok() {
		select {
		case <-r.changed:
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("timed out waiting for %s\nhistory %v\nevents:\n%s", what, r.history, strings.Join(r.events, "\n"))
		}
	}
}

// describe writes a status in a line: phase, then each container's state, "+"
// for ready.
func describe(s *corev1.PodStatus) string {
	out := string(s.Phase)
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			c := &list[i]
			out += " " + c.Name + "="
			switch {
			case c.State.Waiting != nil:
				out += c.State.Waiting.Reason
			case c.State.Running != nil:
				out += "Running"
			case c.State.Terminated != nil:
				out += fmt.Sprintf("%s(%d)", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
			}
			if c.Ready {
				out += "+"
			}
			if c.RestartCount > 0 {
				out += fmt.Sprintf("#%d", c.RestartCount)
			}
		}
	}
	return out
}

// noCgroups is for tests without privileges.
type noCgroups struct{}

func (noCgroups) Ensure(string, cgroups.Limits) error { return nil }
func (noCgroups) Remove(...string) error              { return nil }
func (noCgroups) Children(string) ([]string, error)   { return nil, nil }
func (noCgroups) Has(string) bool                     { return true }
func (noCgroups) Memory(string) (uint64, error)       { return 0, nil }

// newPod returns a pod of one container, changed by the given functions.
func newPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSDefault,
			TerminationGracePeriodSeconds: new(int64(30)),
			Containers: []corev1.Container{{
				Name: "c", Image: "docker.io/library/busybox:test", ImagePullPolicy: corev1.PullIfNotPresent,
			}},
		},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func script(text string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"sh", "-c", text} }
}

func policy(r corev1.RestartPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.RestartPolicy = r }
}

func deleted(p *corev1.Pod, grace int64, at time.Time) *corev1.Pod {
	p = p.DeepCopy()
	when := metav1.NewTime(at.Add(time.Duration(grace) * time.Second))
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &when, &grace
	return p
}
