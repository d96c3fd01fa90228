package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/eviction"
	"github.com/skerry-io/skerry/edgeagent/pods/admission"
)

// NodeResources are the settings of what pods may use of the machine. Their names,
// and their defaults where nothing else is said, are the kubelet's.
type NodeResources struct {
	// MaxPods is how many pods the node takes; zero means 110.
	MaxPods int64 `json:"maxPods,omitempty"`
	// PodPidsLimit is how many processes and threads a pod may have; zero or -1 means
	// that only the machine's own limit counts.
	PodPidsLimit int64 `json:"podPidsLimit,omitempty"`
	// SystemReserved and KubeReserved are kept from pods, for the system, and for this
	// agent and the runtime: cpu, memory, ephemeral-storage, pid.
	SystemReserved map[string]string `json:"systemReserved,omitempty"`
	KubeReserved   map[string]string `json:"kubeReserved,omitempty"`
	// EnforceNodeAllocatable says whether the control group of all pods is limited to
	// what is not reserved: pods, the default, or none.
	EnforceNodeAllocatable []string `json:"enforceNodeAllocatable,omitempty"`
	// AllowedUnsafeSysctls are names, and patterns that end in *, of sysctls that pods
	// may set beside the safe ones.
	AllowedUnsafeSysctls []string `json:"allowedUnsafeSysctls,omitempty"`
	// EvictionHard are the amounts or percentages below which pods are ended at once:
	// memory.available, nodefs.available, nodefs.inodesFree, imagefs.available,
	// imagefs.inodesFree, pid.available. None means the defaults; some mean no others.
	// What kubelets know beside them counts for nothing: containerfs.available and
	// containerfs.inodesFree, which kubelets overwrite, and allocatableMemory.available.
	EvictionHard map[string]string `json:"evictionHard,omitempty"`
	// EvictionSoft are those below which pods are ended after a time,
	// EvictionSoftGracePeriod, such as 1m30s.
	EvictionSoft            map[string]string `json:"evictionSoft,omitempty"`
	EvictionSoftGracePeriod map[string]string `json:"evictionSoftGracePeriod,omitempty"`
	// EvictionMinimumReclaim is how much more there must be before pods are safe again.
	EvictionMinimumReclaim map[string]string `json:"evictionMinimumReclaim,omitempty"`
	// EvictionPressureTransitionPeriod is how long a pressure is told after it was last
	// seen; empty means 5m.
	EvictionPressureTransitionPeriod string `json:"evictionPressureTransitionPeriod,omitempty"`
	// EvictionMaxPodGracePeriod is how many seconds a pod has to stop, at most, when a
	// soft threshold ends it.
	EvictionMaxPodGracePeriod int64 `json:"evictionMaxPodGracePeriod,omitempty"`
}

// DefaultMaxPods is the kubelet's.
const DefaultMaxPods = 110

// The values of EnforceNodeAllocatable.
const (
	EnforcePods = "pods"
	EnforceNone = "none"
)

func (r *NodeResources) validateResources() error {
	if r.MaxPods < 0 {
		return &Error{"maxPods", "is less than zero"}
	}
	if r.EvictionMaxPodGracePeriod < 0 {
		return &Error{"evictionMaxPodGracePeriod", "is less than zero"}
	}
	for _, f := range []struct {
		field string
		list  map[string]string
	}{{"systemReserved", r.SystemReserved}, {"kubeReserved", r.KubeReserved}} {
		for _, name := range slices.Sorted(maps.Keys(f.list)) {
			if !slices.Contains([]string{"cpu", "memory", "ephemeral-storage", "pid"}, name) {
				return &Error{f.field, fmt.Sprintf("%q can't be reserved", name)}
			}
			if q, err := resource.ParseQuantity(f.list[name]); err != nil || q.Sign() < 0 {
				return &Error{f.field, fmt.Sprintf("%s: %q is not a quantity", name, f.list[name])}
			}
		}
	}
	for _, e := range r.EnforceNodeAllocatable {
		if e != EnforcePods && e != EnforceNone || len(r.EnforceNodeAllocatable) > 1 {
			return &Error{"enforceNodeAllocatable", fmt.Sprintf("%v is neither [%s] nor [%s]", r.EnforceNodeAllocatable, EnforcePods, EnforceNone)}
		}
	}
	for _, s := range r.AllowedUnsafeSysctls {
		if !admission.Namespaced(s) {
			return &Error{"allowedUnsafeSysctls", fmt.Sprintf("%q is not known to be kept per namespace", s)}
		}
	}
	if _, err := r.Thresholds(); err != nil {
		return &Error{"eviction", err.Error()}
	}
	if _, err := r.PressureTransition(); err != nil {
		return err
	}
	return nil
}

// Thresholds are the thresholds of eviction.
func (r *NodeResources) Thresholds() ([]eviction.Threshold, error) {
	return eviction.Parse(eviction.Settings{
		Hard: signals(r.EvictionHard), Soft: signals(r.EvictionSoft),
		SoftGracePeriod: signals(r.EvictionSoftGracePeriod), MinimumReclaim: signals(r.EvictionMinimumReclaim),
	})
}

// signals leaves out what only kubelets know.
func signals(of map[string]string) map[string]string {
	out := maps.Clone(of)
	maps.DeleteFunc(out, func(name, _ string) bool {
		return strings.HasPrefix(name, "containerfs.") || name == "allocatableMemory.available"
	})
	return out
}

// PressureTransition is zero for the default.
func (r *NodeResources) PressureTransition() (time.Duration, error) {
	if r.EvictionPressureTransitionPeriod == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(r.EvictionPressureTransitionPeriod)
	if err != nil || d < 0 {
		return 0, &Error{"evictionPressureTransitionPeriod", fmt.Sprintf("%q is no time such as 5m", r.EvictionPressureTransitionPeriod)}
	}
	return d, nil
}

// Reserved is what is kept from pods of a resource, for the system and the agent.
func (r *NodeResources) Reserved(name string) (sum resource.Quantity) {
	for _, list := range []map[string]string{r.SystemReserved, r.KubeReserved} {
		if q, err := resource.ParseQuantity(list[name]); err == nil {
			sum.Add(q)
		}
	}
	return sum
}

// Fits says whether something is left for pods of each resource that machine has;
// zero is one that could not be measured.
func (r *NodeResources) Fits(machine corev1.ResourceList) error {
	for _, name := range slices.Sorted(maps.Keys(machine)) {
		all := machine[name]
		if kept := r.Reserved(string(name)); !kept.IsZero() && !all.IsZero() && kept.Cmp(all) >= 0 {
			return &Error{"systemReserved, kubeReserved", fmt.Sprintf("keep %s of %s, the machine has %s: nothing is left for pods", kept.String(), name, all.String())}
		}
	}
	return nil
}

// Enforces says whether the control group of all pods is limited.
func (r *NodeResources) Enforces() bool {
	return !slices.Contains(r.EnforceNodeAllocatable, EnforceNone)
}
