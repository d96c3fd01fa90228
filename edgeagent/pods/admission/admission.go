// Package admission decides whether a pod may run on this node, by the kubelet's
// rules and in its words: pressure of the node, sysctls, operating system,
// resources, node affinity, host ports, taints, AppArmor. It serves edgeagent/pods,
// which asks once in the life of a pod; one that was let in is never asked about
// again.
//
// Check is a pure function. What it is not told, such as the labels of a node that
// no cloud has ever shown, it refuses nobody for.
package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// The reasons of refused pods that are no predicate's name.
const (
	reasonEvicted             = "Evicted"
	reasonSysctl              = "SysctlForbidden"
	reasonOSLabel             = "PodOSSelectorNodeLabelDoesNotMatch"
	reasonOSField             = "PodOSNotSupported"
	reasonSupplementalGroups  = "SupplementalGroupsPolicyNotSupported"
	reasonFeature             = "PodFeatureUnsupported"
	reasonAppArmor            = "AppArmor"
	reasonUnexpected          = "UnexpectedAdmissionError"
	reasonOutOf               = "OutOf"
	operatingSystem           = "linux"
	messageAffinity           = "node(s) didn't match Pod's node affinity/selector"
	messageName               = "node(s) didn't match the requested node name"
	messagePorts              = "node(s) didn't have free ports for the requested pod ports"
	messageTaints             = "node(s) had taints that the pod didn't tolerate"
	messageUnexpectedRecovery = "Unexpected error while attempting to recover from admission failure: "
)

// Node is what a decision depends on beside the pods.
type Node struct {
	// Name is the node's; empty matches any.
	Name string
	// Object has the node's labels and taints as the cloud has them; nil when nobody
	// knows them, and then nobody is refused for them.
	Object *corev1.Node
	// Allocatable is what pods may request. What is not in it has no bound, but for
	// extended resources, which nobody checks on a node that does not know them.
	Allocatable corev1.ResourceList
	// Pressures are those that the node is under.
	Pressures []corev1.NodeConditionType
	// UnsafeSysctls are the patterns that are allowed beside the safe ones.
	UnsafeSysctls []string
	// Kernel is its version, such as 6.1.0-12-arm64, which some sysctls depend on.
	Kernel string
	// NoAppArmor says that this kernel can't enforce profiles.
	NoAppArmor bool
	// StrictGroups says that the runtime knows the policy Strict of supplemental groups.
	StrictGroups bool
}

// Refusal is why a pod may not run here, as its status says.
type Refusal struct{ Reason, Message string }

// Verdict is the decision about a pod.
type Verdict struct {
	// Refused is nil for a pod that may run.
	Refused *Refusal
	// Preempt are the pods that must end first: the pod is critical and needs what
	// they hold.
	Preempt []types.UID
}

// Check decides about a new pod beside those that have been admitted and have not
// ended.
func Check(node *Node, others []*corev1.Pod, pod *corev1.Pod) Verdict {
	for _, check := range []func(*Node, *corev1.Pod) *Refusal{
		underPressure, forbiddenSysctl, wrongSystem, groupsPolicy, unsupported,
	} {
		if r := check(node, pod); r != nil {
			return Verdict{Refused: r}
		}
	}
	short := shortages(node, others, pod)
	misfit := misfits(node, others, pod)
	if len(short) > 0 && demand.Critical(pod) && len(misfit) == 0 {
		victims, err := preempt(pod, others, short)
		if err != nil {
			return Verdict{Refused: &Refusal{reasonUnexpected, messageUnexpectedRecovery + err.Error()}}
		}
		if r := unenforceable(node, pod); r != nil {
			return Verdict{Refused: r}
		}
		return Verdict{Preempt: victims}
	}
	switch {
	case len(short) > 0 && !demand.Critical(pod):
		return Verdict{Refused: short[0].refusal()}
	case len(misfit) > 0:
		return Verdict{Refused: misfit[0]}
	}
	return Verdict{Refused: unenforceable(node, pod)}
}

// Fits says why a pod that runs can't have the resources that it says now; nil if
// it can.
func Fits(node *Node, others []*corev1.Pod, pod *corev1.Pod) *Refusal {
	if short := shortages(node, others, pod); len(short) > 0 {
		return short[0].refusal()
	}
	return nil
}

// underPressure keeps pods away from a node that has too little already.
func underPressure(node *Node, pod *corev1.Pod) *Refusal {
	if len(node.Pressures) == 0 || demand.Critical(pod) {
		return nil
	}
	if len(node.Pressures) == 1 && node.Pressures[0] == corev1.NodeMemoryPressure {
		taint := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		if demand.QOS(pod) != corev1.PodQOSBestEffort || tolerated(pod.Spec.Tolerations, &taint) {
			return nil
		}
	}
	return &Refusal{reasonEvicted, fmt.Sprintf("The node had condition: %v. ", node.Pressures)}
}

func wrongSystem(_ *Node, pod *corev1.Pod) *Refusal {
	// The kubelet looks at the label of the pod here, not at its selector.
	if l, ok := pod.Labels[corev1.LabelOSStable]; ok && l != operatingSystem {
		return &Refusal{reasonOSLabel, "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if pod.Spec.OS != nil && pod.Spec.OS.Name != operatingSystem {
		return &Refusal{reasonOSField, "Failed to admit pod as the OS field doesn't match node OS"}
	}
	return nil
}

func groupsPolicy(node *Node, pod *corev1.Pod) *Refusal {
	sc := pod.Spec.SecurityContext
	if node.StrictGroups || sc == nil || sc.SupplementalGroupsPolicy == nil || *sc.SupplementalGroupsPolicy != corev1.SupplementalGroupsPolicyStrict {
		return nil
	}
	return &Refusal{reasonSupplementalGroups, "SupplementalGroupsPolicy=Strict is not supported in this node"}
}

// unsupported names what the pod needs and no edge can do yet.
func unsupported(_ *Node, pod *corev1.Pod) *Refusal {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, rule := range list[i].RestartPolicyRules {
				if rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers {
					return &Refusal{reasonFeature, "Pod requires node features that are not available: RestartAllContainersOnContainerExits"}
				}
			}
		}
	}
	return nil
}

// misfits are the reasons that no preemption helps against, in the kubelet's order.
func misfits(node *Node, others []*corev1.Pod, pod *corev1.Pod) []*Refusal {
	var out []*Refusal
	predicate := func(name, text string) {
		out = append(out, &Refusal{name, fmt.Sprintf("Predicate %s failed: %s", name, text)})
	}
	if node.Object != nil && !matchesNode(node.Object, pod) {
		predicate("NodeAffinity", messageAffinity)
	}
	if node.Name != "" && pod.Spec.NodeName != "" && pod.Spec.NodeName != node.Name {
		predicate("NodeName", messageName)
	}
	if portsTaken(others, pod) {
		predicate("NodePorts", messagePorts)
	}
	if node.Object != nil && !demand.Static(pod) {
		for i := range node.Object.Spec.Taints {
			t := &node.Object.Spec.Taints[i]
			if t.Effect == corev1.TaintEffectNoExecute && !tolerated(pod.Spec.Tolerations, t) {
				predicate("TaintToleration", messageTaints)
				break
			}
		}
	}
	return out
}

// unenforceable says that the pod asks for a protection that is not there.
func unenforceable(node *Node, pod *corev1.Pod) *Refusal {
	if !node.NoAppArmor || !wantsAppArmor(pod) {
		return nil
	}
	return &Refusal{reasonAppArmor, "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

func wantsAppArmor(pod *corev1.Pod) bool {
	of := func(p *corev1.AppArmorProfile) bool {
		return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if sc := pod.Spec.SecurityContext; sc != nil && of(sc.AppArmorProfile) {
		return true
	}
	for name, profile := range pod.Annotations {
		if strings.HasPrefix(name, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) && profile != corev1.DeprecatedAppArmorBetaProfileNameUnconfined {
			return true
		}
	}
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return c.SecurityContext != nil && of(c.SecurityContext.AppArmorProfile)
	})
}

type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
}

const anyAddress = "0.0.0.0"

func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	each := func(c *corev1.Container) {
		for i := range c.Ports {
			p := &c.Ports[i]
			if p.HostPort <= 0 {
				continue
			}
			h := hostPort{p.HostIP, p.Protocol, p.HostPort}
			if h.ip == "" {
				h.ip = anyAddress
			}
			if h.protocol == "" {
				h.protocol = corev1.ProtocolTCP
			}
			out = append(out, h)
		}
	}
	for i := range pod.Spec.Containers {
		each(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; demand.Sidecar(c) {
			each(c)
		}
	}
	return out
}

// portsTaken says whether another pod has one of the pod's ports of the node.
func portsTaken(others []*corev1.Pod, pod *corev1.Pod) bool {
	want := hostPorts(pod)
	if len(want) == 0 {
		return false
	}
	for _, o := range others {
		for _, have := range hostPorts(o) {
			for _, w := range want {
				if w.port == have.port && w.protocol == have.protocol && (w.ip == have.ip || w.ip == anyAddress || have.ip == anyAddress) {
					return true
				}
			}
		}
	}
	return false
}
