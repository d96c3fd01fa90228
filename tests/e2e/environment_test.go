package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestServiceVariables: containers are told of the services of their namespace and of
// the API, at their start, whether or not there is a cloud then.
func TestServiceVariables(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	e := newEdge(t)
	service := func(name, ip, port string) {
		t.Helper()
		must(t, theLab.Apply(t.Context(), []byte(strings.NewReplacer("NS", ns, "NAME", name, "PORT", port, "ADDRESS", ip).Replace(`
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: NS}
spec: {clusterIP: ADDRESS, ports: [{name: http, port: PORT}]}
`))))
	}
	service("my-web", "", "8080")
	service("peers", "None", "9090")
	ip := kubectl(t, "-n", ns, "get", "service", "my-web", "-o", "jsonpath={.spec.clusterIP}")
	api := kubectl(t, "get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
	const script = `while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 1`
	with := newPod(ns, "with", e, shell("main", script))
	runPod(t, with)
	without := newPod(ns, "without", e, shell("main", script))
	without.Spec.EnableServiceLinks = new(false)
	runPod(t, without)
	vars := func(out string) (got []string) {
		for line := range strings.Lines(out) {
			if strings.Contains(line, "_SERVICE_") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		slices.Sort(got)
		return got
	}
	apiVars := []string{"KUBERNETES_SERVICE_HOST=" + api, "KUBERNETES_SERVICE_PORT=443", "KUBERNETES_SERVICE_PORT_HTTPS=443"}
	webVars := []string{"MY_WEB_SERVICE_HOST=" + ip, "MY_WEB_SERVICE_PORT=8080", "MY_WEB_SERVICE_PORT_HTTP=8080"}
	all := slices.Concat(apiVars, webVars)
	if d := cmp.Diff(all, vars(kubectl(t, "-n", ns, "exec", "with", "--", "env"))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(apiVars, vars(kubectl(t, "-n", ns, "exec", "without", "--", "env"))); d != "" {
		t.Error(d)
	}

	// A service that comes later is told to the next container, with no cloud too.
	service("late", "", "1")
	eventually(t, "the late service in the store", func() error {
		runs := fmt.Sprint("probe-", time.Now().UnixNano())
		pod := newPod(ns, runs, e, shell("main", idle))
		runPod(t, pod)
		if !strings.Contains(kubectl(t, "-n", ns, "exec", runs, "--", "env"), "LATE_SERVICE_HOST") {
			return fmt.Errorf("%s has not heard of it", runs)
		}
		return nil
	})
	if strings.Contains(kubectl(t, "-n", ns, "exec", "with", "--", "env"), "LATE_") {
		t.Error("a running container was told of a later service")
	}
	back := goOffline(t, e)
	must(t, e.KillAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	eventually(t, "the agent to end the container", func() error {
		return here(t, e, "exec", "with", "-n", ns, "--", "touch", "/tmp/end").err
	})
	eventually(t, "the container to be there again, with no cloud, and told of all", func() error {
		r := here(t, e, "exec", "with", "-n", ns, "--", "env")
		if r.err == nil && (!strings.Contains(r.out, "LATE_SERVICE_HOST") || !strings.Contains(r.out, "MY_WEB_SERVICE_HOST")) {
			return fmt.Errorf("variables %v", vars(r.out))
		}
		return r.err
	})
	back()
}

// TestPodsThatWait: what is wrong with a volume is told in events and states, and set
// right without a new pod.
func TestPodsThatWait(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	scratch := corev1.Volume{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	expr := newPod(ns, "expr", edge1, shell("main", "touch /d/here; "+idle))
	expr.Spec.Volumes = []corev1.Volume{scratch}
	c := &expr.Spec.Containers[0]
	c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['path']"}}}}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "d", MountPath: "/d", SubPathExpr: "$(A)/x"}, {Name: "d", MountPath: "/all"}}
	create(t, expr)
	up := newPod(ns, "up", edge1, shell("main", idle))
	up.Spec.Volumes = []corev1.Volume{scratch}
	c = &up.Spec.Containers[0]
	c.Env = []corev1.EnvVar{{Name: "A", Value: ".."}}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "d", MountPath: "/d", SubPathExpr: "$(A)"}}
	create(t, up)
	csi := newPod(ns, "csi", edge1, shell("main", idle))
	csi.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "none.example.com"}}}}
	create(t, csi)
	for name, want := range map[string]string{"expr": "missing value for A", "up": "unable to provision SubPath `..`: must not contain '..'"} {
		waitPod(t, ns, name, func(pod *corev1.Pod) error {
			if len(pod.Status.ContainerStatuses) == 1 {
				if w := pod.Status.ContainerStatuses[0].State.Waiting; w != nil && w.Reason == "CreateContainerConfigError" && w.Message == want {
					return nil
				}
			}
			return fmt.Errorf("status %+v", pod.Status.ContainerStatuses)
		})
	}
	eventually(t, "an event that says that CSI is not supported", func() error {
		got := kubectl(t, "-n", ns, "get", "events", "--field-selector=involvedObject.name=csi,reason=FailedMount", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(got, "csi") || !strings.Contains(got, "not supported") {
			return fmt.Errorf("events %q", got)
		}
		return nil
	})
	if pod, err := getPod(t, ns, "csi"); err != nil || pod.Status.Phase != corev1.PodPending {
		t.Errorf("the pod with a CSI volume: %v, %+v", err, pod)
	}
	kubectl(t, "-n", ns, "annotate", "pod", "expr", "path=mine")
	waitPod(t, ns, "expr", running)
	if got := kubectl(t, "-n", ns, "exec", "expr", "--", "find", "/all", "-type", "f"); got != "/all/mine/x/here\n" {
		t.Errorf("the subPath holds %q", got)
	}
}

// TestVariablesFromAFile: an init container leaves variables for the others.
func TestVariablesFromAFile(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	pod := newPod(ns, "file", edge1, shell("main", idle))
	pod.Spec.InitContainers = []corev1.Container{shell("init", `printf "A='one\ntwo' # c\nB='\$A'\n" >/d/vars`)}
	pod.Spec.InitContainers[0].VolumeMounts = []corev1.VolumeMount{{Name: "d", MountPath: "/d"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	for _, name := range []string{"A", "B", "C"} {
		ref := &corev1.FileKeySelector{VolumeName: "d", Path: "vars", Key: name}
		if name == "C" {
			ref.Optional = new(true)
		}
		c := &pod.Spec.Containers[0]
		c.Env = append(c.Env, corev1.EnvVar{Name: "E_" + name, ValueFrom: &corev1.EnvVarSource{FileKeyRef: ref}})
	}
	runPod(t, pod)
	if got := kubectl(t, "-n", ns, "exec", "file", "--", "sh", "-c", `echo "<$E_A><$E_B><${E_C-none}>"`); got != "<one\ntwo><$A><none>\n" {
		t.Errorf("variables %q", got)
	}
}

// TestReadinessGate: what another says of a pod's readiness reaches the edge, and is not
// written over by it.
func TestReadinessGate(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	pod := newPod(ns, "gated", edge1, shell("main", idle))
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	create(t, pod)
	ready := func(want corev1.ConditionStatus) {
		t.Helper()
		waitPod(t, ns, "gated", func(pod *corev1.Pod) error {
			for _, c := range pod.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == want && pod.Status.Phase == corev1.PodRunning {
					return nil
				}
			}
			return fmt.Errorf("conditions %+v", pod.Status.Conditions)
		})
	}
	ready(corev1.ConditionFalse)
	for _, want := range []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionTrue} {
		kubectl(t, "-n", ns, "patch", "pod", "gated", "--subresource=status", "--type=strategic", "-p",
			fmt.Sprintf(`{"status":{"conditions":[{"type":"example.com/gate","status":%q}]}}`, want))
		ready(want)
	}
}

// TestTrustBundle: a bundle is shown, and followed while the pod runs.
func TestTrustBundle(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	ca := kubectl(t, "-n", ns, "get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
	put := func(name, live string) {
		t.Helper()
		create(t, map[string]any{
			"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
			"metadata": map[string]any{"name": name, "labels": map[string]string{"live": live}},
			"spec":     map[string]any{"signerName": "example.com/" + ns, "trustBundle": "a word before\n" + ca},
		})
		t.Cleanup(func() { kubectlLater(t, "delete", "clustertrustbundle", name, "--ignore-not-found") })
	}
	name := "example.com:" + ns + ":one"
	pod := newPod(ns, "trust", edge1, shell("main", idle))
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "ca", MountPath: "/ca"}}
	sources := fmt.Sprintf(`[{"clusterTrustBundle": {"name": %q, "path": "named", "optional": true}},
{"clusterTrustBundle": {"signerName": "example.com/%s", "labelSelector": {"matchLabels": {"live": "yes"}}, "path": "signer", "optional": true}}]`, name, ns)
	pod.Spec.Volumes = []corev1.Volume{{Name: "ca", VolumeSource: corev1.VolumeSource{Projected: projection(t, sources)}}}
	runPod(t, pod)
	see := func(what string, named, signer bool) {
		t.Helper()
		size := func(there bool) int {
			if there {
				return len(ca)
			}
			return 0
		}
		want := fmt.Sprintf("%d %d\n", size(named), size(signer))
		eventually(t, what, func() error {
			if got := kubectl(t, "-n", ns, "exec", "trust", "--", "sh", "-c", "echo $(wc -c </ca/named) $(wc -c </ca/signer)"); got != want {
				return fmt.Errorf("sizes %q, want %q", got, want)
			}
			return nil
		})
	}
	see("nothing at first", false, false)
	put(name, "no")
	see("the named one", true, false)
	kubectl(t, "label", "clustertrustbundle", name, "live=yes", "--overwrite")
	see("both", true, true)
	kubectl(t, "delete", "clustertrustbundle", name)
	see("nothing in the end", false, false)
}

// projection reads the sources of a projected volume.
func projection(t *testing.T, sources string) *corev1.ProjectedVolumeSource {
	t.Helper()
	p := &corev1.ProjectedVolumeSource{}
	must(t, json.Unmarshal([]byte(sources), &p.Sources))
	return p
}

// kubectlLater cleans up after the test.
func kubectlLater(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
	defer cancel()
	if _, err := theLab.Kubectl(ctx, args...); err != nil {
		t.Error(err)
	}
}
