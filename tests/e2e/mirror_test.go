package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// TestMirrorPods shows a static pod in the API by a mirror: kubectl reads its log and
// runs commands in it, nothing that is done to the mirror touches what runs, and the
// mirror goes with the file.
func TestMirrorPods(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	dir := e.Path("manifests")
	must(t, os.Mkdir(dir, 0o755))
	must(t, e.StopAgent(t.Context()))
	must(t, e.Configure(map[string]string{"staticPodPath": dir}))
	must(t, e.StartAgent(t.Context()))
	write := func(says string) {
		t.Helper()
		yaml := fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: %s, labels: {app: web}}\nspec:\n  terminationGracePeriodSeconds: 1\n"+
			"  containers:\n  - {name: main, image: %q, command: [sh, -c, %q]}\n", ns, lab.BusyboxImage, "echo "+says+"; "+idle)
		must(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(yaml), 0o600))
	}
	write("here")
	name := "web-" + e.Name
	mirror := waitPod(t, ns, name, running)
	if out := kubectl(t, "get", "pods", "-A"); !strings.Contains(out, name) {
		t.Errorf("kubectl get pods -A:\n%s", out)
	}
	if out := kubectl(t, "-n", ns, "logs", name); out != "here\n" {
		t.Errorf("log %q", out)
	}
	execWorks(t, ns, name)
	if o := mirror.OwnerReferences; len(o) != 1 || o[0].Kind != "Node" || o[0].Name != e.Name || mirror.Labels["app"] != "web" {
		t.Errorf("%+v", mirror.ObjectMeta)
	}
	tasks, err := e.Tasks(t.Context())
	must(t, err)

	remade := func(step string) {
		t.Helper()
		before := mirror.UID
		mirror = waitPod(t, ns, name, func(pod *corev1.Pod) error {
			if pod.UID == before {
				return fmt.Errorf("%s: the mirror is that of before", step)
			}
			return running(pod)
		})
		execWorks(t, ns, name)
		if now, err := e.Tasks(t.Context()); err != nil || !slices.Equal(sorted(now), sorted(tasks)) {
			t.Errorf("%s: tasks are %v, were %v: %v", step, now, tasks, err)
		}
	}
	kubectl(t, "-n", ns, "delete", "pod", name, "--wait=false")
	remade("deleted")
	kubectl(t, "-n", ns, "delete", "pod", name, "--wait=false", "--force", "--grace-period=0")
	remade("deleted by force")
	back := goOffline(t, e)
	kubectl(t, "-n", ns, "delete", "pod", name, "--wait=false", "--force", "--grace-period=0")
	isGone(t, ns, name)
	back()
	remade("deleted while offline")

	posing := newPod(ns, "posing", e, shell("main", idle))
	posing.Spec.NodeName, posing.Annotations = e.Name, map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
	create(t, posing)
	isGone(t, ns, "posing")
	if now, err := e.Tasks(t.Context()); err != nil || !slices.Equal(sorted(now), sorted(tasks)) {
		t.Errorf("with a pod that says mirror: tasks are %v, were %v: %v", now, tasks, err)
	}
	if r := try(t, "-n", ns, "--as="+proxyAccount, "run", "own", "--image="+lab.BusyboxImage); !strings.Contains(r.stderr, "nothing but mirror pods") {
		t.Errorf("the proxy may create a pod: %v %s", r.err, r.stderr)
	}

	write("changed")
	eventually(t, "the log of the changed pod", func() error {
		r := try(t, "-n", ns, "logs", name)
		if r.err == nil && r.out != "changed\n" {
			return fmt.Errorf("got %q", r.out)
		}
		return r.err
	})
	must(t, e.KillAgent(t.Context()))
	must(t, os.Remove(filepath.Join(dir, "web.yaml")))
	if _, err := getPod(t, ns, name); err != nil {
		t.Error(errors.Join(errors.New("the mirror goes before anybody has said so"), err))
	}
	must(t, e.StartAgent(t.Context()))
	isGone(t, ns, name)
}
