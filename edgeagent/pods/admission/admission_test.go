package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{NodeName: "edge", Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func requests(name corev1.ResourceName, q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		r := &p.Spec.Containers[0].Resources
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		r.Requests[name] = resource.MustParse(q)
	}
}

func critical(p *corev1.Pod) { p.Spec.Priority = new(int32(2000001000)) }

func port(p int32, ip string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Ports = append(pod.Spec.Containers[0].Ports, corev1.ContainerPort{HostPort: p, HostIP: ip})
	}
}

func sysctls(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{}
		for _, n := range names {
			p.Spec.SecurityContext.Sysctls = append(p.Spec.SecurityContext.Sysctls, corev1.Sysctl{Name: n, Value: "1"})
		}
	}
}

func toleration(t corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, t) }
}

func affinity(terms ...corev1.NodeSelectorTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
		}}
	}
}

func expression(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}

func testNode(change ...func(*Node)) *Node {
	n := &Node{
		Name: "edge", Kernel: "6.1.0-12-arm64",
		Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "edge", Labels: map[string]string{"site": "a", "cores": "4"}}},
		Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"), corev1.ResourcePods: resource.MustParse("4"),
		},
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func taints(list ...corev1.Taint) func(*Node) {
	return func(n *Node) { n.Object.Spec.Taints = list }
}

func pressures(list ...corev1.NodeConditionType) func(*Node) {
	return func(n *Node) { n.Pressures = list }
}

func TestCheck(t *testing.T) {
	noExecute := corev1.Taint{Key: "broken", Value: "yes", Effect: corev1.TaintEffectNoExecute}
	const affinityText = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
	const portsText = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
	const taintsText = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
	for _, tt := range []struct {
		name   string
		node   *Node
		others []*corev1.Pod
		pod    *corev1.Pod
		want   *Refusal
	}{
		{name: "plain", pod: pod("p")},
		{name: "cpu fits exactly", others: []*corev1.Pod{pod("a", requests("cpu", "1500m"))}, pod: pod("p", requests("cpu", "500m"))},
		{
			name: "cpu", others: []*corev1.Pod{pod("a", requests("cpu", "1500m"))}, pod: pod("p", requests("cpu", "501m")),
			want: &Refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"},
		},
		{
			name: "memory", pod: pod("p", requests("memory", "2Gi")),
			want: &Refusal{"OutOfmemory", "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"},
		},
		{
			name: "cpu before memory", pod: pod("p", requests("memory", "2Gi"), requests("cpu", "3")),
			want: &Refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 3000, used: 0, capacity: 2000"},
		},
		{
			name: "ephemeral storage", pod: pod("p", requests("ephemeral-storage", "11Gi")),
			want: &Refusal{"OutOfephemeral-storage", "Node didn't have enough resource: ephemeral-storage, requested: 11811160064, used: 0, capacity: 10737418240"},
		},
		{
			name: "pods", others: []*corev1.Pod{pod("a"), pod("b"), pod("c"), pod("d")}, pod: pod("p"),
			want: &Refusal{"OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 4, capacity: 4"},
		},
		{
			name: "huge pages that are not there", pod: pod("p", requests("hugepages-2Mi", "4Mi")),
			want: &Refusal{"OutOfhugepages-2Mi", "Node didn't have enough resource: hugepages-2Mi, requested: 4194304, used: 0, capacity: 0"},
		},
		{name: "an extended resource that the node does not know", pod: pod("p", requests("example.com/gpu", "1"))},
		{
			name: "init containers count beside sidecars before them", pod: pod("p", requests("cpu", "1"), func(p *corev1.Pod) {
				side := corev1.Container{Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}
				side.Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("600m")}
				first := corev1.Container{Name: "i"}
				first.Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1500m")}
				p.Spec.InitContainers = []corev1.Container{side, first}
			}),
			want: &Refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 2100, used: 0, capacity: 2000"},
		},
		{
			name: "overhead", pod: pod("p", requests("cpu", "1900m"), func(p *corev1.Pod) {
				p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("200m")}
			}),
			want: &Refusal{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 2100, used: 0, capacity: 2000"},
		},
		{name: "selector", pod: pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"site": "a"} })},
		{
			name: "selector of another", pod: pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"site": "b"} }),
			want: &Refusal{"NodeAffinity", affinityText},
		},
		{
			name: "selector while nobody knows the node", node: testNode(func(n *Node) { n.Object = nil }),
			pod: pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"site": "b"} }),
		},
		{name: "affinity, one term of two", pod: pod("p", affinity(expression("site", "In", "x"), expression("cores", "Gt", "3")))},
		{name: "affinity, no value", pod: pod("p", affinity(expression("other", "NotIn", "x")))},
		{name: "affinity, below", pod: pod("p", affinity(expression("cores", "Lt", "4"))), want: &Refusal{"NodeAffinity", affinityText}},
		{name: "affinity, empty term", pod: pod("p", affinity(corev1.NodeSelectorTerm{})), want: &Refusal{"NodeAffinity", affinityText}},
		{
			name: "affinity by name", pod: pod("p", affinity(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: "In", Values: []string{"edge"}}}})),
		},
		{
			name: "node name", pod: pod("p", func(p *corev1.Pod) { p.Spec.NodeName = "other" }),
			want: &Refusal{"NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name"},
		},
		{name: "host port", others: []*corev1.Pod{pod("a", port(80, ""))}, pod: pod("p", port(80, "10.0.0.1")), want: &Refusal{"NodePorts", portsText}},
		{name: "host port on another address", others: []*corev1.Pod{pod("a", port(80, "10.0.0.2"))}, pod: pod("p", port(80, "10.0.0.1"))},
		{name: "taint", node: testNode(taints(noExecute)), pod: pod("p"), want: &Refusal{"TaintToleration", taintsText}},
		{name: "taint of another effect", node: testNode(taints(corev1.Taint{Key: "broken", Effect: corev1.TaintEffectNoSchedule})), pod: pod("p")},
		{name: "tolerated taint", node: testNode(taints(noExecute)), pod: pod("p", toleration(corev1.Toleration{Key: "broken", Value: "yes"}))},
		{name: "toleration of all", node: testNode(taints(noExecute)), pod: pod("p", toleration(corev1.Toleration{Operator: corev1.TolerationOpExists}))},
		{
			name: "a static pod and a taint", node: testNode(taints(noExecute)),
			pod: pod("p", func(p *corev1.Pod) { p.Annotations = map[string]string{"kubernetes.io/config.source": "file"} }),
		},
		{name: "safe sysctls", pod: pod("p", sysctls("kernel.shm_rmid_forced", "net/ipv4/tcp_rmem"))},
		{name: "unsafe sysctl", pod: pod("p", sysctls("kernel.msgmax")), want: &Refusal{"SysctlForbidden", `forbidden sysctl: "kernel.msgmax" not allowlisted`}},
		{
			name: "safe sysctl of a younger kernel", node: testNode(func(n *Node) { n.Kernel = "4.14.336-x" }), pod: pod("p", sysctls("net.ipv4.tcp_rmem")),
			want: &Refusal{"SysctlForbidden", `forbidden sysctl: "net.ipv4.tcp_rmem" not allowlisted`},
		},
		{name: "allowed sysctls", node: testNode(func(n *Node) { n.UnsafeSysctls = []string{"kernel.msg*", "net.core.somaxconn"} }), pod: pod("p", sysctls("kernel.msgmax", "net.core.somaxconn"))},
		{
			name: "sysctl of the node's namespace", pod: pod("p", sysctls("net.ipv4.tcp_syncookies"), func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
			want: &Refusal{"SysctlForbidden", `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		},
		{
			name: "another system", pod: pod("p", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }),
			want: &Refusal{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"},
		},
		{
			name: "strict groups", pod: pod("p", func(p *corev1.Pod) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroupsPolicy: new(corev1.SupplementalGroupsPolicyStrict)}
			}),
			want: &Refusal{"SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"},
		},
		{
			name: "AppArmor", node: testNode(func(n *Node) { n.NoAppArmor = true }), pod: pod("p", func(p *corev1.Pod) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost}}
			}),
			want: &Refusal{"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"},
		},
		{
			name: "best effort and too little memory", node: testNode(pressures(corev1.NodeMemoryPressure)), pod: pod("p"),
			want: &Refusal{"Evicted", "The node had condition: [MemoryPressure]. "},
		},
		{name: "burstable and too little memory", node: testNode(pressures(corev1.NodeMemoryPressure)), pod: pod("p", requests("cpu", "1"))},
		{
			name: "a tolerant pod and too little memory", node: testNode(pressures(corev1.NodeMemoryPressure)),
			pod: pod("p", toleration(corev1.Toleration{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists})),
		},
		{
			name: "too little disk", node: testNode(pressures(corev1.NodeDiskPressure)), pod: pod("p", requests("cpu", "1")),
			want: &Refusal{"Evicted", "The node had condition: [DiskPressure]. "},
		},
		{name: "a critical pod and too little disk", node: testNode(pressures(corev1.NodeDiskPressure)), pod: pod("p", critical)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := tt.node
			if node == nil {
				node = testNode()
			}
			if diff := cmp.Diff(Verdict{Refused: tt.want}, Check(node, tt.others, tt.pod)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPreempt(t *testing.T) {
	guaranteed := func(q string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			all := corev1.ResourceList{"cpu": resource.MustParse("1m"), "memory": resource.MustParse(q)}
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: all, Limits: all}
		}
	}
	for _, tt := range []struct {
		name   string
		others []*corev1.Pod
		pod    *corev1.Pod
		want   Verdict
	}{
		{
			name:   "the one that is enough, and the smallest of these",
			others: []*corev1.Pod{pod("small", requests("memory", "100Mi")), pod("enough", requests("memory", "300Mi")), pod("big", requests("memory", "600Mi"))},
			pod:    pod("p", critical, requests("memory", "300Mi")),
			want:   Verdict{Preempt: []types.UID{"enough"}},
		},
		{
			name:   "burstable before guaranteed",
			others: []*corev1.Pod{pod("g", guaranteed("500Mi")), pod("b", requests("memory", "500Mi"))},
			pod:    pod("p", critical, requests("memory", "400Mi")),
			want:   Verdict{Preempt: []types.UID{"b"}},
		},
		{
			name:   "a place among the pods",
			others: []*corev1.Pod{pod("a"), pod("b", requests("cpu", "1")), pod("c", critical), pod("d", critical)},
			pod:    pod("p", critical),
			want:   Verdict{Preempt: []types.UID{"a"}},
		},
		{
			name:   "not other critical ones",
			others: []*corev1.Pod{pod("a", critical, requests("memory", "1Gi"))},
			pod:    pod("p", critical, requests("memory", "1Mi")),
			want: Verdict{Refused: &Refusal{
				"UnexpectedAdmissionError",
				"Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: memory, q: 1048576), ]",
			}},
		},
		{
			name:   "not for what would not run anyway",
			others: []*corev1.Pod{pod("a", port(80, ""), requests("memory", "1Gi"))},
			pod:    pod("p", critical, port(80, ""), requests("memory", "1Mi")),
			want:   Verdict{Refused: &Refusal{"NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Check(testNode(), tt.others, tt.pod)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNormalSysctl(t *testing.T) {
	for in, want := range map[string]string{
		"kernel.shm_rmid_forced":          "kernel.shm_rmid_forced",
		"kernel/shm_rmid_forced":          "kernel.shm_rmid_forced",
		"net/ipv4/conf/eth0.100/disabled": "net.ipv4.conf.eth0/100.disabled",
		"net.ipv4.conf.eth0/100.disabled": "net.ipv4.conf.eth0/100.disabled",
	} {
		if got := NormalSysctl(in); got != want {
			t.Errorf("NormalSysctl(%q) = %q, want %q", in, got, want)
		}
	}
	for pattern, want := range map[string]bool{"net.*": true, "kernel.msg*": true, "vm.swappiness": false, "kernel.sem": true} {
		if Namespaced(pattern) != want {
			t.Errorf("Namespaced(%q) is not %v", pattern, want)
		}
	}
}
