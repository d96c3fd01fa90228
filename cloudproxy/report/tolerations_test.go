package report

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func toleration(key string, seconds int64) corev1.Toleration {
	t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	if seconds >= 0 {
		t.TolerationSeconds = &seconds
	}
	return t
}

func TestTolerateAbsence(t *testing.T) {
	const notReady, unreachable = corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable
	endless := []corev1.Toleration{toleration(notReady, -1), toleration(unreachable, -1)}
	all := corev1.Toleration{Operator: corev1.TolerationOpExists}
	other := corev1.Toleration{Key: "site", Operator: corev1.TolerationOpEqual, Value: "oslo", Effect: corev1.TaintEffectNoSchedule}
	noSchedule := corev1.Toleration{Key: unreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
	equal := corev1.Toleration{Key: unreachable, Effect: corev1.TaintEffectNoExecute}
	minute := int64(60)
	allForAMinute := corev1.Toleration{Operator: corev1.TolerationOpExists, TolerationSeconds: &minute, Effect: corev1.TaintEffectNoExecute}
	for _, tt := range []struct {
		name       string
		have, want []corev1.Toleration // want nil: no change
	}{
		{"none", nil, endless},
		{"kube-apiserver's", []corev1.Toleration{toleration(notReady, 300), toleration(unreachable, 300)}, endless},
		{"in the middle", []corev1.Toleration{other, toleration(notReady, 300), toleration(unreachable, 300)}, []corev1.Toleration{other, endless[0], endless[1]}},
		{"endless", endless, nil},
		{"everything", []corev1.Toleration{all}, nil},
		{"somebody's will", []corev1.Toleration{toleration(notReady, 60), toleration(unreachable, 0)}, nil},
		{"everything for a minute", []corev1.Toleration{allForAMinute}, nil},
		{"one of them", []corev1.Toleration{toleration(notReady, 60), toleration(unreachable, 300)}, []corev1.Toleration{toleration(notReady, 60), endless[1]}},
		{"other effect", []corev1.Toleration{noSchedule}, []corev1.Toleration{noSchedule, endless[0], endless[1]}},
		{"equal", []corev1.Toleration{equal}, []corev1.Toleration{equal, endless[0]}},
		// An endless one that is not the first is not looked at by the taint manager.
		{"behind", []corev1.Toleration{toleration(notReady, 300), toleration(unreachable, 300), all}, []corev1.Toleration{endless[0], endless[1], all}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.have)
			got, changed := tolerateAbsence(tt.have, DefaultTolerationSeconds)
			if changed != (tt.want != nil) {
				t.Errorf("changed = %v", changed)
			}
			if diff := cmp.Diff(tt.want, got); changed && diff != "" {
				t.Errorf("tolerations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tt.have); diff != "" {
				t.Errorf("the pod's own list was changed:\n%s", diff)
			}
			if _, again := tolerateAbsence(got, DefaultTolerationSeconds); again {
				t.Error("the result is not good enough for itself")
			}
		})
	}
}

// fakePods are a watch's pods.
type fakePods struct {
	mu      sync.Mutex // guards the following fields
	pods    map[string]*corev1.Pod
	changed func(*corev1.Pod)
}

func (f *fakePods) OnPod(changed func(*corev1.Pod)) error {
	f.changed = changed
	return nil
}

func (f *fakePods) PodsOf(node string) []*corev1.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*corev1.Pod
	for _, p := range f.pods {
		if p.Spec.NodeName == node {
			list = append(list, p)
		}
	}
	return list
}

func (f *fakePods) Pod(_, name string) (*corev1.Pod, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.pods[name]; p != nil {
		return p, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
}

func (f *fakePods) see(pod *corev1.Pod) {
	f.mu.Lock()
	f.pods[pod.Name] = pod
	f.mu.Unlock()
	f.changed(pod)
}

type tolerationsTest struct {
	testing.TB
	client *fake.Clientset
	pods   *fakePods
}

func (tt *tolerationsTest) create(ctx context.Context, name, node string, change func(*corev1.Pod)) {
	tt.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, CreationTimestamp: metav1.Now()},
		Spec: corev1.PodSpec{NodeName: node, Tolerations: []corev1.Toleration{
			toleration(corev1.TaintNodeNotReady, DefaultTolerationSeconds), toleration(corev1.TaintNodeUnreachable, DefaultTolerationSeconds),
		}},
	}
	change(pod)
	_, err := tt.client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = tt.client.CoreV1().Pods("default").Update(ctx, pod, metav1.UpdateOptions{})
	}
	if err != nil {
		tt.Fatal(err)
	}
	tt.pods.see(pod)
}

// wantEndless checks whether a pod bears a node that is away for ever.
func (tt *tolerationsTest) wantEndless(ctx context.Context, name string, want bool) {
	tt.Helper()
	pod, err := tt.client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		tt.Fatal(err)
	}
	for _, o := range pod.Spec.Tolerations {
		if endless := o.TolerationSeconds == nil; endless != want {
			tt.Errorf("pod %s: endless = %v, want %v", name, endless, want)
		}
	}
}

func TestTolerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tt := &tolerationsTest{TB: t, client: fake.NewClientset(), pods: &fakePods{pods: make(map[string]*corev1.Pod)}}
		var mu sync.Mutex
		failures, patches := 0, 0
		tt.client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			patches++
			if failures == 0 {
				return false, nil, nil
			}
			failures--
			return true, nil, apierrors.NewInternalError(context.DeadlineExceeded)
		})
		nodes, err := NewNodes(NodesConfig{Client: tt.client, Sessions: newSessions()})
		if err != nil {
			t.Fatal(err)
		}
		tolerations, err := NewTolerations(TolerationsConfig{Client: tt.client, Pods: tt.pods, Nodes: nodes})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, run := range []func(context.Context) error{nodes.Run, tolerations.Run} {
			wg.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		createNode := func(name string, annotations map[string]string) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{LabelEdge: "true"}, Annotations: annotations}}
			if _, err := tt.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		createNode("e1", map[string]string{AnnotationOwner: owner})
		createNode("worker", nil)
		wait(time.Second)
		tt.create(ctx, "mine", "e1", func(*corev1.Pod) {})
		tt.create(ctx, "theirs", "worker", func(*corev1.Pod) {})
		tt.create(ctx, "early", "e2", func(*corev1.Pod) {})
		tt.create(ctx, "evict", "e1", func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationEvict: "true"} })
		tt.create(ctx, "finished", "e1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		tt.create(ctx, "brief", "e1", func(*corev1.Pod) {})
		tt.create(ctx, "old", "e1", func(p *corev1.Pod) { p.CreationTimestamp.Time = p.CreationTimestamp.Add(-time.Hour) })
		tt.create(ctx, "waited", "e1", func(p *corev1.Pod) {
			p.CreationTimestamp.Time = p.CreationTimestamp.Add(-time.Hour)
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		})
		// A new pod's spec is nobody else's for a minute.
		wait(59 * time.Second)
		for name, want := range map[string]bool{"mine": false, "waited": false, "old": true} {
			tt.wantEndless(ctx, name, want)
		}
		tt.create(ctx, "brief", "e1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		wait(2 * time.Second)
		for name, want := range map[string]bool{"mine": true, "waited": true, "brief": false, "theirs": false, "early": false, "evict": false, "finished": false} {
			tt.wantEndless(ctx, name, want)
		}
		// Its Node comes after the pod, and the API fails for a while.
		mu.Lock()
		failures = 5
		mu.Unlock()
		createNode("e2", map[string]string{AnnotationOwner: owner})
		wait(time.Second)
		tt.wantEndless(ctx, "early", false)
		wait(time.Minute)
		tt.wantEndless(ctx, "early", true)
		mu.Lock()
		if patches > 10 {
			t.Errorf("%d patches for four pods and five failures", patches)
		}
		mu.Unlock()
		cancel()
		wg.Wait()
	})
}
