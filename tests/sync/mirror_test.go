package sync

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	cloudreport "github.com/skerry-io/skerry/cloudproxy/report"
)

const (
	mirrorName = "web-" + node
	mirrorKey  = "pods/default/" + mirrorName
)

// staticPod is as staticpods makes one of a file.
func staticPod(uid types.UID) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: mirrorName, UID: uid, Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": string(uid)},
		},
		Spec:   corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// wantMirror checks that the API shows the static pod of that UID, or none.
func (a *api) wantMirror(ctx context.Context, step string, uid types.UID) *corev1.Pod {
	a.t.Helper()
	pod, err := a.CoreV1().Pods("default").Get(ctx, mirrorName, metav1.GetOptions{})
	switch {
	case uid == "" && apierrors.IsNotFound(err):
		return nil
	case err != nil:
		a.t.Fatalf("%s: %v", step, err)
	}
	if got := pod.Annotations[corev1.MirrorPodAnnotationKey]; uid == "" || got != string(uid) || pod.Status.Phase != corev1.PodRunning {
		a.t.Errorf("%s: mirror of %q, phase %q, want %q", step, got, pod.Status.Phase, uid)
	}
	return pod
}

func (a *api) dropMirror(ctx context.Context) {
	a.t.Helper()
	if err := a.CoreV1().Pods("default").Delete(ctx, mirrorName, metav1.DeleteOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

// TestMirror follows a static pod and its mirror through all that can happen to them.
func TestMirror(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, l *link, e *reporting, r *cloudreport.Receiver) {
		first, second := staticPod("hash-1"), staticPod("hash-2")
		e.reporter.StaticPod(first) // before the list of all is known
		e.reporter.StaticPods(map[string]string{mirrorKey: "hash-1"})
		wait(time.Second)
		mirror := a.wantMirror(ctx, "made", "hash-1")
		owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: "node-uid", Controller: new(true)}}
		if d := cmp.Diff(owner, mirror.OwnerReferences); d != "" || mirror.Labels["app"] != "web" || mirror.Spec.NodeName != node {
			t.Errorf("%+v\n%s", mirror, d)
		}

		a.dropMirror(ctx)
		r.MirrorChanged(mirror)
		wait(time.Second)
		a.wantMirror(ctx, "deleted by somebody", "hash-1")

		a.updatePod(ctx, mirrorName, func(pod *corev1.Pod) { pod.DeletionTimestamp, pod.Finalizers = new(metav1.Now()), nil })
		r.MirrorChanged(mirror)
		wait(time.Second)
		if pod := a.wantMirror(ctx, "being deleted by somebody", "hash-1"); pod.DeletionTimestamp != nil {
			t.Error("it is not made anew")
		}

		l.cut()
		a.dropMirror(ctx)
		wait(time.Minute)
		l.mend()
		wait(time.Minute)
		a.wantMirror(ctx, "deleted while the edge was away", "hash-1")

		e.reporter.StaticPods(map[string]string{mirrorKey: "hash-2"})
		e.reporter.StaticPod(first) // ends
		wait(time.Second)
		a.wantMirror(ctx, "file changed, the pod before ends", "hash-1")
		e.reporter.StaticPod(second)
		wait(time.Second)
		a.wantMirror(ctx, "file changed", "hash-2")

		e.reporter.StaticPods(nil)
		e.reporter.StaticPod(second) // ends
		wait(time.Second)
		a.wantMirror(ctx, "file gone", "")
		e.wantEmpty()

		// An agent that knows nothing of what its predecessor has reported.
		e.reporter.StaticPods(map[string]string{mirrorKey: "hash-1"})
		e.reporter.StaticPod(first)
		wait(time.Second)
		a.wantMirror(ctx, "again", "hash-1")
		e.halt()
		e.start(ctx, l)
		wait(time.Minute)
		a.wantMirror(ctx, "before the next agent knows its files", "hash-1")
		e.reporter.StaticPods(nil)
		wait(time.Minute)
		a.wantMirror(ctx, "after it does", "")

		l.cut()
		stale := staticPod("")
		stale.Annotations[corev1.MirrorPodAnnotationKey] = "hash-1"
		a.createPod(ctx, stale)
		wait(time.Minute)
		l.mend()
		wait(time.Minute)
		a.wantMirror(ctx, "there at the next stream of an edge without files", "")
	})
}

// TestMirrorBeforeItsList has pods that run while it is not known which there are, since
// the file of another can't be read. They say how they are, and may not say it again.
func TestMirrorBeforeItsList(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, r *cloudreport.Receiver) {
		list := func(uid string) { e.reporter.StaticPods(map[string]string{mirrorKey: uid}) }
		e.reporter.StaticPods(nil)
		e.reporter.StaticPod(staticPod("hash-1"))
		wait(time.Minute)
		a.wantMirror(ctx, "not listed", "")
		list("hash-1")
		wait(time.Second)
		mirror := a.wantMirror(ctx, "listed", "hash-1")

		e.reporter.StaticPod(staticPod("hash-2"))
		wait(time.Minute)
		a.wantMirror(ctx, "another is not listed", "hash-1")
		a.dropMirror(ctx)
		r.MirrorChanged(mirror)
		wait(time.Second)
		a.wantMirror(ctx, "asked for meanwhile", "hash-1")
		list("hash-2")
		wait(time.Second)
		a.wantMirror(ctx, "another is listed", "hash-2")

		e.reporter.StaticPods(nil)
		e.reporter.StaticPod(staticPod("hash-2")) // ends
		wait(time.Second)
		list("hash-2")
		wait(time.Minute)
		a.wantMirror(ctx, "the file is back, and its pod yet to start", "")
		e.reporter.StaticPod(staticPod("hash-2"))
		wait(time.Second)
		a.wantMirror(ctx, "started", "hash-2")
	})
}

// TestMirrorImpostors has pods in the API that look like mirrors, or have their name.
func TestMirrorImpostors(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, r *cloudreport.Receiver) {
		e.reporter.StaticPods(map[string]string{mirrorKey: "hash-1"})
		wait(time.Second)

		other := staticPod("")
		other.Name = "other-" + node
		other.Annotations[corev1.MirrorPodAnnotationKey] = ""
		a.createPod(ctx, other)
		r.MirrorChanged(other)
		wait(time.Second)
		if _, err := a.CoreV1().Pods("default").Get(ctx, other.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("a mirror of nothing: %v", err)
		}

		forged := staticPod("")
		forged.Annotations[corev1.MirrorPodAnnotationKey] = "forged"
		forged.Spec.Containers[0].Image = "evil"
		a.createPod(ctx, forged)
		e.reporter.StaticPod(staticPod("hash-1"))
		wait(time.Second)
		if pod := a.wantMirror(ctx, "a mirror of another hash", "hash-1"); pod.Spec.Containers[0].Image != "i" {
			t.Errorf("the impostor stays: %+v", pod.Spec)
		}

		a.dropMirror(ctx)
		ordinary := staticPod("")
		a.createPod(ctx, ordinary)
		e.reporter.StaticPod(staticPod("hash-1"))
		e.reporter.StaticPods(nil)
		wait(time.Minute)
		if pod := a.pod(ctx, mirrorName); pod.UID != ordinary.UID || pod.Annotations[corev1.MirrorPodAnnotationKey] != "" {
			t.Errorf("an ordinary pod of that name was touched: %+v", pod.ObjectMeta)
		}
		if s := r.Stats(); s.Foreign == 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestMirrorRefused has an edge that reports static pods that it may not have.
func TestMirrorRefused(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, r *cloudreport.Receiver) {
		secret := corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}
		token := corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}}}}}
		bad := []func(*corev1.Pod){
			func(p *corev1.Pod) { p.Name = "web-edge-2" },
			func(p *corev1.Pod) { p.Name = "kube-dns" },
			func(p *corev1.Pod) { p.UID = "" },
			func(p *corev1.Pod) { p.Spec.NodeName = "edge-2" },
			func(p *corev1.Pod) { p.Spec.ServiceAccountName = "admin" },
			func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "s"}} },
			func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: secret}} },
			func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: token}} },
			func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "v"}} },
			func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}}}
			},
			func(p *corev1.Pod) {
				p.Spec.Containers[0].Env = []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{}}}}
			},
			func(p *corev1.Pod) { p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "r"}} },
			func(p *corev1.Pod) { p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{}} },
		}
		for _, change := range bad {
			pod := staticPod("hash")
			change(pod)
			e.reporter.StaticPod(pod)
			wait(time.Second)
		}
		list, err := a.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 0 {
			t.Errorf("%d pods were made, %v", len(list.Items), err)
		}
		if s := r.Stats(); s.Refused != uint64(len(bad)) {
			t.Errorf("%d of %d were refused: %+v", s.Refused, len(bad), s)
		}
		e.wantEmpty()
	})
}

// TestMirrorForbidden: an admission plugin refuses a mirror. It holds up nothing, and is
// made when the plugin has nothing against it any more, though the edge is not heard.
func TestMirrorForbidden(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, r *cloudreport.Receiver) {
		a.refuseBy(func(action clienttesting.Action) error {
			if action.Matches("create", "pods") {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, mirrorName, errors.New("violates PodSecurity"))
			}
			return nil
		})
		e.reporter.StaticPods(map[string]string{mirrorKey: "hash-1"})
		e.reporter.StaticPod(staticPod("hash-1"))
		wait(time.Minute)
		e.wantEmpty()
		a.wantMirror(ctx, "forbidden", "")
		wait(time.Hour)
		if s := r.Stats(); s.Refused < 6 || s.Refused > 60 {
			t.Errorf("tried %d times in an hour", s.Refused)
		}
		a.refuseBy(nil)
		wait(11 * time.Minute)
		a.wantMirror(ctx, "allowed", "hash-1")
		before := r.Stats()
		wait(time.Hour)
		if after := r.Stats(); after != before {
			t.Errorf("reports go on: %+v, then %+v", before, after)
		}
	})
}

// TestMirrorStaysInTheCloud says that no edge is sent a pod that says mirror, whoever
// made it: it would run beside the static pod, or where nobody may run one.
func TestMirrorStaysInTheCloud(t *testing.T) {
	run(t, func(ctx context.Context, a *api, _ *link, e *edge) {
		pod := testPod("posing")
		pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: ""}
		a.createPod(ctx, pod)
		a.createPod(ctx, testPod("plain"))
		wait(time.Minute)
		var keys []string
		for key := range e.has() {
			if strings.HasPrefix(key, "pods/") {
				keys = append(keys, key)
			}
		}
		if d := cmp.Diff([]string{"pods/default/plain"}, keys); d != "" {
			t.Error(d)
		}
	})
}
