package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry-io/skerry/tests/lab"
)

// goOffline cuts the edge's link until back is called.
func goOffline(t *testing.T, e *lab.Edge) (back func()) {
	t.Helper()
	must(t, e.SetLink(t.Context(), "set", "outage=1"))
	return func() {
		t.Helper()
		must(t, e.SetLink(t.Context(), "set", "outage=0"))
	}
}

// onlyPods waits until the containers of these pods, and nothing else, run on e.
func onlyPods(t *testing.T, e *lab.Edge, pods ...*corev1.Pod) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d pods and no other containers on the edge", len(pods)), func() error {
		return runsOnly(t, e, pods)
	})
}

func runsOnly(t *testing.T, e *lab.Edge, pods []*corev1.Pod) error {
	t.Helper()
	tasks, err := e.Tasks(t.Context())
	if err != nil {
		return err
	}
	want := 0
	for _, pod := range pods {
		want += 1 + len(pod.Spec.Containers)
		for _, c := range pod.Spec.Containers {
			if id := containerID(t, pod, c.Name); !slices.Contains(tasks, id) {
				return fmt.Errorf("container %s of %s is not among %v", id, pod.Name, tasks)
			}
		}
	}
	if len(tasks) != want {
		return fmt.Errorf("%d tasks, want %d", len(tasks), want)
	}
	return nil
}

// isGone waits until the API has no such pod.
func isGone(t *testing.T, ns, name string) {
	t.Helper()
	eventually(t, "the end of pod "+name, func() error {
		_, err := getPod(t, ns, name)
		if err == nil {
			return errors.New("the pod is still there")
		}
		if !strings.Contains(err.Error(), "NotFound") {
			return err
		}
		return nil
	})
}

// TestChangesWhileAgentIsKilled makes 300 changes while the agent is killed 50
// times. None may be lost: the edge ends with what the API says, to the last file.
func TestChangesWhileAgentIsKilled(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	o := newNamed(t, ns)
	reader := runPod(t, o.reader(e))
	const kills, changes = 50, 300
	for i := range kills {
		done := make(chan error, 1)
		go func() { done <- o.change(t.Context(), e, i, changes/kills) }()
		// Long enough to connect, at times, and at times not even to start.
		pass(t, time.Duration(rand.IntN(800))*time.Millisecond)
		must(t, e.KillAgent(t.Context()))
		must(t, e.StartAgent(t.Context()))
		must(t, <-done)
	}
	must(t, e.WaitReady(t.Context(), patience))
	want := o.files()
	eventually(t, "the last state in the pod's files", func() error {
		out := kubectl(t, "-n", ns, "exec", reader.Name, "--", "sh", "-c", "cd /all && grep -H . *")
		if diff := cmp.Diff(want, slices.Sorted(strings.Lines(out))); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	names := append(slices.Sorted(maps.Keys(o.pods)), reader.Name)
	eventually(t, "the pods that the API has, on the edge and in their status", func() error {
		pods := podsOf(t, ns)
		var got []string
		for _, pod := range pods {
			if err := running(pod); err != nil {
				return fmt.Errorf("%s: %w", pod.Name, err)
			}
			got = append(got, pod.Name)
		}
		if diff := cmp.Diff(sorted(names), sorted(got)); diff != "" {
			return errors.New(diff)
		}
		return runsOnly(t, e, pods)
	})
	sameContainers(t, reader)
}

// named is what a test changes: ConfigMaps and Secrets that one pod shows as files,
// and pods.
type named struct {
	client corev1client.CoreV1Interface
	ns     string
	values map[string]string // of what is there, by name
	pods   map[string]bool   // that are there
}

const namedOfEach = 6

func newNamed(t *testing.T, ns string) *named {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", theLab.Kubeconfig())
	must(t, err)
	client, err := kubernetes.NewForConfig(cfg)
	must(t, err)
	return &named{client: client.CoreV1(), ns: ns, values: make(map[string]string), pods: make(map[string]bool)}
}

// reader is a pod that shows all that may be there as files.
func (o *named) reader(e *lab.Edge) *corev1.Pod {
	c := shell("main", idle)
	c.VolumeMounts = []corev1.VolumeMount{{Name: "all", MountPath: "/all"}}
	pod := newPod(o.ns, "reader", e, c)
	yes := true
	var sources []corev1.VolumeProjection
	for i := range namedOfEach {
		cm, secret := fmt.Sprint("cm-", i), fmt.Sprint("secret-", i)
		sources = append(sources,
			corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: cm}, Optional: &yes, Items: []corev1.KeyToPath{{Key: "k", Path: cm}},
			}},
			corev1.VolumeProjection{Secret: &corev1.SecretProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Optional: &yes, Items: []corev1.KeyToPath{{Key: "k", Path: secret}},
			}})
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}}
	pod.Spec.NodeSelector, pod.Spec.NodeName = nil, e.Name
	return pod
}

// change makes n changes. A pod, which costs more than a file, is made or deleted
// in every fourth round.
func (o *named) change(ctx context.Context, e *lab.Edge, round, n int) error {
	if round%4 == 0 {
		n--
		if err := o.changePods(ctx, e, round); err != nil {
			return err
		}
	}
	for i := range n {
		kind, name := "cm", fmt.Sprint("cm-", rand.IntN(namedOfEach))
		if rand.IntN(2) == 0 {
			kind, name = "secret", fmt.Sprint("secret-", rand.IntN(namedOfEach))
		}
		_, there := o.values[name]
		value := fmt.Sprintf("%d.%d", round, i)
		if there && rand.IntN(4) == 0 {
			value = ""
		}
		if err := o.write(ctx, kind, name, value, there); err != nil {
			return err
		}
		o.values[name] = value
		if value == "" {
			delete(o.values, name)
		}
	}
	return nil
}

func (o *named) changePods(ctx context.Context, e *lab.Edge, round int) error {
	if round%8 == 4 {
		for name := range o.pods {
			delete(o.pods, name)
			return o.client.Pods(o.ns).Delete(ctx, name, metav1.DeleteOptions{})
		}
	}
	pod := newPod(o.ns, fmt.Sprint("pod-", round), e, shell("main", idle))
	o.pods[pod.Name] = true
	_, err := o.client.Pods(o.ns).Create(ctx, pod, metav1.CreateOptions{})
	return err
}

// write gives one object a value; an empty one deletes it.
func (o *named) write(ctx context.Context, kind, name, value string, there bool) error {
	meta := metav1.ObjectMeta{Namespace: o.ns, Name: name}
	cm := &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"k": value}}
	secret := &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"k": []byte(value)}}
	var err error
	switch cms, secrets := o.client.ConfigMaps(o.ns), o.client.Secrets(o.ns); {
	case value == "" && kind == "cm":
		err = cms.Delete(ctx, name, metav1.DeleteOptions{})
	case value == "":
		err = secrets.Delete(ctx, name, metav1.DeleteOptions{})
	case there && kind == "cm":
		_, err = cms.Update(ctx, cm, metav1.UpdateOptions{})
	case there:
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	case kind == "cm":
		_, err = cms.Create(ctx, cm, metav1.CreateOptions{})
	default:
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	}
	return err
}

// files is what the reader must show in the end, one line a file.
func (o *named) files() []string {
	var lines []string
	for name, value := range o.values {
		lines = append(lines, name+":"+value+"\n")
	}
	slices.Sort(lines)
	return lines
}

// TestRolloutDuringOutage rolls a Deployment out while its edge is away.
func TestRolloutDuringOutage(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	must(t, theLab.Apply(t.Context(), []byte(strings.NewReplacer("NS", ns, "IMAGE", lab.BusyboxImage, "EDGE", e.Name).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {node-role.kubernetes.io/edge: "", kubernetes.io/hostname: EDGE}
      containers: [{name: web, image: IMAGE, command: [sleep, "100000"], env: [{name: VERSION, value: "1"}]}]
`))))
	kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout=2m")
	before := podsOf(t, ns)
	onlyPods(t, e, before...)

	back := goOffline(t, e)
	kubectl(t, "-n", ns, "set", "env", "deployment/web", "VERSION=2")
	eventually(t, "a new pod that waits for the edge", func() error {
		for _, pod := range podsOf(t, ns) {
			if pod.Spec.Containers[0].Env[0].Value == "2" && pod.Spec.NodeName == e.Name {
				return nil
			}
		}
		return errors.New("there is none")
	})
	onlyPods(t, e, before...) // the edge knows nothing of it
	back()
	kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout=2m")
	for _, pod := range before {
		isGone(t, ns, pod.Name)
	}
	after := podsOf(t, ns)
	for _, pod := range after {
		if pod.Spec.Containers[0].Env[0].Value != "2" || running(pod) != nil {
			t.Errorf("pod %s has version %s: %v", pod.Name, pod.Spec.Containers[0].Env[0].Value, running(pod))
		}
	}
	if len(after) != 2 {
		t.Errorf("%d pods, want 2", len(after))
	}
	onlyPods(t, e, after...)
}

func podsOf(t *testing.T, ns string) []*corev1.Pod {
	t.Helper()
	var list corev1.PodList
	must(t, json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "pods", "-o", "json")), &list))
	var pods []*corev1.Pod
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	return pods
}

// TestDeletedWhileOffline deletes pods whose edge is away: one waits for it in the
// API, the other is gone from there at once.
func TestDeletedWhileOffline(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	kept := runPod(t, newPod(ns, "kept", e, shell("main", idle)))
	deleted := runPod(t, newPod(ns, "deleted", e, shell("main", idle)))
	forced := runPod(t, newPod(ns, "forced", e, shell("main", idle)))
	onlyPods(t, e, kept, deleted, forced)

	back := goOffline(t, e)
	kubectl(t, "-n", ns, "delete", "pod", "deleted", "--wait=false")
	kubectl(t, "-n", ns, "delete", "pod", "forced", "--force", "--grace-period=0", "--wait=false")
	isGone(t, ns, "forced")
	if pod, err := getPod(t, ns, "deleted"); err != nil || pod.DeletionTimestamp == nil {
		t.Errorf("a pod that was deleted and whose edge is away: %v, %v", pod, err)
	}
	onlyPods(t, e, kept, deleted, forced)
	back()
	isGone(t, ns, "deleted")
	onlyPods(t, e, kept)
	sameContainers(t, kept)
}
