package e2e_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-io/skerry/tests/lab"
)

// TestTop is kubectl top with the metrics-server that everybody has: its own
// program, its own rights, and the flags of its manifest, but for the kubelets'
// certificates.
func TestTop(t *testing.T) {
	ns := newNamespace(t)
	runPod(t, newPod(ns, "spins", edge1, shell("spinner", "while true; do :; done"), shell("idler", "echo 1; "+idle)))
	startMetricsServer(t)

	eventually(t, "kubectl top node", func() error {
		r := try(t, "top", "node", edge1.Name, "--no-headers")
		f := strings.Fields(r.out)
		if r.err == nil && (len(f) != 5 || f[0] != edge1.Name || milli(f[1]) < 100 || mebi(f[3]) < 50) {
			return fmt.Errorf("%q", r.out)
		}
		return r.err
	})
	eventually(t, "kubectl top pod", func() error {
		r := try(t, "-n", ns, "top", "pod", "--containers", "--no-headers")
		if r.err != nil {
			return r.err
		}
		use := map[string]int{}
		for line := range strings.Lines(r.out) {
			f := strings.Fields(line)
			if len(f) != 4 || f[0] != "spins" {
				return fmt.Errorf("%q", r.out)
			}
			use[f[1]] = milli(f[2])
		}
		if use["spinner"] < 50 || use["idler"] > 20 || len(use) != 2 {
			return fmt.Errorf("%q", r.out)
		}
		t.Logf("\n%s", r.out)
		return nil
	})
}

// milli and mebi read 12m and 34Mi, -1 for what is not that.
func milli(s string) int { return trimmed(s, "m") }
func mebi(s string) int  { return trimmed(s, "Mi") }

func trimmed(s, unit string) int {
	n, err := strconv.Atoi(strings.TrimSuffix(s, unit))
	if err != nil || !strings.HasSuffix(s, unit) {
		return -1
	}
	return n
}

// startMetricsServer runs metrics-server beside the control plane, where its
// Service leads by name: the lab's cloud has no pods and no kube-proxy.
func startMetricsServer(t *testing.T) {
	t.Helper()
	program := theLab.Bin("metrics-server")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run `make metrics-server`", err)
	}
	slot, err := lab.Slot()
	must(t, err)
	port := 17443 + 100*slot + 13
	must(t, theLab.Apply(t.Context(), []byte(metricsServerRights)))
	must(t, theLab.Apply(t.Context(), fmt.Appendf(nil, metricsServerService, port)))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanupTime)
		defer cancel()
		// An API that does not answer would keep namespaces from going.
		if _, err := theLab.Kubectl(ctx, "delete", "apiservice", "v1beta1.metrics.k8s.io"); err != nil {
			t.Error(err)
		}
	})

	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	token := strings.TrimSpace(kubectl(t, "-n", "kube-system", "create", "token", "metrics-server"))
	server := kubectl(t, "config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
	ca, err := base64.StdEncoding.DecodeString(kubectl(t, "config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600))
	must(t, os.WriteFile(kubeconfig, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c,
  clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}],
  users: [{name: u, user: {token: %q}}], contexts: [{name: c, context: {cluster: c, user: u}}]}`, server, filepath.Join(dir, "ca.crt"), token), 0o600))

	log, err := os.Create(theLab.LogFile("metrics-server"))
	must(t, err)
	cmd := exec.CommandContext(t.Context(), program,
		"--kubeconfig", kubeconfig, "--authentication-kubeconfig", kubeconfig, "--authorization-kubeconfig", kubeconfig,
		"--bind-address", "127.0.0.1", "--secure-port", strconv.Itoa(port), "--cert-dir", dir,
		"--kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname", "--kubelet-use-node-status-port",
		"--metric-resolution", "15s", "--kubelet-insecure-tls")
	cmd.Env = theLab.Command(t.Context()).Env // so that the lab knows it for its own
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	must(t, cmd.Start())
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		_ = cmd.Wait() // ended by a signal
		_ = log.Close()
		if t.Failed() {
			t.Logf("metrics-server:\n%s", readFile(t, log.Name()))
		}
	})
}

// metricsServerService leads the API group to the program.
const metricsServerService = `
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  service: {name: metrics-server, namespace: kube-system, port: %d}
  group: metrics.k8s.io
  version: v1beta1
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
`

// metricsServerRights are those of metrics-server's own manifest.
const metricsServerRights = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: metrics-server, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: metrics-server-auth-reader, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "metrics-server:system:auth-delegator"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:metrics-server"}
rules:
  - {apiGroups: [""], resources: [nodes/metrics], verbs: [get]}
  - {apiGroups: [""], resources: [pods, nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:metrics-server"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:metrics-server"}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
`
