package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// The resources that a pod was admitted with, or resized to, lie in its directory
// while it is not over: a pod with such a file was admitted, whatever the node is
// like when the next agent starts. It is written without a sync: power loss costs
// at worst that the pod is asked again.
const (
	allocationFile    = "allocation"
	allocationFileTmp = "allocation.tmp"
)

// allocation is what a pod has been given.
type allocation struct {
	// Containers has the resources by name, of all that can be resized.
	Containers map[string]corev1.ResourceRequirements `json:"containers"`
	// Pod has those of the pod as a whole, if it says so.
	Pod *corev1.ResourceRequirements `json:"pod,omitempty"`
	// Changed are the containers, by id, that have other resources by now than they
	// were made with. Nobody changes it: there is always a new one.
	Changed map[string]amounts `json:"changed,omitempty"`
	// Group is set while the pod's control group has not what the pod was given; it
	// then says what it has.
	Group *amounts `json:"group,omitempty"`
}

// allocationOf is what the pod asks for.
func allocationOf(pod *corev1.Pod) *allocation {
	a := &allocation{Containers: map[string]corev1.ResourceRequirements{}, Pod: pod.Spec.Resources}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; sidecar(c) {
			a.Containers[c.Name] = c.Resources
		}
	}
	for i := range pod.Spec.Containers {
		a.Containers[pod.Spec.Containers[i].Name] = pod.Spec.Containers[i].Resources
	}
	return a
}

// view is the pod with the resources that it was given. It is pod itself where
// these are the same.
func (a *allocation) view(pod *corev1.Pod) *corev1.Pod {
	if a.covers(pod) {
		return pod
	}
	out := *pod
	out.Spec.Resources = a.Pod
	out.Spec.InitContainers = a.containers(pod.Spec.InitContainers)
	out.Spec.Containers = a.containers(pod.Spec.Containers)
	return &out
}

func (a *allocation) containers(in []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(in))
	copy(out, in)
	for i := range out {
		if r, ok := a.Containers[out[i].Name]; ok {
			out[i].Resources = r
		}
	}
	return out
}

// covers says whether the pod has all that it asks for.
func (a *allocation) covers(pod *corev1.Pod) bool {
	if !equality.Semantic.DeepEqual(a.Pod, pod.Spec.Resources) {
		return false
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if r, ok := a.Containers[list[i].Name]; ok && !equality.Semantic.DeepEqual(r, list[i].Resources) {
				return false
			}
		}
	}
	return true
}

// with is the allocation after a container has other resources.
func (a *allocation) with(id string, now amounts) *allocation {
	out := *a
	out.Changed = maps.Clone(a.Changed)
	if out.Changed == nil {
		out.Changed = map[string]amounts{}
	}
	out.Changed[id] = now
	return &out
}

// known is the allocation without containers that are gone.
func (a *allocation) known(obs *observed) *allocation {
	out := *a
	out.Changed = maps.Clone(a.Changed)
	maps.DeleteFunc(out.Changed, func(id string, _ amounts) bool { return obs.find(id) == nil })
	return &out
}

func (e *env) saveAllocation(uid types.UID, a *allocation) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode allocation: %w", err)
	}
	dir := e.volumes.PodDir(uid)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("save allocation: %w", err)
	}
	tmp := filepath.Join(dir, allocationFileTmp)
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("save allocation: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, allocationFile)); err != nil {
		return fmt.Errorf("save allocation: %w", err)
	}
	return nil
}

// savedAllocation is nil for a pod that was not admitted, or has ended.
func (e *env) savedAllocation(uid types.UID) *allocation {
	raw, err := os.ReadFile(filepath.Join(e.volumes.PodDir(uid), allocationFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.Log.Warn("allocation of a pod not readable", "pod_uid", uid, "error", err)
		}
		return nil
	}
	a := &allocation{}
	if err := json.Unmarshal(raw, a); err != nil || a.Containers == nil {
		return nil // cut short by power loss
	}
	return a
}

func (e *env) forgetAllocation(uid types.UID) {
	err := os.Remove(filepath.Join(e.volumes.PodDir(uid), allocationFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.Log.Warn("allocation of a pod not removed", "pod_uid", uid, "error", err)
	}
}
