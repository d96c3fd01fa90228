package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
)

// execute runs one command and gives what it wrote to standard output.
func execute(t *testing.T, cmd *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetIn(strings.NewReader(""))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{}, args...)) // for nil it takes the test's own
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// newCluster is a cluster with a cloud proxy's enrolment port.
func newCluster(t *testing.T) (*cluster, *enroll.Service) {
	t.Helper()
	client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "uid-1"}})
	client.PrependReactor("create", "configmaps", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateActionImpl)
		if !ok || len(create.CreateOptions.DryRun) == 0 {
			return false, nil, nil
		}
		return true, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Now()}}, nil
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	svc, err := enroll.New(enroll.Config{Client: client, Advertise: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(svc.Handler())
	srv.Listener.Close()
	srv.Listener = l
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{*svc.ServerCertificate()}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return &cluster{
		namespace: enroll.DefaultNamespace,
		connect:   func(cluster) (kubernetes.Interface, error) { return client, nil },
	}, svc
}

// machine is where join and reset work: a runtime's socket and a fake systemd.
type machine struct {
	dir, configDir, stateDir, socket, agent string
	unit                                    systemdUnit
	host                                    hostFacts
	calls                                   []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{
		dir: dir, configDir: filepath.Join(dir, "etc"), stateDir: filepath.Join(dir, "var"),
		socket: filepath.Join(dir, "cri.sock"), agent: filepath.Join(dir, "edgeagent"),
	}
	l, err := net.Listen("unix", m.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := os.WriteFile(m.agent, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.unit = systemdUnit{dir: filepath.Join(dir, "units"), booted: dir, run: func(_ context.Context, args ...string) error {
		m.calls = append(m.calls, strings.Join(args, " "))
		return nil
	}}
	if err := os.Mkdir(m.unit.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.host = newHost(t)
	return m
}

func (m *machine) join(t *testing.T, line string, more ...string) (string, error) {
	t.Helper()
	args := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "skerry join "))
	args = append(args, "--config-dir", m.configDir, "--state-dir", m.stateDir, "--cri-socket", "unix://"+m.socket, "--agent", m.agent, "--timeout", "0")
	return execute(t, joinCommand(&join{unit: m.unit, host: m.host}), append(args, more...)...)
}

func (m *machine) reset(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return execute(t, resetCommand(&reset{unit: m.unit, host: m.host}), append(args, "--config-dir", m.configDir, "--state-dir", m.stateDir)...)
}

func TestTokenJoinRevokeReset(t *testing.T) {
	c, svc := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create", "--node", "press-07", "--description", "hall\n3")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "skerry join 127.0.0.1:") || !strings.HasSuffix(line, " --node-name press-07\n") {
		t.Fatalf("printed %q; want one join command", line)
	}
	m := newMachine(t)
	out, err := m.join(t, line)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pair, err := certs.NewKeyPairFile(filepath.Join(m.configDir, "pki/edge.crt"), filepath.Join(m.configDir, "pki/edge.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pair.Identity()
	if err != nil || id != (certs.Identity{Cluster: "uid-1", Node: "press-07"}) {
		t.Errorf("identity %v, %v", id, err)
	}
	if diff := cmp.Diff([]string{"daemon-reload", "enable " + unitName, "restart " + unitName}, m.calls); diff != "" {
		t.Error(diff)
	}
	secret := line[strings.Index(line, "--token ")+len("--token ")+7:][:16]
	list, err := execute(t, tokenCommand(c), "list")
	if err != nil || strings.Contains(list+out, secret) {
		t.Errorf("the secret shows up again: %v\n%s%s", err, list, out)
	}
	if !strings.Contains(list, "press-07") || !strings.Contains(list, "0 (last: press-07)") || !strings.Contains(list, "hall 3") {
		t.Errorf("list:\n%s", list)
	}
	if _, err := m.join(t, line); err == nil || !strings.Contains(err.Error(), "1 of 15 checks failed") {
		t.Errorf("second join: %v", err)
	}

	if out, err = execute(t, revokeCommand(c), "press-07"); err != nil || !strings.Contains(out, "revoked") || !strings.Contains(out, "deleted") {
		t.Errorf("revoke: %v\n%s", err, out)
	}
	if svc.Revoked(id, pair.Current().Leaf) {
		t.Error("the service does not run, so it can't know yet")
	}
	if list, err = execute(t, tokenCommand(c), "list", "-o", "json"); err != nil || strings.TrimSpace(list) != "[]" {
		t.Errorf("after the revocation: %v %s", err, list)
	}

	if _, err := m.reset(t); err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("reset without a terminal: %v", err)
	}
	other := filepath.Join(m.configDir, "mine.conf")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.calls = nil
	if out, err = m.reset(t, "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if diff := cmp.Diff([]string{"disable --now " + unitName, "daemon-reload"}, m.calls); diff != "" {
		t.Error(diff)
	}
	if got := tree(t, m.configDir); got != "mine.conf" {
		t.Errorf("left in the configuration directory: %s", got)
	}
	if _, err := os.Stat(m.stateDir); !errors.Is(err, os.ErrNotExist) || m.unit.installed() {
		t.Errorf("state directory or unit left (%v)", err)
	}
}

func TestFailedJoinLeavesNothing(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	before := tree(t, m.dir)
	wrong := line[:strings.Index(line, "--token ")] + "--token aaaaaa.0123456789abcdef " + line[strings.Index(line, "--ca-hash"):]
	if _, err := m.join(t, wrong, "--node-name", "edge-1"); err == nil || !strings.Contains(err.Error(), "Check the token") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(m.socket); err != nil {
		t.Fatal(err)
	}
	out, err := m.join(t, line, "--node-name", "edge-1")
	if err == nil || !strings.Contains(out, "FAIL  the container runtime") {
		t.Errorf("no runtime: %v\n%s", err, out)
	}
	if got := tree(t, m.dir); got != strings.ReplaceAll(before, "cri.sock ", "") || len(m.calls) != 0 {
		t.Errorf("left: %s; systemctl %v", got, m.calls)
	}
}

func TestStateDirOfOthersIsSafe(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	if err := os.Mkdir(m.stateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(m.stateDir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := m.join(t, line, "--node-name", "edge-1"); err == nil || !strings.Contains(out, "it holds precious") {
		t.Errorf("join: %v\n%s", err, out)
	}
	out, err := m.reset(t, "--yes")
	if err != nil || !strings.Contains(out, "Leaving "+m.stateDir+" alone") {
		t.Errorf("reset: %v\n%s", err, out)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestTokenFromFile(t *testing.T) {
	for in, want := range map[string]string{"abc.def\n": "abc.def", "  x  ": "x", "\n": ""} {
		got, err := readToken(strings.NewReader(in), "-")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "kubeconfig")
	write(t, dead, "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://"+closedPort(t)+"'}}]\n"+
		"contexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n")
	const hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	tests := []struct {
		args []string
		code int
		text string
	}{
		{[]string{"version"}, 0, "skerry "},
		{[]string{"token", "create", "--help"}, 0, "skerry token create --node"},
		{[]string{"nonsense"}, 2, "unknown command"},
		{[]string{"jion"}, 2, "is it join?"},
		{[]string{"token", "crate"}, 2, "is it create?"},
		{[]string{"token", "nonsense"}, 2, "unknown command"},
		{[]string{"token", "create", "--ttl", "soon"}, 2, "--ttl"},
		{[]string{"token", "create", "--ttl", "0s"}, 2, "must end some day"},
		{[]string{"token", "create", "--uses", "-1"}, 2, "negative"},
		{[]string{"token", "create", "--server", ":7443"}, 2, "not HOST:PORT"},
		{[]string{"token", "create", "--server", "a:"}, 2, "not HOST:PORT"},
		{[]string{"token", "delete"}, 2, "requires at least 1 arg"},
		{[]string{"token", "delete", "abc"}, 2, "not a token's ID"},
		{[]string{"revoke", "A"}, 2, "node name"},
		{[]string{"join"}, 2, "skerry join HOST:PORT"},
		{[]string{"join", "a:1", "--token", "x"}, 2, "--ca-hash is missing"},
		{[]string{"join", "a:1", "--token", "x", "--ca-hash", "md5:1"}, 2, "--ca-hash"},
		{[]string{"join", "a:1", "--ca-hash", hash}, 2, "--token"},
		{[]string{"join", "a:1", "--ca-hash", hash, "--token", "x", "--token-file", "-"}, 2, "token-file"},
		{[]string{"join", "a:1", "--ca-hash", hash, "--token-file", "/nonexistent"}, 1, "read token"},
		{[]string{"token", "list", "--kubeconfig", "/nonexistent"}, 1, "find the cluster"},
		{[]string{"token", "list", "--kubeconfig", dead}, 1, "refused; next: kubectl cluster-info"},
		{[]string{"status", "--kubeconfig", dead}, 1, "refused; next: kubectl cluster-info"},
		{[]string{"ca", "status", "--kubeconfig", dead}, 1, "refused; next: kubectl cluster-info"},
		{[]string{"init", "--advertise-address", "a:1", "--kubeconfig", dead}, 1, "refused; next: kubectl cluster-info"},
		{[]string{"uninstall", "--kubeconfig", dead}, 1, "refused; next: kubectl cluster-info"},
		{[]string{"doctor", "--kubeconfig", dead}, 1, "warn  edges are Ready: edges could not be listed"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		code := exitCode(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &out}, tt.args)
		if code != tt.code || !strings.Contains(out.String(), tt.text) {
			t.Errorf("%v: exit %d, %s\nwant exit %d, %q", tt.args, code, &out, tt.code, tt.text)
		}
	}
	t.Setenv("KUBECONFIG", "/nonexistent")
	var out bytes.Buffer
	if code := exitCode(t.Context(), streams{in: strings.NewReader(""), out: &out, err: &out}, []string{"status"}); code != 1 ||
		!strings.Contains(out.String(), "no kubeconfig (looked for /nonexistent)") {
		t.Errorf("without a kubeconfig: exit %d, %s", code, &out)
	}
}

// TestEveryCommandHasExamples is the promise of --help.
func TestEveryCommandHasExamples(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(newRoot(streams{}))
}

func TestMountsBelow(t *testing.T) {
	const info = `22 1 0:21 / / rw - ext4 /dev/sda1 rw
30 22 0:30 / /var/lib/skerry rw - ext4 /dev/sdb rw
31 30 0:31 / /var/lib/skerry/pods/a/volumes/v rw shared:1 - tmpfs tmpfs rw
32 31 0:32 / /var/lib/skerry/pods/a/volumes/v/sub\040dir rw - tmpfs tmpfs rw
33 30 0:33 / /var/lib/skerry/pods/a/volumes/v rw - tmpfs tmpfs rw
34 22 0:34 / /var/lib/skerry2/x rw - tmpfs tmpfs rw
garbage
`
	want := []string{
		"/var/lib/skerry/pods/a/volumes/v/sub dir", "/var/lib/skerry/pods/a/volumes/v", "/var/lib/skerry/pods/a/volumes/v",
	}
	if diff := cmp.Diff(want, mountsBelow(info, "/var/lib/skerry")); diff != "" {
		t.Error(diff)
	}
}

func TestUnit(t *testing.T) {
	text, err := renderUnit(`/opt/my agents/edge"agent`, "/etc/100%/$HOME.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := `ExecStart="/opt/my agents/edge\"agent" --config "/etc/100%%/$$HOME.yaml"` + "\n"
	if !strings.Contains(string(text), want) {
		t.Errorf("want %s in\n%s", want, text)
	}
	for _, bad := range []string{"ProtectSystem=", "PrivateTmp=", "ProtectHome=", "PrivateDevices="} {
		if strings.Contains(string(text), "\n"+bad) {
			t.Errorf("%s hides the agent's mounts from the runtime", bad)
		}
	}
	if strings.Contains(string(text), "\nRestrictSUIDSGID=") {
		t.Error("the agent may not make volumes setgid, as an fsGroup asks")
	}
}

func TestTokenCreateJSON(t *testing.T) {
	c, svc := newCluster(t)
	out, err := execute(t, tokenCommand(c), "create", "--uses", "0", "--ttl", "2h", "--server", "edge.example.com:443", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got created
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	left := time.Until(got.Metadata.Expires)
	if got.Server != "edge.example.com:443" || got.CAHash != svc.CA().Hash().String() || got.Metadata.Limited || left > 2*time.Hour || left < time.Hour {
		t.Errorf("got %+v", got)
	}
	if !strings.HasPrefix(got.Command, "skerry join edge.example.com:443 --token "+got.Token+" ") {
		t.Errorf("command %q", got.Command)
	}
	id, _, _ := strings.Cut(got.Token, ".")
	if out, err = execute(t, tokenCommand(c), "delete", got.Token); err != nil || out != "token "+id+" deleted\n" {
		t.Errorf("delete: %v %s", err, out)
	}
	if _, err = execute(t, tokenCommand(c), "delete", id); err == nil || !strings.Contains(err.Error(), "there is no token") {
		t.Errorf("delete again: %v", err)
	}
}

// tree lists what is below dir.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, err := filepath.Rel(dir, p); err == nil && rel != "." {
			names = append(names, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}
