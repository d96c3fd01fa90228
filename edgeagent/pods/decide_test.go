package pods

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/probe"
)

// t0 is the time of all decisions in the tables; instances are placed before it.
var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return t0.Add(-d) }

// sb is a sandbox of an attempt.
func sb(attempt uint32, ready bool) cri.Sandbox {
	return cri.Sandbox{ID: fmt.Sprintf("sb%d", attempt), Attempt: attempt, Ready: ready, CreatedAt: ago(time.Hour - time.Duration(attempt)*time.Second)}
}

// runs, exited and made are instances in the first sandbox. Their image is the one
// that newPod and the tables use.
func runs(name string, since time.Duration) container {
	return container{
		id: name + "-id", sandboxID: "sb0", name: name, state: cri.StateRunning, created: ago(since), started: ago(since),
		hash: containerHash(&corev1.Container{Name: name, Image: "docker.io/library/busybox:test"}), hashed: true,
	}
}

func exited(name string, code int32, at time.Duration) container {
	c := runs(name, at+time.Second)
	c.state, c.exitCode, c.finished, c.reason = cri.StateExited, code, ago(at), "Error"
	if code == 0 {
		c.reason = "Completed"
	}
	return c
}

func made(name string) container {
	c := runs(name, time.Minute)
	c.state, c.started = cri.StateCreated, time.Time{}
	return c
}

func inSandbox(c container, id string) container { c.sandboxID = id; return c }
func instance(c container, id string, n int32) container {
	c.id, c.restarts = id, n
	return c
}

// see is an observation with one ready sandbox and these instances.
func see(cs ...container) *observed {
	return &observed{sandboxes: []cri.Sandbox{sb(0, true)}, ips: []string{"10.0.0.9"}, containers: cs}
}

// mounted is a memory past the first step.
func mounted(change ...func(*memory)) *memory {
	m := newMemory()
	m.volumes.done = true
	for _, f := range change {
		f(m)
	}
	return m
}

func inFlight(a action) func(*memory) {
	return func(m *memory) { m.ops[a.key()] = &op{action: a, deadline: t0.Add(a.grace), cancel: func() {}} }
}

func record(name string, r startRecord) func(*memory) {
	return func(m *memory) { m.starts[name] = &r }
}

func verdict(id string, k probeKind, passed bool) func(*memory) {
	return func(m *memory) {
		m.probes[probeKey{id, k}] = &probeRecord{last: t0, result: probe.Success, passed: passed, failed: !passed}
	}
}

// text writes actions as the tables do.
func text(as []action) string {
	var out []string
	for _, a := range as {
		switch a.kind {
		case actSetUpVolumes:
			out = append(out, "volumes")
		case actRefreshVolumes:
			out = append(out, "refresh")
		case actRunSandbox:
			out = append(out, fmt.Sprintf("sandbox %d", a.attempt))
		case actStart:
			out = append(out, fmt.Sprintf("start %s#%d", a.container, a.restarts))
		case actKill:
			out = append(out, fmt.Sprintf("kill %s %v", a.id, a.grace))
		case actCollect:
			out = append(out, "collect "+a.id)
		case actProbe:
			out = append(out, fmt.Sprintf("probe %s %s", a.probe, a.id))
		case actResize:
			out = append(out, "resize")
		case actRelease:
			out = append(out, "release")
		case actCleanUp:
			out = append(out, "clean up")
		}
	}
	return strings.Join(out, ", ")
}

func inits(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, n := range names {
			c := corev1.Container{Name: strings.TrimPrefix(n, "~"), Image: "docker.io/library/busybox:test"}
			if strings.HasPrefix(n, "~") { // a sidecar
				c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
			}
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		}
	}
}

func twoApps(p *corev1.Pod) {
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "docker.io/library/busybox:test"})
}

func beingDeleted(grace int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = new(metav1.NewTime(t0.Add(seconds(grace)))), &grace
	}
}

type decideCase struct {
	name   string
	pod    *corev1.Pod
	gone   bool
	obs    *observed
	mem    *memory
	want   string        // actions
	status string        // see describe
	next   time.Duration // from now; zero means none
	isGone bool
}

func (tt *decideCase) run(t *testing.T) {
	t.Helper()
	d := decide(input{pod: tt.pod, gone: tt.gone, obs: tt.obs, mem: tt.mem, now: t0, runtime: "containerd", hostIPs: []string{"192.0.2.1"}})
	if got := text(d.actions); got != tt.want {
		t.Errorf("actions %q, want %q", got, tt.want)
	}
	if tt.pod != nil && tt.status != "" {
		if diff := cmp.Diff(tt.status, describe(d.status)); diff != "" {
			t.Error("status", diff)
		}
	}
	var next time.Duration
	if !d.next.IsZero() {
		next = d.next.Sub(t0)
	}
	if next != tt.next {
		t.Errorf("next look in %v, want %v", next, tt.next)
	}
	if d.gone != tt.isGone {
		t.Errorf("gone %v, want %v", d.gone, tt.isGone)
	}
}

func TestDecideStart(t *testing.T) {
	crash := startRecord{backoff: 20 * time.Second, bumped: ago(5 * time.Second)}
	for _, tt := range []decideCase{
		{
			name: "volumes come first", pod: newPod("p"), obs: &observed{}, mem: newMemory(),
			want: "volumes", status: "Pending c=ContainerCreating",
		},
		{
			name: "volumes failed", pod: newPod("p"), obs: &observed{}, next: 3 * time.Second,
			mem: mounted(func(m *memory) { m.volumes = step{retryAt: t0.Add(3 * time.Second)} }), status: "Pending c=ContainerCreating",
		},
		{name: "then the sandbox", pod: newPod("p"), obs: &observed{}, mem: mounted(), want: "sandbox 0"},
		{
			name: "not while it is made", pod: newPod("p"), obs: &observed{},
			mem: mounted(inFlight(action{kind: actRunSandbox})), status: "Pending c=ContainerCreating",
		},
		{name: "then the container", pod: newPod("p"), obs: see(), mem: mounted(), want: "start c#0", status: "Pending c=ContainerCreating"},
		{
			name: "one after another", pod: newPod("p", twoApps), obs: see(), mem: mounted(inFlight(action{kind: actStart, container: "c"})),
			status: "Pending c=ContainerCreating d=ContainerCreating",
		},
		{
			name: "a failed one does not hold up the next", pod: newPod("p", twoApps), obs: see(), next: 4 * time.Second, want: "start d#0",
			mem:    mounted(record("c", startRecord{reason: reasonConfigError, retryAt: t0.Add(4 * time.Second)})),
			status: "Pending c=CreateContainerConfigError d=ContainerCreating",
		},
		{name: "all runs", pod: newPod("p"), obs: see(runs("c", time.Minute)), mem: mounted(), status: "Running c=Running+"},
		{
			name: "made and never started", pod: newPod("p"), obs: see(made("c")), mem: mounted(), want: "start c#0",
			status: "Pending c=ContainerCreating",
		},
		{name: "first restart at once", pod: newPod("p"), obs: see(exited("c", 1, time.Second)), mem: mounted(), want: "start c#1", status: "Running c=Error(1)"},
		{
			name: "crash loop waits", pod: newPod("p"), obs: see(exited("c", 1, time.Second)), mem: mounted(record("c", crash)),
			next: 19 * time.Second, status: "Running c=CrashLoopBackOff",
		},
		{
			name: "crash loop over", pod: newPod("p"), obs: see(exited("c", 1, 20*time.Second)), mem: mounted(record("c", crash)),
			want: "start c#1", status: "Running c=Error(1)",
		},
		{
			name: "ran long: no back-off", pod: newPod("p"), obs: see(exited("c", 1, time.Second)), want: "start c#1",
			mem: mounted(record("c", startRecord{backoff: backoffMax, bumped: ago(11 * time.Minute)})),
		},
		{
			name: "pull failed just now", pod: newPod("p"), obs: see(), next: 3 * time.Second, status: "Pending c=ErrImagePull",
			mem: mounted(record("c", startRecord{reason: reasonErrImagePull, pullFailed: ago(2 * time.Second), retryAt: t0.Add(8 * time.Second)})),
		},
		{
			name: "pull backs off", pod: newPod("p"), obs: see(), next: 4 * time.Second, status: "Pending c=ImagePullBackOff",
			mem: mounted(record("c", startRecord{reason: reasonErrImagePull, pullFailed: ago(6 * time.Second), retryAt: t0.Add(4 * time.Second)})),
		},
		{
			name: "postStart still runs", pod: newPod("p"), obs: see(runs("c", time.Second)),
			mem: mounted(inFlight(action{kind: actStart, container: "c"})), status: "Pending c=ContainerCreating",
		},
		{
			name: "image changed", pod: newPod("p", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other:1" }),
			obs: see(runs("c", time.Minute)), mem: mounted(), want: "kill c-id 30s", status: "Running c=Running+",
		},
		{
			name: "of the dead the newest is kept", pod: newPod("p"), mem: mounted(), want: "collect c-old",
			obs: see(instance(runs("c", time.Minute), "c-id", 2), instance(exited("c", 1, 2*time.Minute), "c-prev", 1), instance(exited("c", 1, time.Hour), "c-old", 0)),
		},
		{
			name: "of the dead the newest is kept, when none runs", pod: newPod("p"), want: "collect c-prev", next: 5 * time.Second, status: "Running c=CrashLoopBackOff#2",
			obs: see(instance(exited("c", 1, 5*time.Second), "c-id", 2), instance(exited("c", 1, time.Hour), "c-prev", 1)),
			mem: mounted(record("c", startRecord{backoff: 10 * time.Second, bumped: ago(time.Minute)})),
		},
		{
			name: "one that was made is not dead", pod: newPod("p"), mem: mounted(inFlight(action{kind: actStart, container: "c"})),
			obs: see(instance(made("c"), "c-id", 2), instance(exited("c", 1, 5*time.Second), "c-prev", 1)),
		},
		{
			name: "a pod that has finished", pod: newPod("p", policy(corev1.RestartPolicyOnFailure)), want: "release, collect c-prev",
			obs: see(instance(exited("c", 0, 5*time.Second), "c-id", 1), instance(exited("c", 1, time.Hour), "c-prev", 0)),
			mem: mounted(func(m *memory) { m.status = &corev1.PodStatus{Phase: corev1.PodSucceeded} }),
		},
		{
			name: "an ephemeral container", want: "start dbg#0", obs: see(runs("c", time.Minute)), mem: mounted(),
			pod: newPod("p", func(p *corev1.Pod) {
				p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "dbg", Image: "i"}}}
			}),
			status: "Running c=Running+ dbg=ContainerCreating",
		},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestDecideFinish(t *testing.T) {
	never, onFailure := policy(corev1.RestartPolicyNever), policy(corev1.RestartPolicyOnFailure)
	failed := mounted(func(m *memory) { m.status = &corev1.PodStatus{Phase: corev1.PodFailed} })
	old := mounted(func(m *memory) {
		m.status = &corev1.PodStatus{Phase: corev1.PodRunning, StartTime: new(metav1.NewTime(ago(time.Minute)))}
	})
	limit := func(s int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &s }
	}
	for _, tt := range []decideCase{
		{name: "succeeded", pod: newPod("p", never), obs: see(exited("c", 0, time.Second)), mem: mounted(), status: "Succeeded c=Completed(0)"},
		{name: "failed", pod: newPod("p", never), obs: see(exited("c", 2, time.Second)), mem: mounted(), status: "Failed c=Error(2)"},
		{name: "on failure, good", pod: newPod("p", onFailure), obs: see(exited("c", 0, time.Second)), mem: mounted(), status: "Succeeded c=Completed(0)"},
		{name: "on failure, bad", pod: newPod("p", onFailure), obs: see(exited("c", 2, time.Second)), mem: mounted(), want: "start c#1", status: "Running c=Error(2)"},
		{
			name: "one of two", pod: newPod("p", never, twoApps), obs: see(exited("c", 2, time.Second), runs("d", time.Minute)), mem: mounted(),
			status: "Running c=Error(2) d=Running+",
		},
		{name: "released once", pod: newPod("p", never), obs: see(exited("c", 2, time.Second)), mem: failed, want: "release", status: "Failed c=Error(2)"},
		{
			name: "terminal stays terminal", pod: newPod("p"), obs: see(runs("c", time.Minute)), mem: failed,
			want: "kill c-id 30s", status: "Failed c=Running+",
		},
		{
			name: "sidecars stop at the end", pod: newPod("p", never, inits("~s")), mem: mounted(),
			obs: see(exited("c", 0, time.Second), runs("s", time.Hour)), want: "kill s-id 30s", status: "Running s=Running+ c=Completed(0)",
		},
		{name: "deadline ahead", pod: newPod("p", limit(100)), obs: see(runs("c", time.Minute)), mem: old, next: 40 * time.Second, status: "Running c=Running+"},
		{name: "deadline reached", pod: newPod("p", limit(30)), obs: see(runs("c", time.Minute)), mem: old, want: "kill c-id 30s", status: "Running c=Running+"},
		{
			name: "deadline, all stopped", pod: newPod("p", limit(30)), obs: see(exited("c", 137, time.Second)),
			mem: mounted(func(m *memory) { m.outcome = &outcome{reason: "DeadlineExceeded"} }), want: "release", status: "Failed c=Error(137)",
		},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestDecideInit(t *testing.T) {
	never := policy(corev1.RestartPolicyNever)
	failed := mounted(func(m *memory) { m.status = &corev1.PodStatus{Phase: corev1.PodFailed} })
	for _, tt := range []decideCase{
		{name: "the first", pod: newPod("p", inits("a", "b")), obs: see(), mem: mounted(), want: "start a#0", status: "Pending a=PodInitializing b=PodInitializing c=PodInitializing"},
		{name: "runs", pod: newPod("p", inits("a", "b")), obs: see(runs("a", time.Second)), mem: mounted(), status: "Pending a=Running b=PodInitializing c=PodInitializing"},
		{name: "the second", pod: newPod("p", inits("a", "b")), obs: see(exited("a", 0, time.Second)), mem: mounted(), want: "start b#0"},
		{
			name: "then the app", pod: newPod("p", inits("a", "b")), obs: see(exited("b", 0, time.Second), exited("a", 0, time.Minute)), mem: mounted(),
			want: "start c#0", status: "Pending a=Completed(0)+ b=Completed(0)+ c=PodInitializing",
		},
		{name: "failed, again", pod: newPod("p", inits("a")), obs: see(exited("a", 1, time.Second)), mem: mounted(), want: "start a#1", status: "Pending a=Error(1) c=PodInitializing"},
		{name: "failed for good", pod: newPod("p", inits("a"), never), obs: see(exited("a", 1, time.Second)), mem: mounted(), status: "Failed a=Error(1) c=PodInitializing"},
		{
			name: "failed for good, looked at again", pod: newPod("p", inits("a", "b", "d"), never), mem: failed, want: "release",
			obs: see(exited("a", 0, time.Minute), exited("b", 1, time.Second)), status: "Failed a=Completed(0)+ b=Error(1) d=PodInitializing c=PodInitializing",
		},
		{name: "a sidecar starts and the next follows", pod: newPod("p", inits("~s", "b")), obs: see(runs("s", time.Second)), mem: mounted(), want: "start b#0"},
		{
			name: "a sidecar with a startup probe holds up", mem: mounted(), obs: see(runs("s", time.Second)), want: "probe Startup s-id",
			pod: newPod("p", inits("~s"), func(p *corev1.Pod) { p.Spec.InitContainers[0].StartupProbe = &corev1.Probe{} }),
		},
		{
			name: "a sidecar restarts while the app runs", pod: newPod("p", inits("~s")), mem: mounted(), want: "start s#1",
			obs: see(exited("s", 1, time.Second), runs("c", time.Minute)), status: "Running s=Error(1) c=Running+",
		},
		{
			name: "init containers are not run again for a restarting app", pod: newPod("p", inits("a")), mem: mounted(), want: "start c#1",
			obs: see(exited("c", 1, time.Second)),
		},
		{
			name: "one that ended well does not wait", pod: newPod("p", inits("a")), obs: see(runs("c", time.Minute), exited("a", 0, time.Second)),
			mem: mounted(record("a", startRecord{backoff: 10 * time.Second, bumped: ago(time.Second)})), status: "Running a=Completed(0)+ c=Running+",
		},
		{
			name: "all again in a new sandbox", pod: newPod("p", inits("a")), mem: mounted(), want: "start a#1",
			obs: &observed{
				sandboxes: []cri.Sandbox{sb(1, true), sb(0, false)}, ips: []string{"10.0.0.9"},
				containers: []container{exited("c", 137, time.Minute), exited("a", 0, time.Hour)},
			},
		},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestDecideSandbox(t *testing.T) {
	lost := func(cs ...container) *observed {
		return &observed{sandboxes: []cri.Sandbox{sb(0, false)}, containers: cs}
	}
	for _, tt := range []decideCase{
		{name: "after a reboot", pod: newPod("p"), obs: lost(exited("c", 255, time.Minute)), mem: mounted(), want: "sandbox 1", status: "Running c=Error(255)"},
		{
			name: "a finished pod gets none", pod: newPod("p", policy(corev1.RestartPolicyOnFailure)), obs: lost(exited("c", 0, time.Minute)), mem: mounted(),
			status: "Succeeded c=Completed(0)",
		},
		{name: "nor one that never restarts", pod: newPod("p", policy(corev1.RestartPolicyNever)), obs: lost(exited("c", 255, time.Minute)), mem: mounted(), status: "Failed c=Error(255)"},
		{name: "no address", pod: newPod("p"), obs: &observed{sandboxes: []cri.Sandbox{sb(0, true)}}, mem: mounted(), want: "sandbox 1"},
		{
			name: "host network needs none", pod: newPod("p", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
			obs: &observed{sandboxes: []cri.Sandbox{sb(0, true)}}, mem: mounted(), want: "start c#0",
		},
		{
			name: "two ready", pod: newPod("p"), mem: mounted(), want: "sandbox 2",
			obs: &observed{sandboxes: []cri.Sandbox{sb(1, true), sb(0, true)}, ips: []string{"10.0.0.9"}},
		},
		{
			name: "the old one goes when nothing in it is kept", pod: newPod("p"), mem: mounted(), want: "collect sb0",
			obs: &observed{
				sandboxes: []cri.Sandbox{sb(1, true), sb(0, false)}, ips: []string{"10.0.0.9"},
				containers: []container{inSandbox(runs("c", time.Minute), "sb1")},
			},
		},
		{
			name: "failed before", pod: newPod("p"), obs: &observed{}, next: 2 * time.Second,
			mem: mounted(func(m *memory) { m.sandbox = step{retryAt: t0.Add(2 * time.Second), fails: 2} }),
		},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestDecideDelete(t *testing.T) {
	sidecars := inits("~s1", "~s2")
	done := mounted(func(m *memory) { m.cleaned.done = true })
	for _, tt := range []decideCase{
		{name: "stop", pod: newPod("p", beingDeleted(7)), obs: see(runs("c", time.Minute)), mem: mounted(), want: "kill c-id 7s", status: "Running c=Running+"},
		{name: "forced", pod: newPod("p", beingDeleted(0)), obs: see(runs("c", time.Minute)), mem: mounted(), want: "kill c-id 1s"},
		{
			name: "within what is left", pod: newPod("p", beingDeleted(30)), obs: see(runs("c", time.Minute)), want: "kill c-id 10s",
			mem: mounted(func(m *memory) { m.terminating = ago(20 * time.Second) }),
		},
		{
			name: "a kill in flight is left alone", pod: newPod("p", beingDeleted(30)), obs: see(runs("c", time.Minute)),
			mem: mounted(inFlight(action{kind: actKill, id: "c-id", grace: 30 * time.Second})),
		},
		{
			name: "sidecars after the apps", pod: newPod("p", beingDeleted(30), sidecars), mem: mounted(), want: "kill c-id 30s",
			obs: see(runs("c", time.Minute), runs("s2", time.Minute), runs("s1", time.Minute)),
		},
		{
			name: "last sidecar first", pod: newPod("p", beingDeleted(30), sidecars), mem: mounted(), want: "kill s2-id 30s",
			obs: see(exited("c", 0, time.Second), runs("s2", time.Minute), runs("s1", time.Minute)),
		},
		{name: "clean up", pod: newPod("p", beingDeleted(30)), obs: see(exited("c", 0, time.Second)), mem: mounted(), want: "clean up", status: "Succeeded c=Completed(0)"},
		{name: "never started", pod: newPod("p", beingDeleted(30)), obs: &observed{}, mem: mounted(), want: "clean up", status: "Failed c=ContainerStatusUnknown(137)"},
		{
			name: "never initialized", pod: newPod("p", beingDeleted(30), inits("a", "b")), obs: &observed{}, mem: mounted(), want: "clean up",
			status: "Failed a=ContainerStatusUnknown(137) b=PodInitializing c=PodInitializing",
		},
		{
			name: "initialized", pod: newPod("p", beingDeleted(30), inits("a")), obs: see(exited("a", 0, time.Minute)), mem: mounted(), want: "clean up",
			status: "Failed a=Completed(0)+ c=ContainerStatusUnknown(137)",
		},
		{name: "gone", pod: newPod("p", beingDeleted(30)), obs: &observed{}, mem: done, isGone: true},
		{name: "vanished from the store", pod: newPod("p"), gone: true, obs: see(runs("c", time.Minute)), mem: mounted(), want: "kill c-id 30s"},
		{
			name: "only in the runtime", gone: true, obs: see(func() container { c := runs("c", time.Minute); c.grace = 4 * time.Second; return c }()), mem: mounted(),
			want: "kill c-id 4s",
		},
		{name: "only in the runtime, stopped", gone: true, obs: see(exited("c", 0, time.Second)), mem: mounted(), want: "clean up"},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestDecideDeleteCancels(t *testing.T) {
	mem := mounted(inFlight(action{kind: actStart, container: "c"}))
	d := decide(input{pod: newPod("p", beingDeleted(30)), obs: see(), mem: mem, now: t0})
	if diff := cmp.Diff([]string{opStart}, d.cancel); diff != "" {
		t.Error("a pull goes on for a deleted pod", diff)
	}
	if len(d.actions) != 0 {
		t.Errorf("%q while the start may still make a container", text(d.actions))
	}
	// A second deletion with a shorter grace overtakes the first.
	mem = mounted(inFlight(action{kind: actKill, id: "c-id", grace: 30 * time.Second}))
	d = decide(input{pod: newPod("p", beingDeleted(0)), obs: see(runs("c", time.Minute)), mem: mem, now: t0})
	if diff := cmp.Diff([]string{"kill/c-id"}, d.cancel); diff != "" {
		t.Error(diff)
	}
}

func TestDecideProbes(t *testing.T) {
	with := func(f func(c *corev1.Container)) *corev1.Pod {
		p := newPod("p")
		f(&p.Spec.Containers[0])
		return p
	}
	every5 := &corev1.Probe{PeriodSeconds: 5, InitialDelaySeconds: 3}
	lastRun := func(k probeKind, at time.Duration) func(*memory) {
		return func(m *memory) { m.probes[probeKey{"c-id", k}] = &probeRecord{last: ago(at)} }
	}
	for _, tt := range []decideCase{
		{
			name: "not before the delay", pod: with(func(c *corev1.Container) { c.ReadinessProbe = every5 }),
			obs: see(runs("c", time.Second)), mem: mounted(), next: 2 * time.Second, status: "Running c=Running",
		},
		{
			name: "due", pod: with(func(c *corev1.Container) { c.ReadinessProbe = every5 }),
			obs: see(runs("c", 3*time.Second)), mem: mounted(), want: "probe Readiness c-id", status: "Running c=Running",
		},
		{
			name: "again a period later", pod: with(func(c *corev1.Container) { c.ReadinessProbe = every5 }),
			obs: see(runs("c", time.Minute)), mem: mounted(lastRun(probeReadiness, time.Second)), next: 4 * time.Second,
		},
		{
			name: "ready", pod: with(func(c *corev1.Container) { c.ReadinessProbe = every5 }),
			obs: see(runs("c", time.Minute)), mem: mounted(verdict("c-id", probeReadiness, true)), next: 5 * time.Second, status: "Running c=Running+",
		},
		{
			name: "startup first", pod: with(func(c *corev1.Container) { c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = every5, every5, every5 }),
			obs: see(runs("c", time.Minute)), mem: mounted(), want: "probe Startup c-id", status: "Running c=Running",
		},
		{
			name: "then the others", pod: with(func(c *corev1.Container) { c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = every5, every5, every5 }),
			obs: see(runs("c", time.Minute)), mem: mounted(verdict("c-id", probeStartup, true)), want: "probe Liveness c-id, probe Readiness c-id",
		},
		{
			name: "liveness failed", pod: with(func(c *corev1.Container) {
				c.LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: new(int64(9))}
			}),
			obs: see(runs("c", time.Minute)), mem: mounted(verdict("c-id", probeLiveness, false)), want: "kill c-id 9s", status: "Running c=Running+",
		},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestProbeThresholds(t *testing.T) {
	spec := &corev1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	r := &probeRecord{}
	for i, tt := range []struct {
		res            probe.Result
		passed, failed bool
	}{
		{probe.Success, false, false},
		{probe.Success, true, false},
		{probe.Failure, true, false},
		{probe.Failure, true, false},
		{probe.Unknown, true, false},
		{probe.Failure, false, true},
		{probe.Success, false, true},
		{probe.Success, true, false},
	} {
		r.count(tt.res, spec)
		if r.passed != tt.passed || r.failed != tt.failed {
			t.Errorf("step %d: passed %v failed %v, want %v %v", i, r.passed, r.failed, tt.passed, tt.failed)
		}
	}
}

func TestConditions(t *testing.T) {
	get := func(s *corev1.PodStatus, c corev1.PodConditionType) string {
		x := findCondition(s.Conditions, c)
		return string(x.Status) + " " + x.Reason
	}
	pod := newPod("p", inits("a"), func(p *corev1.Pod) {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "gate"}}
		p.Status.Conditions = []corev1.PodCondition{{Type: "gate", Status: corev1.ConditionFalse}}
	})
	mem := mounted()
	s := decide(input{pod: pod, obs: see(), mem: mem, now: t0}).status
	for c, want := range map[corev1.PodConditionType]string{
		corev1.PodReadyToStartContainers: "True ", corev1.PodInitialized: "False ContainersNotInitialized",
		corev1.PodReady: "False ContainersNotReady", corev1.ContainersReady: "False ContainersNotReady", corev1.PodScheduled: "True ",
	} {
		if got := get(s, c); got != want {
			t.Errorf("%s is %q, want %q", c, got, want)
		}
	}
	mem.status = s
	later := t0.Add(time.Minute)
	s = decide(input{pod: pod, obs: see(runs("c", time.Second), exited("a", 0, time.Minute)), mem: mem, now: later}).status
	for c, want := range map[corev1.PodConditionType]string{
		corev1.PodInitialized: "True ", corev1.PodReady: "False ReadinessGatesNotReady", corev1.ContainersReady: "True ", "gate": "False ",
	} {
		if got := get(s, c); got != want {
			t.Errorf("%s is %q, want %q", c, got, want)
		}
	}
	if at := findCondition(s.Conditions, corev1.PodReady).LastTransitionTime; !at.Time.Equal(t0) {
		t.Errorf("Ready stayed false but its transition time moved to %v", at)
	}
	if at := findCondition(s.Conditions, corev1.ContainersReady).LastTransitionTime; !at.Time.Equal(later) {
		t.Errorf("ContainersReady changed at %v, want %v", at, later)
	}
}
