package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/local"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// edgeSource is an agent's knowledge.
type edgeSource struct {
	pods local.Pods
	node corev1.Node
	maps []corev1.ConfigMap
}

func (s *edgeSource) Pods() local.Pods                  { return s.pods }
func (s *edgeSource) Node(context.Context) *corev1.Node { return &s.node }

func (s *edgeSource) ConfigMaps(string, string) ([]corev1.ConfigMap, error) { return s.maps, nil }

// echoExec answers a command with its arguments and exit code 3.
func echoExec(_ context.Context, conn net.Conn) {
	f, err := wire.NewReader(bufio.NewReader(conn), 1<<16).Next()
	if req, ok := f.(*wire.ExecRequest); ok && err == nil {
		said := strings.Join(append([]string{req.Namespace, req.Pod, req.Container}, req.Command...), " ")
		_ = wire.Write(conn, &wire.Data{Channel: wire.ChannelStdout, Bytes: []byte(said + "\n")})
		_ = wire.Write(conn, &wire.Exit{Code: 3})
	}
	_ = conn.Close()
}

// newAgent runs an agent's local server and gives its socket.
func newAgent(t *testing.T, src *edgeSource) string {
	t.Helper()
	logs := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.URL.Path + "?" + r.URL.RawQuery + "\n"))
	})
	dir := t.TempDir()
	srv, err := local.New(local.Config{Socket: local.SocketPath(dir), Source: src, Kubelet: logs, Exec: echoExec})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	// The commands find the socket by the configuration that a join has written.
	yaml := "apiVersion: skerry.io/v1alpha1\nkind: EdgeAgentConfig\nserver: x:1\nnodeName: edge\nstateDir: " + dir + "\n"
	if err := os.WriteFile(filepath.Join(dir, "edgeagent.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &local.Client{Socket: local.SocketPath(dir)}
	for {
		if _, err := c.Node(ctx); err == nil {
			return dir
		}
		select {
		case <-ctx.Done():
			t.Fatal("the server never listened")
		case <-time.After(time.Millisecond):
		}
	}
}

// skerryAt runs a whole command line on an edge.
func skerryAt(t *testing.T, dir string, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	at := len(args)
	for i, a := range args {
		if a == "--" {
			at = i
			break
		}
	}
	line := append(append(append([]string{}, args[:at]...), "--config-dir", dir), args[at:]...)
	code = exitCode(t.Context(), streams{in: strings.NewReader(""), out: &o, err: &e}, line)
	return o.String(), e.String(), code
}

func ago(d time.Duration) metav1.Time { return metav1.NewTime(time.Now().Add(-d)) }

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func edgePods() local.Pods {
	priority := int32(2000001000)
	pod := func(ns, name string, status corev1.PodStatus, containers ...string) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, CreationTimestamp: ago(26 * time.Hour)}, Status: status}
		for _, c := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
		}
		return p
	}
	web := pod("shop", "web", corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: "10.0.0.7",
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "a", Ready: true, State: running(), RestartCount: 2, LastTerminationState: corev1.ContainerState{
				Terminated: &corev1.ContainerStateTerminated{FinishedAt: ago(3 * time.Hour)},
			}},
			{Name: "b", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}},
		},
	}, "a", "b")
	static := pod("kube-system", "proxy-edge", corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Ready: true, State: running()}}}, "x")
	static.Annotations = map[string]string{sourceAnnotation: "file"}
	static.Spec.Priority = &priority
	other := pod("test", "web", corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{
		{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed"}}},
	}}, "x")
	return local.Pods{Pods: []corev1.Pod{static, web, other}, Problems: []string{"/etc/skerry/manifests/bad.yaml: it has no name"}}
}

func TestGetPods(t *testing.T) {
	dir := newAgent(t, &edgeSource{pods: edgePods()})
	out, errOut, code := skerryAt(t, dir, "get", "pods")
	want := `NAMESPACE     NAME         READY   STATUS             RESTARTS     AGE
kube-system   proxy-edge   1/1     Running            0            26h
shop          web          1/2     CrashLoopBackOff   2 (3h ago)   26h
test          web          0/1     Completed          0            26h
`
	if out != want || code != 0 {
		t.Errorf("code %d, got\n%s\nwant\n%s", code, out, want)
	}
	if errOut != "Warning: /etc/skerry/manifests/bad.yaml: it has no name\n" {
		t.Errorf("warning %q", errOut)
	}
	for _, tt := range []struct {
		args string
		want []string
		code int
	}{
		{"get po -n shop -o wide", []string{"IP         PRIORITY   SOURCE\n", "10.0.0.7   0          cloud\n"}, 0},
		{"get pods proxy-edge -o wide", []string{"<none>   2000001000   file\n"}, 0},
		{"get pod proxy-edge -o yaml", []string{"\n  name: proxy-edge\n"}, 0},
		{"get pods -A -o json", []string{`"kind": "List"`, `"name": "proxy-edge"`}, 0},
		{"get pods web nobody", []string{"shop ", "no pod nobody on this edge"}, 1},
		{"get pods -n none", []string{"none on this edge"}, 0},
		{"get pods -A -n shop", []string{"exclude each other"}, 2},
		{"get pods -o xml", []string{`"xml" is not wide, json or yaml`}, 2},
	} {
		out, errOut, code := skerryAt(t, dir, strings.Fields(tt.args)...)
		for _, w := range tt.want {
			if !strings.Contains(out+errOut, w) {
				t.Errorf("%s: %q is not in\n%s%s", tt.args, w, out, errOut)
			}
		}
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d", tt.args, code, tt.code)
		}
	}
}

func TestSummarize(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	spec := corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "one"}, {Name: "side", RestartPolicy: &always}},
		Containers:     []corev1.Container{{Name: "main"}},
	}
	started := true
	done := corev1.ContainerStatus{Name: "one", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}
	side := corev1.ContainerStatus{Name: "side", Started: &started, Ready: true, State: running()}
	failed := corev1.ContainerStatus{Name: "one", RestartCount: 4, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 9}}}
	for name, tt := range map[string]struct {
		status   corev1.PodStatus
		deleted  bool
		want     string
		ready    int
		restarts int32
	}{
		"nothing known": {corev1.PodStatus{}, false, "Unknown", 0, 0},
		"initializing":  {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{done, {Name: "side"}}}, false, "Init:1/2", 0, 0},
		"init failed":   {corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{failed}}, false, "Init:ExitCode:9", 0, 4},
		"with sidecar": {corev1.PodStatus{
			Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{done, side},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, State: running()}},
		}, false, "Running", 2, 0},
		"deleted": {corev1.PodStatus{Phase: corev1.PodRunning}, true, "Terminating", 0, 0},
		"reason":  {corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}, false, "Evicted", 0, 0},
	} {
		p := corev1.Pod{Spec: spec, Status: tt.status}
		if tt.deleted {
			now := metav1.Now()
			p.DeletionTimestamp = &now
		}
		if got := summarize(&p); got.status != tt.want || got.ready != tt.ready || got.restarts != tt.restarts || got.total != 2 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestGetNodesAndConfigMaps(t *testing.T) {
	src := &edgeSource{
		node: corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "edge"}, Status: corev1.NodeStatus{
			NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1"},
			Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue},
				{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
				{Type: local.ConditionCloudConnected, Status: corev1.ConditionFalse, Message: "no route", LastTransitionTime: ago(4 * time.Hour)},
			},
		}},
		maps: []corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cfg", CreationTimestamp: ago(time.Hour)}, Data: map[string]string{"key": "content"}}},
	}
	dir := newAgent(t, src)
	for args, want := range map[string]string{
		"get nodes":        "NAME   STATUS               CLOUD     FOR   VERSION\nedge   Ready,DiskPressure   offline   4h    v1\n",
		"get configmaps":   "NAMESPACE   NAME   DATA   AGE\nshop        cfg    1      60m\n",
		"get cm cfg":       "NAMESPACE   NAME   DATA   AGE\nshop        cfg    1      60m\n",
		"get pods":         "",
		"get pods -o json": "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"List\",\n  \"items\": []\n}\n",
	} {
		if out, errOut, code := skerryAt(t, dir, strings.Fields(args)...); out != want || code != 0 {
			t.Errorf("%s: code %d, %s got\n%s\nwant\n%s", args, code, errOut, out, want)
		}
	}
	if out, _, _ := skerryAt(t, dir, "get", "cm", "cfg", "-o", "yaml"); !strings.Contains(out, "key: content") {
		t.Errorf("no content in\n%s", out)
	}
	if out, _, _ := skerryAt(t, dir, "get", "nodes", "-o", "wide"); !strings.Contains(out, "no route") {
		t.Errorf("nothing says why it is offline:\n%s", out)
	}
}

func TestLogsAndExec(t *testing.T) {
	dir := newAgent(t, &edgeSource{pods: edgePods()})
	for _, tt := range []struct {
		args string
		want string // in the output
		code int
	}{
		{"logs proxy-edge", "/containerLogs/kube-system/proxy-edge/x?\n", 0},
		{"logs pod/proxy-edge --tail 5 --since 90s -p -f --timestamps", "?follow=true&previous=true&sinceSeconds=90&tailLines=5&timestamps=true\n", 0},
		{"logs web", "namespaces shop, test: say which by -n", 1},
		{"logs web -n shop", `Defaulted container "a" out of: a, b`, 0},
		{"logs web -n shop -c b", "/containerLogs/shop/web/b?", 0},
		{"logs web -n none", `no pod "web" in namespace "none"`, 1},
		{"logs nobody", `no pod "nobody" on this edge`, 1},
		{"logs", "accepts 1 arg", 2},
		{"logs proxy-edge --tail=-2", "less than -1", 2},
		{"exec proxy-edge -- ls -l", "kube-system proxy-edge x ls -l\ncommand terminated with exit code 3\n", 3},
		{"exec proxy-edge -it -- sh", "no terminal for the command", 3},
		{"exec proxy-edge ls", "It comes after --", 2},
		{"exec proxy-edge --", "It comes after --", 2},
		{"exec", "which pod?", 2},
		{"exec a b -- ls", `"a b" before --`, 2},
	} {
		out, errOut, code := skerryAt(t, dir, strings.Fields(tt.args)...)
		if !strings.Contains(out+errOut, tt.want) || code != tt.code {
			t.Errorf("%s: code %d, want %d; %q is not in\n%s%s", tt.args, code, tt.code, tt.want, out, errOut)
		}
	}
	var o bytes.Buffer
	exitCode(t.Context(), streams{in: strings.NewReader(""), out: &o, err: &o}, []string{"__complete", "logs", "--config-dir", dir, "-n", "kube-system", ""})
	if !strings.HasPrefix(o.String(), "proxy-edge\n:") {
		t.Errorf("completion offers %q", o.String())
	}
}

func TestNoAgentHere(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{"get pods", "get nodes", "get configmaps", "logs x", "exec x -- ls"} {
		line := append(strings.Fields(args), "--socket", local.SocketPath(dir))
		if found := strings.Contains(args, " --"); found {
			line = []string{"exec", "x", "--socket", local.SocketPath(dir), "--", "ls"}
		}
		var e bytes.Buffer
		code := exitCode(t.Context(), streams{in: strings.NewReader(""), out: &e, err: &e}, line)
		if code != 1 || !strings.Contains(e.String(), "no edge agent runs on this machine") || !strings.Contains(e.String(), "is this an edge?") {
			t.Errorf("%s: code %d, %q", args, code, e.String())
		}
	}
	if err := explainLocal(t.Context(), local.ErrNotRoot); !errors.Is(err, local.ErrNotRoot) || !strings.Contains(err.Error(), "sudo") {
		t.Errorf("not root: %v", err)
	}
}
