package pods

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/pods/userns"
)

// These tests run against a real runtime, given by SKERRY_CRI_TEST_SOCKET, with
// an image docker.io/library/busybox:test in it and a pod network that reaches
// the test's own network namespace. They need root.
const (
	socketEnv  = "SKERRY_CRI_TEST_SOCKET"
	helperEnv  = "SKERRY_CRI_TEST_HELPER" // directory of the agent process to be killed
	testCgroup = "/skerrypods"
)

type rig struct {
	dir     string
	client  *cri.Client
	objects *memObjects
	rec     *recorder
	groups  cgroups.Layout // made by whom the runtime says
	m       *Manager
	stop    func()
}

func testClient(tb testing.TB) *cri.Client {
	tb.Helper()
	socket := os.Getenv(socketEnv)
	if socket == "" {
		tb.Skip(socketEnv + " is not set")
	}
	client, err := cri.New(cri.Config{Endpoint: socket})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

func (r *rig) start(tb testing.TB) {
	tb.Helper()
	driver, err := r.client.CgroupDriver(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	r.groups = cgroups.Layout{Root: testCgroup, Driver: cgroups.Driver(driver)}
	m, err := New(Config{
		Objects: r.objects, Reporter: r.rec, Events: r.rec, CRI: r.client,
		StateDir: filepath.Join(r.dir, "state"), LogsDir: filepath.Join(r.dir, "logs"), Groups: r.groups,
		NodeName: "edge-1", HostIP: func() []string { return []string{"10.88.0.1"} },
		Features: r.features, Allocatable: allocatable,
		Users: func(context.Context) (userns.Span, error) {
			return userns.Span{First: userns.Size, Count: 100 * userns.Size}, nil
		},
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.Run(ctx)
	}()
	r.m = m
	r.stop = func() { cancel(); <-ended }
}

// features are those of the runtime's handler.
func (r *rig) features(ctx context.Context, handler string) (cri.HandlerFeatures, error) {
	h, err := r.client.Health(ctx)
	i := slices.IndexFunc(h.Handlers, func(h cri.Handler) bool { return h.Name == handler })
	if err != nil || i < 0 {
		return cri.HandlerFeatures{}, err
	}
	return h.Handlers[i].HandlerFeatures, nil
}

func newRig(t *testing.T, pods ...*corev1.Pod) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), client: testClient(t), objects: newObjects(pods...), rec: newRecorder()}
	r.start(t)
	t.Cleanup(func() {
		// Whatever the test did, the store forgets all pods and the manager
		// removes them.
		r.objects.mu.Lock()
		clear(r.objects.pods)
		r.objects.mu.Unlock()
		for _, ref := range r.m.Refs() {
			r.m.Wake("pods/" + ref.Namespace + "/" + ref.Name)
		}
		r.rec.wait(t, "all pods gone", time.Minute, func() bool { return len(r.m.Refs()) == 0 })
		r.stop()
		r.nothingLeft(t)
	})
	return r
}

// nothingLeft checks that runtime and host have forgotten all pods.
func (r *rig) nothingLeft(t *testing.T) {
	t.Helper()
	sandboxes, err := r.client.ListSandboxes(context.WithoutCancel(t.Context()), map[string]string{labelPodNamespace: "ns"})
	if err != nil || len(sandboxes) != 0 {
		t.Errorf("sandboxes left: %v %v", sandboxes, err)
	}
	for _, pattern := range []string{"state/pods/*", "logs/*"} {
		if left, _ := filepath.Glob(filepath.Join(r.dir, pattern)); len(left) != 0 {
			t.Errorf("files left: %v", left)
		}
	}
	for _, class := range cgroups.Classes() {
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			groups, _ := filepath.Glob(mount + r.groups.Group(class) + "/*")
			for _, g := range groups {
				if uid, ok := r.groups.PodUID(filepath.Base(g)); ok {
					t.Errorf("control group of %s is left: %s", uid, g)
				}
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(mounts), r.dir) {
		t.Error("mounts left below " + r.dir)
	}
}

// groupFile reads a file of a control group, on v1 from the hierarchy that has it.
func groupFile(t *testing.T, group, v1, v2 string) string {
	t.Helper()
	files, _ := filepath.Glob("/sys/fs/cgroup/*" + group + "/" + v1)
	for _, f := range append(files, "/sys/fs/cgroup"+group+"/"+v2) {
		if b, err := os.ReadFile(f); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	t.Errorf("group %s has neither %s nor %s", group, v1, v2)
	return "none"
}

func (r *rig) apply(p *corev1.Pod) {
	r.objects.put(p)
	r.m.Wake(keyOf(p))
}

func (r *rig) waitFor(t *testing.T, name, want string) corev1.PodStatus {
	t.Helper()
	r.rec.wait(t, name+" to be "+want, 90*time.Second, func() bool {
		s := r.rec.get("ns/" + name)
		return describe(&s) == want
	})
	return r.rec.get("ns/" + name)
}

func TestRealRunAndExit(t *testing.T) {
	r := newRig(t,
		newPod("run", script("echo hello; trap 'exit 0' TERM; while :; do sleep 0.1; done")),
		newPod("ok", policy(corev1.RestartPolicyNever), script("echo -n done > /dev/termination-log")),
		newPod("bad", policy(corev1.RestartPolicyNever), script("echo last words; exit 7"), func(p *corev1.Pod) {
			p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		}),
		newPod("noimage", func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = "docker.io/library/absent:1"
			p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
		}),
		newPod("nocommand", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"/absent"} }),
	)
	s := r.waitFor(t, "run", "Running c=Running+")
	if s.PodIP == "" || s.HostIP != "10.88.0.1" || s.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status %+v", s)
	}
	s = r.waitFor(t, "ok", "Succeeded c=Completed(0)")
	if got := s.ContainerStatuses[0].State.Terminated.Message; got != "done" {
		t.Errorf("termination message %q", got)
	}
	s = r.waitFor(t, "bad", "Failed c=Error(7)")
	if got := s.ContainerStatuses[0].State.Terminated.Message; got != "last words\n" {
		t.Errorf("termination message %q", got)
	}
	r.waitFor(t, "noimage", "Pending c=ErrImageNeverPull")
	r.waitFor(t, "nocommand", "Failed c=StartError(128)")

	run, ok := r.m.Lookup("ns", "run", "")
	if !ok || len(run.Containers) != 1 {
		t.Fatalf("lookup: %v %+v", ok, run)
	}
	log, err := os.ReadFile(run.Containers[0].LogPath)
	if err != nil || !strings.Contains(string(log), "stdout F hello") {
		t.Errorf("log %q %v", log, err)
	}
	if want := filepath.Join(r.dir, "logs/ns_run_uid-run/c/0.log"); run.Containers[0].LogPath != want {
		t.Errorf("log path %s, want %s", run.Containers[0].LogPath, want)
	}
	// Graceful deletion.
	pod, _ := r.objects.Pod("pods/ns/run")
	r.apply(deleted(pod, 30, time.Now()))
	began := time.Now()
	r.rec.wait(t, "run gone", 20*time.Second, func() bool { return r.rec.isGone("uid-run") })
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("graceful stop took %s", d)
	}
	if s := r.rec.get("ns/run"); describe(&s) != "Succeeded c=Completed(0)" {
		t.Errorf("last status %s", describe(&s))
	}
}

func TestRealCrashLoop(t *testing.T) {
	r := newRig(t, newPod("crash", script("exit 3")))
	s := r.waitFor(t, "crash", "Running c=CrashLoopBackOff#1")
	if last := s.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 3 {
		t.Errorf("last state %+v", last)
	}
	if !strings.HasPrefix(s.ContainerStatuses[0].State.Waiting.Message, "back-off 10s restarting failed container=c pod=crash_ns(uid-crash)") {
		t.Errorf("message %q", s.ContainerStatuses[0].State.Waiting.Message)
	}
	began := time.Now()
	r.waitFor(t, "crash", "Running c=CrashLoopBackOff#2")
	if d := time.Since(began); d < 8*time.Second || d > 20*time.Second {
		t.Errorf("second restart after %s, want about 10s", d)
	}
}

func TestRealFeatures(t *testing.T) {
	pod := newPod("full", script(`set -e
[ "$GREETING" = "hi 1 full" ] && [ "$IP" = "$(hostname -i)" ]
cat /cfg/a | grep -q one
[ "$(stat -f -c %T /mem)" = tmpfs ]
[ "$(cat /sub)" = one ]
[ "$(cat /init/done)" = ok ]
grep -q 'foo.local' /etc/hosts; grep -q "Kubernetes-managed" /etc/hosts
[ "$(id -u):$(id -g)" = 1000:2000 ]; id -G | grep -q 3000
! touch /x 2>/dev/null
echo all good
touch /mem/ready
trap 'exit 0' TERM; while :; do sleep 0.1; done`))
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: new(int64(1000)), RunAsGroup: new(int64(2000)), FSGroup: new(int64(3000)), RunAsNonRoot: new(true),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"foo.local"}}}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}},
		{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: "init", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	pod.Spec.InitContainers = []corev1.Container{{
		Name: "first", Image: "docker.io/library/busybox:test", Command: []string{"sh", "-c", "echo -n ok > /init/done"},
		VolumeMounts: []corev1.VolumeMount{{Name: "init", MountPath: "/init"}},
	}, {
		Name: "side", Image: "docker.io/library/busybox:test", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
		Command: []string{"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"},
	}}
	c := &pod.Spec.Containers[0]
	c.SecurityContext = &corev1.SecurityContext{
		ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	c.Env = []corev1.EnvVar{
		{Name: "ONE", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}},
		{Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "GREETING", Value: "hi $(ONE) $(NAME)"},
	}
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "cfg", MountPath: "/cfg"},
		{Name: "mem", MountPath: "/mem"},
		{Name: "init", MountPath: "/init"},
		{Name: "cfg", MountPath: "/sub", SubPath: "a"},
	}
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"test", "-e", "/mem/ready"}}},
		PeriodSeconds: 1,
	}
	r := newRig(t)
	r.objects.secrets["ns/s"] = &corev1.Secret{Data: map[string][]byte{"k": []byte("1")}}
	r.apply(pod)
	r.rec.wait(t, "the missing configmap to be told", 20*time.Second, func() bool { return r.rec.hasEvent(`configmap "cm" not found`) })
	r.objects.mu.Lock()
	r.objects.configMaps["ns/cm"] = &corev1.ConfigMap{Data: map[string]string{"a": "one"}}
	r.objects.mu.Unlock()
	r.m.Wake("configmaps/ns/cm")
	r.waitFor(t, "full", "Running first=Completed(0)+ side=Running+ c=Running+")

	r.objects.mu.Lock()
	r.objects.configMaps["ns/cm"] = &corev1.ConfigMap{Data: map[string]string{"a": "two"}}
	r.objects.mu.Unlock()
	r.m.Wake("configmaps/ns/cm")
	p, _ := r.m.Lookup("ns", "full", "")
	cont, _ := p.Container("c")
	r.rec.wait(t, "live update of the volume", 10*time.Second, func() bool {
		res, err := r.client.ExecSync(t.Context(), cont.ID, []string{"cat", "/cfg/a"}, 5*time.Second)
		return err == nil && string(res.Stdout) == "two"
	})
}

func TestRealProbesAndHooks(t *testing.T) {
	pod := newPod("probed", script("mkdir -p /www; echo ok > /www/health; httpd -f -p 8080 -h /www"))
	c := &pod.Spec.Containers[0]
	c.Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}
	handler := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health", Port: intstr.FromString("web")}}
	c.StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, FailureThreshold: 20}
	c.ReadinessProbe = &corev1.Probe{ProbeHandler: handler, PeriodSeconds: 1}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: handler, PeriodSeconds: 1, FailureThreshold: 2}
	c.Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "touch /post"}}},
		PreStop:   &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}},
	}
	pod.Spec.TerminationGracePeriodSeconds = new(int64(2))
	r := newRig(t, pod)
	r.waitFor(t, "probed", "Running c=Running+")
	p, _ := r.m.Lookup("ns", "probed", "")
	if res, err := r.client.ExecSync(t.Context(), p.Containers[0].ID, []string{"test", "-e", "/post"}, 0); err != nil || res.ExitCode != 0 {
		t.Errorf("postStart did not run: %+v %v", res, err)
	}
	if _, err := r.client.ExecSync(t.Context(), p.Containers[0].ID, []string{"rm", "/www/health"}, 0); err != nil {
		t.Fatal(err)
	}
	r.waitFor(t, "probed", "Running c=Running+#1")
	if !r.rec.hasEvent("Liveness probe failed: HTTP probe failed with statuscode: 404") || !r.rec.hasEvent("Container c failed liveness probe, will be restarted") {
		t.Errorf("events %v", r.rec.events)
	}
}

func TestRealExec(t *testing.T) {
	r := newRig(t, newPod("shell", script("trap 'exit 0' TERM; while :; do sleep 0.1; done")))
	r.waitFor(t, "shell", "Running c=Running+")
	p, _ := r.m.Lookup("ns", "shell", "")
	id := p.Containers[0].ID
	run := func(o cri.ExecOptions) (int, string, string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		o.Container, o.Stdout = id, &stdout
		if !o.TTY {
			o.Stderr = &stderr
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		code, err := r.client.Exec(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return code, stdout.String(), stderr.String()
	}
	if code, out, errs := run(cri.ExecOptions{Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 42"}}); code != 42 || out != "out\n" || errs != "err\n" {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	big := strings.Repeat("0123456789abcdef", 64<<10) // 1 MB through both ways, with half-close
	if code, out, _ := run(cri.ExecOptions{Cmd: []string{"cat"}, Stdin: strings.NewReader(big)}); code != 0 || out != big {
		t.Errorf("cat: %d, %d bytes of %d", code, len(out), len(big))
	}
	resize := make(chan cri.Size, 1)
	resize <- cri.Size{Width: 123, Height: 45}
	in, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "until [ \"$(stty size)\" = '45 123' ]; do sleep 0.1; done; stty size; tty; exit 5\n")
	}()
	code, out, _ := run(cri.ExecOptions{Cmd: []string{"sh"}, TTY: true, Stdin: in, Resize: resize})
	_ = w.Close()
	if code != 5 || !strings.Contains(out, "45 123") || !strings.Contains(out, "/dev/pts/") {
		t.Errorf("tty: %d %q", code, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	if _, err := r.client.Exec(ctx, cri.ExecOptions{Container: id, Cmd: []string{"sleep", "100"}, Stdout: io.Discard}); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("cancelled exec: %v after %s", err, time.Since(began))
	}
	if _, err := r.client.Exec(t.Context(), cri.ExecOptions{Container: id, Cmd: []string{"/absent"}, Stdout: io.Discard}); err == nil {
		t.Error("no error for a command that is not there")
	}
}

// TestRealAgentProcess is the agent that TestRealKillAndAdopt kills.
func TestRealAgentProcess(t *testing.T) {
	dir := os.Getenv(helperEnv)
	if dir == "" {
		t.Skip("only as a process of TestRealKillAndAdopt")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "pods.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list corev1.PodList
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	r := &rig{dir: dir, client: testClient(t), objects: newObjects(), rec: newRecorder()}
	for i := range list.Items {
		r.objects.put(&list.Items[i])
	}
	r.start(t)
	select {} // until killed
}

func TestRealKillAndAdopt(t *testing.T) {
	client := testClient(t)
	dir := t.TempDir()
	stay := newPod("stay", script("trap 'exit 0' TERM; while :; do sleep 0.1; done"))
	orphan := newPod("orphan", script("trap 'exit 0' TERM; while :; do sleep 0.1; done"))
	raw, err := json.Marshal(corev1.PodList{Items: []corev1.Pod{*stay, *orphan}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pods.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(os.Args[0], "-test.run=^TestRealAgentProcess$")
	agent.Env = append(os.Environ(), helperEnv+"="+dir)
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	running := func() map[string]string {
		list, err := client.ListContainers(t.Context(), map[string]string{labelPodNamespace: "ns"})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, c := range list {
			if c.State == cri.StateRunning {
				out[c.Labels[labelPodName]] = c.ID
			}
		}
		return out
	}
	rec.wait(t, "both pods to run", time.Minute, func() bool { return len(running()) == 2 })
	before := running()
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()

	r := &rig{dir: dir, client: client, objects: newObjects(stay), rec: rec}
	r.objects.broken = os.ErrDeadlineExceeded // the store cannot be read yet
	r.start(t)
	<-time.After(3 * time.Second)
	if now := running(); len(now) != 2 {
		t.Fatalf("acted before the store was read: %v", now)
	}
	r.objects.mu.Lock()
	r.objects.broken = nil
	r.objects.mu.Unlock()
	rec.wait(t, "the orphan to be removed", time.Minute, func() bool { return running()["orphan"] == "" })
	s := r.waitFor(t, "stay", "Running c=Running+")
	if got := running()["stay"]; got != before["stay"] || s.ContainerStatuses[0].ContainerID != "containerd://"+before["stay"] {
		t.Errorf("container %s was replaced by %s", before["stay"], got)
	}
	if rec.hasEvent("Created") || rec.hasEvent("Started") {
		t.Errorf("something was started: %v", rec.events)
	}
	r.objects.remove(keyOf(stay))
	r.m.Wake(keyOf(stay))
	rec.wait(t, "all pods gone", time.Minute, func() bool { return len(r.m.Refs()) == 0 })
	r.stop()
	r.nothingLeft(t)
}

func TestRealSameNameNewUID(t *testing.T) {
	grace := func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = new(int64(2)) }
	r := newRig(t, newPod("twin", script("sleep 1000"), grace))
	r.waitFor(t, "twin", "Running c=Running+")
	next := newPod("twin", script("sleep 1000"), grace, func(p *corev1.Pod) { p.UID = "uid-second" })
	next.CreationTimestamp = metav1.Now()
	r.apply(next)
	r.rec.wait(t, "the second to run and the first to go", time.Minute, func() bool {
		p, ok := r.m.Lookup("ns", "twin", "uid-second")
		_, first := r.m.Lookup("ns", "twin", "uid-twin")
		return ok && len(p.Containers) == 1 && p.Containers[0].State == cri.StateRunning && !first
	})
}

// A reboot, as far as the runtime shows it: all processes are gone, the books
// are still there.
func TestRealLostSandbox(t *testing.T) {
	r := newRig(t, newPod("lost", inits("a"), script("trap 'exit 0' TERM; while :; do sleep 0.1; done"), func(p *corev1.Pod) {
		p.Spec.InitContainers[0].Command = []string{"true"}
		p.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}))
	r.waitFor(t, "lost", "Running a=Completed(0)+ c=Running+")
	first, _ := r.m.Lookup("ns", "lost", "")
	if err := r.client.StopSandbox(t.Context(), first.SandboxID); err != nil {
		t.Fatal(err)
	}
	r.waitFor(t, "lost", "Running a=Completed(0)+#1 c=Running+#1")
	second, _ := r.m.Lookup("ns", "lost", "")
	if second.SandboxID == first.SandboxID || second.Containers[0].ID == first.Containers[0].ID {
		t.Errorf("not replaced: %+v", second)
	}
}

func TestRealEphemeralAndHostNetwork(t *testing.T) {
	host := newPod("host", script("trap 'exit 0' TERM; while :; do sleep 0.1; done"), func(p *corev1.Pod) {
		p.Spec.HostNetwork = true
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
		}
	})
	oom := newPod("oom", policy(corev1.RestartPolicyNever), script("head -c 100m /dev/zero | tail"), func(p *corev1.Pod) {
		p.Spec.Containers[0].Command = []string{"sh", "-c", "exec tail /dev/zero"}
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}
	})
	r := newRig(t, host, oom)
	s := r.waitFor(t, "host", "Running c=Running+")
	if s.PodIP != "10.88.0.1" || s.QOSClass != corev1.PodQOSGuaranteed {
		t.Errorf("status %+v", s)
	}
	if quota := groupFile(t, r.groups.Pod("", "uid-host"), "cpu.cfs_quota_us", "cpu.max"); strings.Fields(quota)[0] != "50000" {
		t.Errorf("quota %q", quota)
	}
	r.waitFor(t, "oom", "Failed c=OOMKilled(137)")
	next := host.DeepCopy()
	next.Generation++
	next.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "dbg", Image: "docker.io/library/busybox:test", Command: []string{"sh", "-c", "grep -q sleep /proc/*/cmdline && exit 9"},
		},
		TargetContainerName: "c",
	}}
	r.apply(next)
	r.waitFor(t, "host", "Running c=Running+ dbg=Error(9)")
}
