package sync

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	edgedesired "github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// TestClaimsAndClasses: a pod's claim, the volume that it is bound to, now or
// later, and its RuntimeClass come to the edge and leave it with the pod.
func TestClaimsAndClasses(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		keys := func() []string {
			var keys []string
			if err := e.store.Versions("", func(entry store.Entry) bool { keys = append(keys, entry.Key); return true }); err != nil {
				t.Fatal(err)
			}
			return keys
		}
		see := func(what string, want ...string) {
			t.Helper()
			wait(time.Second)
			if diff := cmp.Diff(want, keys()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data"}}
		a.stamp(&claim.ObjectMeta)
		if _, err := a.CoreV1().PersistentVolumeClaims("default").Create(ctx, claim, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"pv-1", "pv-2"} {
			pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
			a.stamp(&pv.ObjectMeta)
			if _, err := a.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "gvisor"}, Handler: "runsc"}
		a.stamp(&class.ObjectMeta)
		if _, err := a.NodeV1().RuntimeClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		pod := testPod("db")
		pod.Spec.RuntimeClassName = &class.Name
		pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
		}}}
		a.createPod(ctx, pod)
		see("unbound", "persistentvolumeclaims/default/data", "pods/default/db", "runtimeclasses/gvisor")

		claim.Spec.VolumeName = "pv-2"
		a.stamp(&claim.ObjectMeta)
		if _, err := a.CoreV1().PersistentVolumeClaims("default").Update(ctx, claim, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		see("bound", "persistentvolumeclaims/default/data", "persistentvolumes/pv-2", "pods/default/db", "runtimeclasses/gvisor")
		objects := edgedesired.Objects{Store: e.store}
		if h, err := objects.RuntimeHandler("gvisor"); h != "runsc" || err != nil {
			t.Errorf("handler %q, %v", h, err)
		}
		if c, err := objects.PersistentVolumeClaim("default", "data"); err != nil || c.Spec.VolumeName != "pv-2" {
			t.Errorf("claim: %v", err)
		}
		if _, err := objects.PersistentVolume("pv-2"); err != nil {
			t.Error(err)
		}

		l.reconnect(t, time.Second)
		if err := a.CoreV1().Pods("default").Delete(ctx, "db", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		see("gone")
	})
}

// TestServices: an edge gets the services of the namespaces of its pods that are to
// be told of them, and the API's; what variables don't tell costs it nothing.
func TestServices(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		objects := edgedesired.Objects{Store: e.store}
		put := func(namespace, name, ip string, change func(*corev1.Service)) {
			t.Helper()
			s := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"a": "label"}},
				Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "p", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
			}
			a.stamp(&s.ObjectMeta)
			if change != nil {
				change(s)
				if _, err := a.CoreV1().Services(namespace).Update(ctx, s, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			} else if _, err := a.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			wait(time.Second)
		}
		links := func() []string {
			list, err := objects.ServiceLinks("default")
			if err != nil {
				return nil
			}
			var names []string
			for _, s := range list.Items {
				names = append(names, fmt.Sprintf("%s %s:%d", s.Name, s.Spec.ClusterIP, s.Spec.Ports[0].Port))
			}
			return names
		}
		put("default", "kubernetes", "10.0.0.1", nil)
		put("default", "web", "10.0.0.2", nil)
		put("default", "peers", "None", nil)
		put("other", "far", "10.0.0.3", nil)
		without := testPod("without")
		without.Spec.EnableServiceLinks = new(false)
		a.createPod(ctx, without)
		wait(time.Second)
		if s, err := objects.Service("default", "kubernetes"); err != nil || s.Spec.ClusterIP != "10.0.0.1" || len(s.Labels) != 0 {
			t.Errorf("the API's service: %v, %v", s, err)
		}
		if got := links(); got != nil {
			t.Errorf("links %v for no pod that wants them", got)
		}
		a.createPod(ctx, testPod("with"))
		wait(time.Second)
		if d := cmp.Diff([]string{"web 10.0.0.2:80"}, links()); d != "" {
			t.Error(d)
		}
		l.counts()
		put("default", "web", "10.0.0.2", func(s *corev1.Service) { s.Labels["b"] = "c"; s.Spec.Ports[0].TargetPort = intstr.FromInt32(1) })
		put("other", "further", "10.0.0.4", nil)
		if got := l.counts(); len(got) != 0 {
			t.Errorf("what no variable tells sent %v", got)
		}
		put("default", "db", "10.0.0.5", nil)
		if d := cmp.Diff([]string{"db 10.0.0.5:80", "web 10.0.0.2:80"}, links()); d != "" {
			t.Error(d)
		}
		l.reconnect(t, time.Second)
		if err := a.CoreV1().Pods("default").Delete(ctx, "with", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		if got := links(); got != nil {
			t.Errorf("links %v when nobody wants them any more", got)
		}
	})
}

// TestOwnNode: an edge gets its own Node, as far as that decides what may run there,
// and hears of it only when that changes.
func TestOwnNode(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		objects := edgedesired.Objects{Store: e.store}
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{"skerry.io/edge": "true", "site": "a"}}}
		other := n.DeepCopy()
		other.Name = "edge-2"
		for _, n := range []*corev1.Node{n, other} {
			a.stamp(&n.ObjectMeta)
			if _, err := a.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		update := func(change func()) map[string]int {
			t.Helper()
			wait(time.Second)
			l.counts()
			change()
			a.stamp(&n.ObjectMeta)
			if _, err := a.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			wait(time.Second)
			return l.counts()
		}
		if got := update(func() {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}
		}); len(got) != 0 {
			t.Errorf("a status sent %v", got)
		}
		update(func() {
			n.Labels["site"] = "b"
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "own", Effect: corev1.TaintEffectNoExecute})
		})
		got, err := objects.Node(node)
		if err != nil {
			t.Fatal(err)
		}
		if got.Labels["site"] != "b" || len(got.Spec.Taints) != 1 || got.Spec.Taints[0].Key != "own" || len(got.Status.Conditions) != 0 {
			t.Errorf("the edge has %v", got)
		}
		if _, err := objects.Node("edge-2"); err == nil {
			t.Error("an edge was sent the Node of another")
		}
		l.reconnect(t, time.Second)
	})
}
