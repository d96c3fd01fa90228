package pods

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

func TestSignalNumber(t *testing.T) {
	for name, want := range map[string]syscall.Signal{
		"SIGTERM": 15, "SIGUSR1": 10, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "SIGRTMAX-1": 63, "SIGRTMAX": 64, "SIGCLD": 17, "SIGPOLL": 29,
		"SIGRTMIN-1": 0, "SIGRTMAX+1": 0, "SIGNOTHING": 0, "": 0,
	} {
		if got := signalNumber(name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// A runtime that takes no notice of stop signals is helped, where its containers'
// processes are this machine's.
func TestStopSignal(t *testing.T) {
	for _, tt := range []struct {
		name, known string
		pid         int
		helped      bool
	}{
		{"known to the runtime", "SIGUSR1", noProcess, false},
		{"not known", "", noProcess, true},
		{"a process of somebody else", "", os.Getpid(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b := &bubble{rt: newFakeRuntime(), objects: newObjects(), rec: newRecorder()}
				p := newPod("p", func(p *corev1.Pod) {
					p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: new(corev1.SIGUSR1)}
				})
				b.objects.put(p)
				b.rt.deaf["c"] = true
				b.rt.stopSignal, b.rt.pid = tt.known, tt.pid
				var sent []string
				b.run(t, dir, func() {
					b.m.env.signal = func(pid int, sig syscall.Signal) error {
						sent = append(sent, fmt.Sprintf("%d to %d", sig, pid))
						b.rt.mu.Lock()
						id := b.rt.containers[0].ID
						b.rt.mu.Unlock()
						time.AfterFunc(time.Second, func() { b.rt.exit(id, 0) })
						return nil
					}
					pass(time.Second)
					b.m.End("uid-p", End{Reason: "Evicted"})
					pass(3 * time.Second)
				})
				want := ""
				if tt.helped {
					want = fmt.Sprintf("10 to %d", noProcess)
				}
				if got := strings.Join(sent, " "); got != want {
					t.Errorf("sent %q, want %q", got, want)
				}
				if log := b.rt.log(); tt.helped == strings.Contains(log, "stop c 30s") {
					t.Errorf("the runtime did\n%s", log)
				}
			})
		})
	}
}

func TestMayRestart(t *testing.T) {
	rule := func(a corev1.ContainerRestartRuleAction) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: a, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
	}
	for _, tt := range []struct {
		pod  corev1.RestartPolicy
		c    corev1.Container
		want bool
	}{
		{corev1.RestartPolicyAlways, corev1.Container{}, true},
		{corev1.RestartPolicyNever, corev1.Container{}, false},
		{corev1.RestartPolicyNever, corev1.Container{RestartPolicy: new(corev1.ContainerRestartPolicyOnFailure)}, true},
		{corev1.RestartPolicyAlways, corev1.Container{RestartPolicy: new(corev1.ContainerRestartPolicyNever)}, false},
		{corev1.RestartPolicyNever, corev1.Container{RestartPolicy: new(corev1.ContainerRestartPolicyNever), RestartPolicyRules: rule(corev1.ContainerRestartRuleActionRestart)}, true},
	} {
		if got := mayRestart(newPod("p", policy(tt.pod)), &tt.c); got != tt.want {
			t.Errorf("%s, %v with %d rules: %v", tt.pod, tt.c.RestartPolicy, len(tt.c.RestartPolicyRules), got)
		}
	}
}

// A container whose own policy restarts it comes back in a new sandbox, whatever
// the pod's policy.
func TestLostSandboxOfContainerThatRestarts(t *testing.T) {
	pod := newPod("p", policy(corev1.RestartPolicyNever), func(p *corev1.Pod) {
		p.Spec.Containers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	})
	d := decide(input{pod: pod, obs: &observed{sandboxes: []cri.Sandbox{sb(0, false)}, containers: []container{exited("c", 137, time.Minute)}}, mem: mounted(), now: t0})
	if got := text(d.actions); got != "sandbox 1" {
		t.Errorf("actions %q", got)
	}
}
