package install

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/manifests"
)

const namespace = "skerry-system"

func objects(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	v, err := manifests.DefaultValues()
	if err != nil {
		t.Fatal(err)
	}
	v.AdvertiseAddresses = []string{"a:1"}
	yaml, err := manifests.Render(namespace, v)
	if err != nil {
		t.Fatal(err)
	}
	objs, err := Objects(yaml)
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

// TestObjects knows every kind that is installed, and labels each.
func TestObjects(t *testing.T) {
	objs := objects(t)
	before, services, deployments := Split(objs)
	if len(before)+len(services)+len(deployments) != len(objs) || len(services) != 2 || len(deployments) != 1 || before[0].GetKind() != "Namespace" {
		t.Errorf("%d, %d, %d of %d", len(before), len(services), len(deployments), len(objs))
	}
	for _, obj := range objs {
		if !managed(obj) {
			t.Errorf("%s is not labelled", name(obj))
		}
	}
	if _, err := Objects([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n")); err == nil {
		t.Error("a kind that is not known is taken")
	}
}

// cluster has objs, some of them labelled as ours.
func cluster(t *testing.T, objs []*unstructured.Unstructured, more ...runtime.Object) *Cluster {
	t.Helper()
	list := map[schema.GroupVersionResource]string{}
	var present []runtime.Object
	for _, obj := range objects(t) {
		r, err := resourceOf(obj)
		if err != nil {
			t.Fatal(err)
		}
		list[r.GroupVersionResource] = obj.GetKind() + "List"
	}
	list[schema.GroupVersionResource{Group: "devices.skerry.io", Version: "v1alpha1", Resource: "devices"}] = "DeviceList"
	list[schema.GroupVersionResource{Group: "devices.skerry.io", Version: "v1alpha1", Resource: "devicemodels"}] = "DeviceModelList"
	for _, obj := range objs {
		present = append(present, obj)
	}
	return &Cluster{
		Client: fake.NewClientset(more...), Namespace: namespace, Say: func(string) {},
		Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), list, present...),
	}
}

func whats(plan []Removal) string {
	var all []string
	for _, r := range plan {
		all = append(all, strings.TrimPrefix(r.What, "delete "))
	}
	return strings.Join(all, ", ")
}

func TestPlan(t *testing.T) {
	edge := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "edge1", Labels: map[string]string{edgeLabel: "true"}}}
	worker := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}
	ca := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "skerry-ca"}}
	other := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: "bootstrap.kubernetes.io/token"}
	unlabel := func(objs []*unstructured.Unstructured, kinds ...string) []*unstructured.Unstructured {
		for _, obj := range objs {
			for _, kind := range kinds {
				if obj.GetKind() == kind {
					obj.SetLabels(nil)
				}
			}
		}
		return objs
	}
	plan := func(objs []*unstructured.Unstructured) (string, string) {
		c := cluster(t, objs, edge, worker, ca, other)
		plan, notes, err := c.Plan(t.Context(), objects(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range plan {
			if err := r.Run(t.Context()); err != nil {
				t.Errorf("%s: %v", r.What, err)
			}
		}
		if again, _, err := c.Plan(t.Context(), objects(t)); err != nil || len(again) > 0 {
			t.Errorf("after all was done there is left: %s, %v", whats(again), err)
		}
		return whats(plan), strings.Join(notes, " ")
	}
	got, notes := plan(objects(t))
	if !strings.HasPrefix(got, "Deployment cloudproxy") || !strings.Contains(got, "Node edge1") || !strings.Contains(got, "Namespace skerry-system") ||
		strings.Contains(got, "worker") || strings.Contains(got, "skerry-ca") || strings.Contains(got, "abcdef") || notes != "" {
		t.Errorf("plan: %s\nnotes: %s", got, notes)
	}
	// A namespace of somebody else stays, and what the proxy had put into it goes.
	got, notes = plan(unlabel(objects(t), "Namespace"))
	if strings.Contains(got, "Namespace skerry-system") || !strings.Contains(got, "Secret skerry-ca") || !strings.Contains(notes, "Leaving Namespace skerry-system alone") {
		t.Errorf("plan: %s\nnotes: %s", got, notes)
	}
	// Nothing is ours: nothing goes, edges least of all.
	c := cluster(t, unlabel(objects(t), "Namespace", "Deployment", "Service", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", definition), edge, ca)
	if p, _, err := c.Plan(t.Context(), objects(t)); err != nil || len(p) > 0 {
		t.Errorf("of others' things it would remove %s, %v", whats(p), err)
	}
	if p, notes, err := cluster(t, nil, edge).Plan(t.Context(), objects(t)); err != nil || len(p)+len(notes) > 0 {
		t.Errorf("in an empty cluster it would remove %s, %v", whats(p), err)
	}
}

// TestPlanKeepsDevices: with the definition of Devices all of them would go.
func TestPlanKeepsDevices(t *testing.T) {
	device := &unstructured.Unstructured{}
	device.SetAPIVersion("devices.skerry.io/v1alpha1")
	device.SetKind("Device")
	device.SetNamespace("plant")
	device.SetName("press")
	plan, notes, err := cluster(t, append(objects(t), device)).Plan(t.Context(), objects(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := whats(plan); strings.Contains(got, definition+" devices.devices") || !strings.Contains(got, definition+" devicemodels.devices") {
		t.Errorf("plan: %s", got)
	}
	if note := strings.Join(notes, " "); !strings.Contains(note, "kubectl delete crd devices.devices.skerry.io") {
		t.Errorf("notes: %s", note)
	}
}

func service(ports ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: proxyName}}
	for _, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 7443, NodePort: p})
	}
	return s
}

func host(name string, addresses ...corev1.NodeAddress) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/os": "linux"}},
		Status: corev1.NodeStatus{
			Addresses:  addresses,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func TestNodePortAddresses(t *testing.T) {
	internal := host("a", corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.1"})
	public := host("b", corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.2"}, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "2001:db8::1"})
	got, external, err := cluster(t, nil, service(30001, 30001), internal, public).NodePortAddresses(t.Context())
	if d := cmp.Diff([]string{"[2001:db8::1]:30001"}, got); d != "" || !external || err != nil {
		t.Errorf("%s, %t, %v", d, external, err)
	}
	got, external, err = cluster(t, nil, service(30001, 30001), internal).NodePortAddresses(t.Context())
	if d := cmp.Diff([]string{"10.0.0.1:30001"}, got); d != "" || external || err != nil {
		t.Errorf("%s, %t, %v", d, external, err)
	}
	for _, s := range []*corev1.Service{service(0, 0), service(30001, 30002)} {
		if got, _, err := cluster(t, nil, s, internal).NodePortAddresses(t.Context()); err == nil {
			t.Errorf("ports %+v give %v", s.Spec.Ports, got)
		}
	}
}

func TestLoadBalancerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cluster(t, nil, service(30001, 30001))
		begin := time.Now()
		if _, err := c.LoadBalancerAddress(t.Context(), 10*time.Second); !NoLoadBalancer(err) || time.Since(begin) != 10*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		go func() {
			<-time.After(3500 * time.Millisecond)
			s := service(30001, 30001)
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}}
			if _, err := c.Client.CoreV1().Services(namespace).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
				t.Error(err)
			}
		}()
		begin = time.Now()
		got, err := c.LoadBalancerAddress(t.Context(), time.Minute)
		if got != "lb.example.com" || err != nil || time.Since(begin) != 4*time.Second {
			t.Errorf("%q after %s, %v", got, time.Since(begin), err)
		}
	})
}

// TestWaitReady says what it waits for, and in the end what to do.
func TestWaitReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := int32(1)
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: proxyName}, Spec: appsv1.DeploymentSpec{Replicas: &one}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p", Labels: map[string]string{
			"app.kubernetes.io/part-of": "skerry", "app.kubernetes.io/name": proxyName,
		}}}
		pod.Spec.NodeName = "worker"
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Image: "r/p:1", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
		c := cluster(t, nil, d, pod)
		var said []string
		c.Say = func(line string) { said = append(said, line) }
		err := c.WaitReady(t.Context(), time.Minute)
		if err == nil || !strings.Contains(err.Error(), "start the proxy: it is not ready after 1m0s: node worker can't get the image r/p:1") || !strings.Contains(err.Error(), "; next: kubectl -n skerry-system describe") {
			t.Errorf("got %v", err)
		}
		if len(said) != 1 {
			t.Errorf("said %q", said)
		}
		d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
		if err := cluster(t, nil, d).WaitReady(t.Context(), time.Minute); err != nil {
			t.Error(err)
		}
	})
}

func TestWhyPod(t *testing.T) {
	crash := corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		RestartCount: 3, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}},
	}}}}
	pending := corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes are available"},
	}}}
	for want, p := range map[string]corev1.Pod{
		"its container ends, 3 restarts so far":            crash,
		"its pod has no node: 0/3 nodes are available":     pending,
		"its pod is pending":                               {Status: corev1.PodStatus{Phase: corev1.PodPending}},
		"its container runs and is not ready":              {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{}}}},
		"CreateContainerConfigError secret x is not there": {Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: "secret x is not there"}}}}}},
	} {
		if got, _ := whyPod(&p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
