package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

func TestNode(t *testing.T) {
	t.Parallel()
	var node corev1.Node
	must(t, json.Unmarshal([]byte(kubectl(t, "get", "node", "edge1", "-o", "json")), &node))
	for k, want := range map[string]string{
		"node-role.kubernetes.io/edge": "", "kubernetes.io/hostname": "edge1", "kubernetes.io/os": "linux",
	} {
		if got, ok := node.Labels[k]; !ok || got != want {
			t.Errorf("label %s is %q, %t, want %q", k, got, ok, want)
		}
	}
	if node.Labels["kubernetes.io/arch"] == "" {
		t.Error("there is no label kubernetes.io/arch")
	}
	for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods} {
		if q := node.Status.Allocatable[r]; q.IsZero() {
			t.Errorf("allocatable %s is zero", r)
		}
	}
	if v := node.Status.NodeInfo.ContainerRuntimeVersion; !strings.HasPrefix(v, "containerd://") {
		t.Errorf("container runtime version %q", v)
	}
	if node.Spec.Unschedulable {
		t.Error("the node is unschedulable")
	}
	for _, taint := range node.Spec.Taints {
		t.Errorf("the node has the taint %s", taint.ToString())
	}
	eventually(t, "a Lease", func() error { return try(t, "-n", "kube-node-lease", "get", "lease", "edge1").err })
}

// TestTaints: a Node is made with the taints of its join, which the scheduler heeds, and
// what is taken away stays away.
func TestTaints(t *testing.T) {
	t.Parallel()
	e := newMachine(t)
	token, err := theLab.CreateToken(t.Context())
	must(t, err)
	joinFails(t, e, token, func(args []string) []string {
		return append(args, "--taints", "node-role.kubernetes.io/control-plane:NoSchedule")
	}, "node-role.kubernetes.io/control-plane", "kubectl taint")
	must(t, e.Join(t.Context(), token, "--labels", "hall=3", "--taints", "hall=3:NoSchedule,node-role.kubernetes.io/edge:PreferNoSchedule"))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	taints := func() string {
		return kubectl(t, "get", "node", "-l", "hall=3", "-o",
			`jsonpath={range .items[*].spec.taints[*]}{.key}={.value}:{.effect} {end}`)
	}
	if got := taints(); got != "hall=3:NoSchedule node-role.kubernetes.io/edge=:PreferNoSchedule " {
		t.Fatalf("taints are %q", got)
	}

	ns := newNamespace(t)
	kept := newPod(ns, "kept-away", e, shell("main", idle))
	create(t, kept)
	welcome := newPod(ns, "welcome", e, shell("main", idle))
	welcome.Spec.Tolerations = []corev1.Toleration{{Key: "hall", Value: "3", Effect: corev1.TaintEffectNoSchedule}}
	runPod(t, welcome)
	eventually(t, "the scheduler to say why", func() error {
		why := kubectl(t, "-n", ns, "get", "pod", "kept-away", "-o", `jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}`)
		if !strings.Contains(why, "untolerated taint") {
			return fmt.Errorf("it says %q", why)
		}
		return nil
	})

	kubectl(t, "taint", "node", e.Name, "hall-")
	eventually(t, "the pod that was kept away", func() error { return try(t, "-n", ns, "exec", "kept-away", "--", "true").err })
	must(t, e.StopAgent(t.Context()))
	must(t, e.StartAgent(t.Context()))
	eventually(t, "the edge to be back", func() error { return try(t, "-n", ns, "exec", "welcome", "--", "true").err })
	if got := taints(); got != "node-role.kubernetes.io/edge=:PreferNoSchedule " {
		t.Errorf("after a restart the taints are %q", got)
	}
}

// TestDefaultNetwork: the runtime has no network for pods, so the join writes one where
// this runtime looks for it, and a reset takes that away.
func TestDefaultNetwork(t *testing.T) {
	t.Parallel()
	e := newMachine(t)
	conf := e.Path("containerd", "cni", "10-skerry.conflist")
	must(t, os.Remove(conf))
	// A default network keeps its addresses where all do, whatever the machine.
	t.Cleanup(func() { must(t, os.RemoveAll("/var/lib/cni/networks/skerry-bridge")) })
	token, err := theLab.CreateToken(t.Context())
	must(t, err)
	eventually(t, "the runtime to see that it has no network", func() error {
		out, err := e.Run(t.Context(), append(e.JoinArgs(token), "--ca-hash", "sha256:"+strings.Repeat("00", 32))...)
		if !strings.Contains(out, "a bridge will be written to "+conf) {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	must(t, e.Join(t.Context(), token))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	ns := newNamespace(t)
	runPod(t, newPod(ns, "networked", e, shell("main", idle)))
	ip := kubectl(t, "-n", ns, "get", "pod", "networked", "-o", "jsonpath={.status.podIP}")
	if text := readFile(t, conf); !strings.Contains(text, ip[:strings.LastIndex(ip, ".")+1]) {
		t.Errorf("the pod's address is %s, and %s says\n%s", ip, conf, text)
	}
	must(t, e.StopAgent(t.Context()))
	out, err := e.Run(t.Context(), theLab.Bin("skerry"), "reset", "--yes", "--config-dir", e.ConfigDir(), "--state-dir", e.StateDir())
	if err != nil || !strings.Contains(out, "remove "+conf) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(conf); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", conf, err)
	}
}

// joinFails joins with a configuration folder of its own, which must stay
// empty. words are what the error has to say.
func joinFails(t *testing.T, e *lab.Edge, token lab.Token, change func(args []string) []string, words ...string) {
	t.Helper()
	dir := t.TempDir()
	args := e.JoinArgs(token)
	for i, a := range args {
		switch a {
		case "--config-dir":
			args[i+1] = filepath.Join(dir, "etc")
		case "--state-dir":
			args[i+1] = filepath.Join(dir, "state")
		}
	}
	if change != nil {
		args = change(args)
	}
	var out string
	err := within(t, time.Minute, func(ctx context.Context) (err error) {
		out, err = e.Run(ctx, args...)
		return err
	})
	failsWith(t, out, err, words...)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("a join that failed has written %s", path)
		}
		return err
	}))
}

// replace changes the value of a flag.
func replace(flag, value string) func(args []string) []string {
	return func(args []string) []string {
		for i, a := range args {
			if a == flag {
				args[i+1] = value
			}
		}
		return args
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	e := newMachine(t)
	token, err := theLab.CreateToken(t.Context(), "--node", e.Name)
	must(t, err)
	id, secret, ok := strings.Cut(token.Token, ".")
	if !ok {
		t.Fatalf("token %q has no two parts", token.Token)
	}
	list, err := theLab.CLI(t.Context(), "token", "list")
	must(t, err)
	if !strings.Contains(list, id) || strings.Contains(list, secret) {
		t.Errorf("the list should tell the token's id and not its secret: %q", list)
	}
	joinFails(t, e, token, replace("--node-name", e.Name+"-other"), "node")

	must(t, e.Join(t.Context(), token))
	st, err := os.Stat(filepath.Join(e.ConfigDir(), "pki", "edge.key"))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v", st.Mode())
	}
	joinFails(t, e, token, nil, "token") // it was good for one join

	deleted, err := theLab.CreateToken(t.Context())
	must(t, err)
	id, _, _ = strings.Cut(deleted.Token, ".")
	_, err = theLab.CLI(t.Context(), "token", "delete", id)
	must(t, err)
	joinFails(t, e, deleted, nil, "token")
}

func TestJoinErrors(t *testing.T) {
	t.Parallel()
	e := newMachine(t)
	good, err := theLab.CreateToken(t.Context(), "--uses", "1")
	must(t, err)
	expired, err := theLab.CreateToken(t.Context())
	must(t, err)
	id, _, _ := strings.Cut(expired.Token, ".")
	kubectl(t, "-n", "kube-system", "patch", "secret", "bootstrap-token-"+id, "--type=merge",
		"-p", `{"stringData":{"expiration":"2020-01-01T00:00:00Z"}}`)

	wrong := good
	wrong.Token = "abcdef.0123456789abcdef"
	nonsense := good
	nonsense.Token = "nonsense"
	hash := good
	hash.CAHash = "sha256:" + strings.Repeat("00", 32)
	nobody := good
	nobody.Server = net.JoinHostPort(theLab.CloudAddr().String(), "9")
	socket := filepath.Join(t.TempDir(), "none.sock")

	joinFails(t, e, wrong, nil, "token")
	joinFails(t, e, nonsense, nil, "token")
	joinFails(t, e, hash, nil, "ca")
	joinFails(t, e, nobody, nil, nobody.Server)
	joinFails(t, e, good, replace("--cri-socket", "unix://"+socket), socket)
	joinFails(t, e, good, replace("--node-name", "Not_A_Name"), "Not_A_Name")
	joinFails(t, e, expired, nil, "token")

	// None of the failures has used the good token up.
	must(t, e.Join(t.Context(), good))
	must(t, e.StartAgent(t.Context()))
	must(t, e.WaitReady(t.Context(), patience))
	// A joined machine does not join again by mistake.
	again, err := theLab.CreateToken(t.Context())
	must(t, err)
	before := readFile(t, e.ConfigFile())
	out, err := e.Run(t.Context(), e.JoinArgs(again)...)
	failsWith(t, out, err, e.ConfigDir())
	if readFile(t, e.ConfigFile()) != before {
		t.Error("a second join has changed the configuration")
	}
}

// failsSoon runs a daemon that must end by itself with one line.
func failsSoon(t *testing.T, words []string, args ...string) {
	t.Helper()
	var errs strings.Builder
	err := within(t, time.Minute, func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stderr = &errs
		return cmd.Run()
	})
	fails(t, &lab.CommandError{Args: args, Err: err, Stderr: lastLine(errs.String())}, words...)
}

// lastLine leaves out what a daemon logs before it ends.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func TestAgentConfigErrors(t *testing.T) {
	t.Parallel()
	good := readFile(t, edge1.ConfigFile())
	tests := []struct {
		name, change string
		words        []string
	}{
		{"unknown key", good + "colour: blue\n", []string{"colour"}},
		{"other kind", strings.Replace(good, "EdgeAgentConfig", "Other", 1), []string{"kind"}},
		{"not YAML", "{", []string{"edgeagent.yaml"}},
		{"no certificate", strings.ReplaceAll(good, edge1.ConfigDir(), "/no/such/folder"), []string{"/no/such/folder"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "edgeagent.yaml")
			must(t, os.WriteFile(file, []byte(tt.change), 0o600))
			failsSoon(t, tt.words, theLab.Bin("edgeagent"), "--config", file, "--state-dir", t.TempDir())
		})
	}
	t.Run("no file", func(t *testing.T) {
		failsSoon(t, []string{"/no/such/file"}, theLab.Bin("edgeagent"), "--config", "/no/such/file")
	})
	t.Run("unknown flag", func(t *testing.T) {
		failsSoon(t, []string{"--colour"}, theLab.Bin("edgeagent"), "--colour")
	})
}

func TestProxyConfigErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	addr := taken.Addr().String()
	base := func(flags ...string) []string {
		return append([]string{
			theLab.Bin("cloudproxy"), "--kubeconfig", theLab.Kubeconfig(), "--advertise-address", "127.0.0.1",
			"--node-address", "127.0.0.1",
		}, flags...)
	}
	free := "127.0.0.1:0"
	tests := []struct {
		name  string
		words []string
		args  []string
	}{
		{"tunnel's port taken", []string{addr, "taken"}, base("--listen", addr, "--kubelet-listen", free, "--admin-listen", free)},
		{"kubelet's port taken", []string{addr, "taken"}, base("--listen", free, "--kubelet-listen", addr, "--admin-listen", free)},
		{"admin's port taken", []string{addr, "taken"}, base("--listen", free, "--kubelet-listen", free, "--admin-listen", addr)},
		{"no kubeconfig", []string{"/no/such/file"}, []string{theLab.Bin("cloudproxy"), "--kubeconfig", "/no/such/file"}},
		{"bad address", []string{"--listen"}, base("--listen", "here")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { failsSoon(t, tt.words, tt.args...) })
	}
}
