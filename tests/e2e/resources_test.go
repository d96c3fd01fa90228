package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/tests/lab"
)

// quotas prints the limits of the container's own group: CPU, then memory.
const quotas = `if [ -e /sys/fs/cgroup/cpu.max ]; then cd /sys/fs/cgroup; cat cpu.max memory.max; ` +
	`else cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi`

// limits are the resources of a container, requests and limits alike.
func limits(cpu, memory string) corev1.ResourceRequirements {
	list := corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)}
	return corev1.ResourceRequirements{Requests: list, Limits: list}
}

// place puts a pod onto an edge without the scheduler, which would not send there
// what has no room.
func place(pod *corev1.Pod, e *lab.Edge) *corev1.Pod {
	pod.Spec.NodeSelector, pod.Spec.NodeName = nil, e.Name
	return pod
}

// refused waits until a pod has failed for a reason without ever having run.
func refused(t *testing.T, pod *corev1.Pod, reason, text string) {
	t.Helper()
	create(t, pod)
	waitPod(t, pod.Namespace, pod.Name, func(p *corev1.Pod) error {
		if p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("phase %s", p.Status.Phase)
		}
		if p.Status.Reason != reason || !strings.HasPrefix(p.Status.Message, "Pod was rejected: "+text) {
			return lab.Final(fmt.Errorf("%s: %q, want %s: %q", p.Status.Reason, p.Status.Message, reason, text))
		}
		return nil
	})
	eventually(t, "the event of "+pod.Name, func() error {
		if got := kubectl(t, "-n", pod.Namespace, "get", "events", "--field-selector", "involvedObject.name="+pod.Name, "-o", "jsonpath={.items[*].reason}"); !strings.Contains(got, reason) {
			return fmt.Errorf("events %s", got)
		}
		return nil
	})
}

func TestRefusedPods(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	greedy := place(newPod(ns, "greedy", edge1, shell("main", idle)), edge1)
	greedy.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1000")}
	refused(t, greedy, "OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000000, used: ")

	port := func(name string) *corev1.Pod {
		p := place(newPod(ns, name, edge1, shell("main", idle)), edge1)
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 28080}}
		return p
	}
	runPod(t, port("port"))
	refused(t, port("same-port"), "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports")

	unsafe := newPod(ns, "sysctl", edge1, shell("main", idle))
	unsafe.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.msgmax", Value: "10000"}}}
	refused(t, unsafe, "SysctlForbidden", `forbidden sysctl: "kernel.msgmax" not allowlisted`)
}

func TestResizeInPlace(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	pod := newPod(ns, "sized", edge1, shell("main", idle), shell("again", idle))
	pod.Spec.Containers[0].Resources, pod.Spec.Containers[1].Resources = limits("50m", "32Mi"), limits("50m", "32Mi")
	pod.Spec.Containers[1].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
	before := runPod(t, pod)
	resize := func(cpu, memory string) {
		t.Helper()
		patch := `{"spec":{"containers":[`
		for i, name := range []string{"main", "again"} {
			patch += strings.Repeat(",", i) + fmt.Sprintf(`{"name":%q,"resources":{"requests":{"cpu":%q,"memory":%q},"limits":{"cpu":%q,"memory":%q}}}`, name, cpu, memory, cpu, memory)
		}
		kubectl(t, "-n", ns, "patch", "pod", "sized", "--subresource", "resize", "-p", patch+"]}}")
	}
	settled := func(cpu, memory string, restarts int32) *corev1.Pod {
		t.Helper()
		return waitPod(t, ns, "sized", func(p *corev1.Pod) error {
			if p.Status.ObservedGeneration != p.Generation {
				return fmt.Errorf("generation %d of %d", p.Status.ObservedGeneration, p.Generation)
			}
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
					return fmt.Errorf("%s: %s %s", c.Type, c.Reason, c.Message)
				}
			}
			for _, c := range p.Status.ContainerStatuses {
				if c.Resources == nil || c.Resources.Limits.Cpu().String() != cpu || c.AllocatedResources.Memory().String() != memory {
					return fmt.Errorf("%s has %v of %v", c.Name, c.Resources, c.AllocatedResources)
				}
				if want := map[string]int32{"again": restarts}[c.Name]; c.RestartCount != want {
					return fmt.Errorf("%s was restarted %d times, want %d", c.Name, c.RestartCount, want)
				}
			}
			return running(p)
		})
	}
	resize("100m", "64Mi")
	now := settled("100m", "64Mi", 1)
	if containerID(t, now, "main") != containerID(t, before, "main") {
		t.Error("the container was made anew")
	}
	for _, c := range []string{"main", "again"} {
		got := strings.Fields(kubectl(t, "-n", ns, "exec", "sized", "-c", c, "--", "sh", "-c", quotas))
		if got[0] != "10000" || got[len(got)-1] != "67108864" {
			t.Errorf("limits of %s are %v", c, got)
		}
	}
	// Smaller again, and what is done outlives the agent.
	resize("50m", "32Mi")
	settled("50m", "32Mi", 2)
	// What others hold is waited for.
	holder := newPod(ns, "holder", edge1, shell("main", idle))
	holder.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("100m")}
	runPod(t, holder)
	all := kubectl(t, "get", "node", edge1.Name, "-o", "jsonpath={.status.allocatable.cpu}")
	half := resource.MustParse(all)
	most := resource.NewMilliQuantity(half.MilliValue()/2, resource.DecimalSI).String()
	resize(most, "32Mi")
	waitPod(t, ns, "sized", func(p *corev1.Pod) error {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodResizePending && c.Reason == corev1.PodReasonDeferred && c.ObservedGeneration == p.Generation {
				return nil
			}
		}
		return fmt.Errorf("conditions %v", p.Status.Conditions)
	})
	kubectl(t, "-n", ns, "delete", "pod", "holder", "--wait=false")
	settled(most, "32Mi", 2)
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	pod := newPod(ns, "hungry", edge1, shell("main", "exec tail /dev/zero"))
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	pod.Spec.Containers[0].Resources = limits("100m", "16Mi")
	create(t, pod)
	waitPod(t, ns, "hungry", func(p *corev1.Pod) error {
		if p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("phase %s", p.Status.Phase)
		}
		if s := p.Status.ContainerStatuses[0].State.Terminated; s == nil || s.Reason != "OOMKilled" || s.ExitCode != 137 {
			return lab.Final(fmt.Errorf("ended as %+v", s))
		}
		return nil
	})
}

// evicted says whether a pod was ended for the node's sake.
func evicted(text string) func(*corev1.Pod) error {
	return func(p *corev1.Pod) error {
		if p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("phase %s", p.Status.Phase)
		}
		if p.Status.Reason != "Evicted" || !strings.HasPrefix(p.Status.Message, text) {
			return lab.Final(fmt.Errorf("%s: %q", p.Status.Reason, p.Status.Message))
		}
		return nil
	}
}

func TestEmptyDirOverItsLimit(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	size := resource.MustParse("1Mi")
	pod := newPod(ns, "full", edge1, shell("main", "head -c 4000000 /dev/zero >/data/file; "+idle))
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	create(t, pod)
	waitPod(t, ns, "full", evicted(`Usage of EmptyDir volume "data" exceeds the limit "1Mi". `))
}

// A node whose threshold is more than there is ends its pods one after another, and
// lets no others in.
func TestEviction(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	ns := newNamespace(t)
	runPod(t, newPod(ns, "victim", e, shell("main", idle)))
	// A percentage of a large machine is more than all of the lab uses.
	raw, err := os.ReadFile("/proc/meminfo")
	must(t, err)
	var total uint64
	_, err = fmt.Sscanf(string(raw), "MemTotal: %d kB", &total)
	must(t, err)
	reconfigure(t, e, map[string]string{
		"evictionHard": fmt.Sprintf("{memory.available: %dKi}", total-64<<10), "evictionPressureTransitionPeriod": "10s",
	})
	p := waitPod(t, ns, "victim", evicted("The node was low on resource: memory. Threshold quantity: "))
	disrupted := false
	for _, c := range p.Status.Conditions {
		disrupted = disrupted || c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonTerminationByKubelet
	}
	if !disrupted {
		t.Errorf("conditions %v", p.Status.Conditions)
	}
	eventually(t, "the node's condition", func() error {
		got := kubectl(t, "get", "node", e.Name, "-o", `jsonpath={.status.conditions[?(@.type=="MemoryPressure")].status}`)
		if got != "True" {
			return fmt.Errorf("MemoryPressure is %q", got)
		}
		return nil
	})
	refused(t, place(newPod(ns, "next", e, shell("main", idle)), e), "Evicted", "The node had condition: [MemoryPressure]. ")
}
