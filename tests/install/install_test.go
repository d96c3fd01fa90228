package install_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, cond func() error) {
	t.Helper()
	must(t, lab.Until(t.Context(), patience, what, cond))
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := theLab.Kubectl(ctx, args...)
	must(t, err)
	return out
}

// skerry must succeed.
func skerry(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	stdout, stderr, err := theLab.CLIOutput(ctx, args...)
	if err != nil {
		t.Fatalf("%v\n%s%s\n%s", err, stdout, stderr, kubectlText(t, "-n", "skerry-system", "describe", "pods"))
	}
	return stdout, stderr
}

// kubectlText is what kubectl says, be it an error.
func kubectlText(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := theLab.Kubectl(ctx, args...)
	if err != nil {
		return err.Error()
	}
	return out
}

// all are the objects that an installation may make or lose, by name.
func all(t *testing.T) map[string]bool {
	t.Helper()
	kinds := "namespaces,clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,services,deployments,secrets,configmaps," +
		"validatingadmissionpolicies,validatingadmissionpolicybindings,nodes,leases,certificatesigningrequests"
	names := map[string]bool{}
	for line := range strings.Lines(kubectl(t, "get", kinds, "-A", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}`)) {
		names[strings.TrimSpace(line)] = true
	}
	return names
}

// serveService is kube-proxy for the one Service that edges dial, until the test ends:
// the node port leads to the pod that is ready.
func serveService(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			if err := redirect(ctx); err != nil && ctx.Err() == nil {
				t.Log("kube-proxy:", err)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func redirect(ctx context.Context) error {
	ports, err := theLab.Kubectl(ctx, "-n", "skerry-system", "get", "service", "cloudproxy", "--ignore-not-found", "-o", `jsonpath={range .spec.ports[*]}{.protocol} {.nodePort} {end}`)
	if err != nil || ports == "" {
		return err
	}
	ip, err := theLab.Kubectl(ctx, "-n", "skerry-system", "get", "endpointslices", "-l", "kubernetes.io/service-name=cloudproxy",
		"-o", `jsonpath={.items[0].endpoints[?(@.conditions.ready==true)].addresses[0]}`)
	to, perr := netip.ParseAddr(strings.TrimSpace(ip))
	if err != nil || perr != nil { // there is none yet, or two for a moment
		return nil //nolint:nilerr // see above
	}
	words := strings.Fields(ports)
	for i := 0; i+1 < len(words); i += 2 {
		from, err := netip.ParseAddrPort(node.Addr().String() + ":" + words[i+1])
		if err != nil {
			return err
		}
		if err := node.Redirect(ctx, strings.ToLower(words[i]), from, netip.AddrPortFrom(to, 7443)); err != nil {
			return err
		}
	}
	return nil
}

// TestInstall goes from a cluster with nothing to a pod on an edge, upgrades, and back.
func TestInstall(t *testing.T) {
	eventually(t, "the node to be Ready", func() error {
		if _, ok := node.GuestPID("kubelet"); !ok {
			return lab.Final(fmt.Errorf("the kubelet has ended, see %s", node.GuestLog("kubelet")))
		}
		if out := kubectlText(t, "get", "node", node.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`); out != "True" {
			return fmt.Errorf("it is %q", out)
		}
		_, err := theLab.Kubectl(t.Context(), "-n", "kube-node-lease", "get", "lease", node.Name)
		return err
	})
	// As on any cluster whose kubelets have certificates: somebody approves them.
	eventually(t, "the kubelet's request for a certificate", func() error {
		names := strings.Fields(kubectl(t, "get", "csr", "-o", "name"))
		if len(names) == 0 {
			return errors.New("there is none")
		}
		kubectl(t, append([]string{"certificate", "approve"}, names...)...)
		return nil
	})
	before := all(t)
	serveService(t)

	join, log := skerry(t, "init", "--kube-config", theLab.Kubeconfig(), "--image", image, "--load-balancer-timeout", "2s")
	t.Logf("init:\n%s%s", log, join)
	if strings.Count(join, "\n") != 1 || !strings.HasPrefix(join, "skerry join "+node.Addr().String()+":") {
		t.Fatalf("init prints %q, want one join command", join)
	}
	for _, want := range []string{"created   Deployment cloudproxy", "taking a node port", "ready     the cloud proxy", "reached   " + node.Addr().String()} {
		if !strings.Contains(log, want) {
			t.Errorf("init does not say %q", want)
		}
	}
	token, err := theLab.ParseToken(join)
	must(t, err)
	edge := joinEdge(t, token)
	runsPod(t, edge)
	doctors(t, edge)
	bundlesHoldNoSecret(t, edge)

	// The same again: nothing changes, and no new token.
	again, log := skerry(t, "init", "--image", image)
	if again != "" || strings.Contains(log, "created") || strings.Contains(log, "changed   ") {
		t.Errorf("a second run:\n%s%s", log, again)
	}
	t.Logf("second init:\n%s", log)

	// An upgrade replaces the pod; the edge finds the new one.
	pod := proxyPod(t)
	_, log = skerry(t, "init", "--proxy-arg=--log-level=debug")
	if !strings.Contains(log, "changed   Deployment cloudproxy") || proxyPod(t) == pod {
		t.Errorf("the upgrade:\n%s", log)
	}
	if args := kubectl(t, "-n", "skerry-system", "get", "deployment", "cloudproxy", "-o", "jsonpath={.spec.template.spec.containers[0].args}"); !strings.Contains(args, "--log-level=debug") || !strings.Contains(args, token.Server) {
		t.Errorf("after the upgrade the flags are %s", args)
	}
	eventually(t, "exec through the new proxy", func() error {
		_, err := theLab.Kubectl(t.Context(), "exec", "hello", "--", "true")
		return err
	})
	resets(t, edge)
	kubectl(t, "delete", "secret", "credentials")
	uninstalls(t, before)
}

func proxyPod(t *testing.T) string {
	t.Helper()
	return kubectl(t, "-n", "skerry-system", "get", "pods", "-l", "app.kubernetes.io/name=cloudproxy", "--field-selector", "status.phase=Running",
		"--sort-by=.metadata.creationTimestamp", "-o", "jsonpath={.items[-1:].metadata.uid}")
}

func joinEdge(t *testing.T, token lab.Token) *lab.Edge {
	t.Helper()
	edge, err := theLab.Edge("edge2", 2)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := edge.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	must(t, edge.StartMachine(t.Context(), "A"))
	must(t, edge.Expose(t.Context()))
	must(t, edge.Join(t.Context(), token))
	must(t, edge.StartAgent(t.Context()))
	must(t, edge.WaitReady(t.Context(), patience))
	return edge
}

// inlineSecret is what people should not put into a pod's environment, and do.
const inlineSecret = "inline-secret-4711"

// runsPod runs a pod with secrets on the edge, and asks kube-apiserver for its log and a command.
func runsPod(t *testing.T, edge *lab.Edge) {
	t.Helper()
	kubectl(t, "create", "secret", "generic", "credentials", "--from-literal=login=hunter2-hunter2")
	no, grace := false, int64(1)
	pod := corev1.Pod{Spec: corev1.PodSpec{
		NodeSelector: map[string]string{"kubernetes.io/hostname": edge.Name}, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{
			Name: "c", Image: lab.BusyboxImage, Command: []string{"sh", "-c", "echo hello; sleep 100000"},
			Env:          []corev1.EnvVar{{Name: "INLINE", Value: inlineSecret}},
			VolumeMounts: []corev1.VolumeMount{{Name: "credentials", MountPath: "/credentials"}},
		}},
		Volumes: []corev1.Volume{{Name: "credentials", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "credentials"}}}},
	}}
	pod.APIVersion, pod.Kind, pod.Name = "v1", "Pod", "hello"
	data, err := json.Marshal(&pod)
	must(t, err)
	eventually(t, "a pod", func() error { return theLab.Apply(t.Context(), data) })
	eventually(t, "its log", func() error {
		out, err := theLab.Kubectl(t.Context(), "logs", "hello")
		if err == nil && out != "hello\n" {
			err = errors.New("it is " + out)
		}
		return err
	})
	if out := kubectl(t, "exec", "hello", "--", "echo", "here"); out != "here\n" {
		t.Errorf("exec gives %q", out)
	}
}

// resets takes Skerry off the edge: its pods, mounts and files, and nothing else.
func resets(t *testing.T, edge *lab.Edge) {
	t.Helper()
	must(t, edge.StopAgent(t.Context()))
	if tasks, err := edge.Tasks(t.Context()); err != nil || len(tasks) == 0 {
		t.Fatalf("no pod runs: %v, %v", tasks, err)
	}
	other := filepath.Join(edge.ConfigDir(), "mine.conf")
	must(t, os.WriteFile(other, nil, 0o600))
	out, err := edge.Run(t.Context(), theLab.Bin("skerry"), "reset", "--yes", "--config-dir", edge.ConfigDir())
	t.Logf("reset:\n%s", out)
	must(t, err)
	if left, err := edge.Containers(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("containers left: %v, %v", left, err)
	}
	if _, err := os.Stat(edge.StateDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory is left: %v", err)
	}
	left, err := filepath.Glob(edge.ConfigDir() + "/*")
	if err != nil || len(left) != 1 || left[0] != other {
		t.Errorf("in the configuration directory there is %v, %v", left, err)
	}
}

// uninstalls takes all away and nothing else: what is there then was there before.
func uninstalls(t *testing.T, before map[string]bool) {
	t.Helper()
	_, _, err := theLab.CLIOutput(t.Context(), "uninstall")
	if err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("uninstall without a terminal: %v", err)
	}
	out, _ := skerry(t, "uninstall", "--yes")
	t.Logf("uninstall:\n%s", out)
	eventually(t, "the traces to be gone", func() error {
		var left []string
		for name := range all(t) {
			if !before[name] {
				left = append(left, name)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return nil
	})
	now := all(t)
	for name := range before {
		if !now[name] {
			t.Errorf("%s was there before, and is gone", name)
		}
	}
	if out, _ = skerry(t, "uninstall", "--yes"); out != "Nothing to remove.\n" {
		t.Errorf("a second uninstall: %s", out)
	}
}
