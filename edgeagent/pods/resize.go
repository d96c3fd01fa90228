package pods

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// Events and reasons of resizes are the kubelet's.
const (
	eventResizeStarted    = "ResizeStarted"
	eventResizeCompleted  = "ResizeCompleted"
	eventResizeDeferred   = "ResizeDeferred"
	eventResizeInfeasible = "ResizeInfeasible"
	eventResizeError      = "ResizeError"
	// resizeRetry is the pause after a resize that the runtime or the kernel refused.
	resizeRetry = 10 * time.Second
)

// amounts are the resources that can change while a container runs: thousandths of
// a CPU and bytes. Zero means none.
type amounts struct {
	CPURequest    int64 `json:"cpuRequest,omitempty"`
	CPULimit      int64 `json:"cpuLimit,omitempty"`
	MemoryRequest int64 `json:"memoryRequest,omitempty"`
	MemoryLimit   int64 `json:"memoryLimit,omitempty"`
}

// amountsOf are those of a container; one without a limit of its own has the pod's.
func amountsOf(pod *corev1.Pod, c *corev1.Container) amounts {
	limits := containerLimits(pod, c)
	return amounts{
		CPURequest: c.Resources.Requests.Cpu().MilliValue(), CPULimit: limits.Cpu().MilliValue(),
		MemoryRequest: c.Resources.Requests.Memory().Value(), MemoryLimit: limits.Memory().Value(),
	}
}

// groupAmounts are those of the pod's control group.
func groupAmounts(pod *corev1.Pod) amounts {
	req, lim := demand.Requests(pod), demand.Limits(pod)
	a := amounts{CPURequest: req.Cpu().MilliValue()}
	if demand.Limited(pod, corev1.ResourceCPU) {
		a.CPULimit = lim.Cpu().MilliValue()
	}
	if demand.Limited(pod, corev1.ResourceMemory) {
		a.MemoryLimit = lim.Memory().Value()
	}
	return a
}

// String is how an annotation of the container keeps them.
func (a amounts) String() string {
	return fmt.Sprintf("%d,%d,%d,%d", a.CPURequest, a.CPULimit, a.MemoryRequest, a.MemoryLimit)
}

// parseAmounts reads what String wrote.
func parseAmounts(s string) (a amounts, ok bool) {
	parts := strings.Split(s, ",")
	to := []*int64{&a.CPURequest, &a.CPULimit, &a.MemoryRequest, &a.MemoryLimit}
	if len(parts) != len(to) {
		return amounts{}, false
	}
	for i, p := range parts {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			return amounts{}, false
		}
		*to[i] = n
	}
	return a, true
}

// actuated is what a running container has.
func (m *memory) actuated(pod *corev1.Pod, c *corev1.Container, have *container) amounts {
	if m.given != nil {
		if a, ok := m.given.Changed[have.id]; ok {
			return a
		}
	}
	if have.sized {
		return have.size
	}
	return amountsOf(pod, c)
}

// differs says whether a running container has other resources than it was given,
// and whether its policy is to restart for that.
func (m *memory) differs(pod *corev1.Pod, c *corev1.Container, have *container) (differs, restart bool) {
	if have == nil || have.state != cri.StateRunning || m.given == nil {
		return false, false
	}
	is, want := m.actuated(pod, c, have), amountsOf(pod, c)
	cpu := is.CPURequest != want.CPURequest || is.CPULimit != want.CPULimit
	mem := is.MemoryRequest != want.MemoryRequest || is.MemoryLimit != want.MemoryLimit
	for _, p := range c.ResizePolicy {
		restart = restart || p.RestartPolicy == corev1.RestartContainer &&
			(p.ResourceName == corev1.ResourceCPU && cpu || p.ResourceName == corev1.ResourceMemory && mem)
	}
	return cpu || mem, restart
}

// eachResizable calls f for the containers whose resources may change.
func eachResizable(pod *corev1.Pod, f func(*corev1.Container)) {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; sidecar(c) {
			f(c)
		}
	}
	for i := range pod.Spec.Containers {
		f(&pod.Spec.Containers[i])
	}
}

// resizing says whether something has not yet the resources that it was given.
func resizing(pod *corev1.Pod, obs *observed, m *memory) bool {
	if m.given == nil {
		return false
	}
	open := m.given.Group != nil
	eachResizable(pod, func(c *corev1.Container) {
		differs, _ := m.differs(pod, c, obs.active(c.Name))
		open = open || differs
	})
	return open
}

// resize changes resources in place. Containers that restart for it do so first:
// the pod's group can't become smaller than what is in it.
func (d *decider) resize() {
	if !resizing(d.pod, d.obs, d.mem) {
		return
	}
	waits := false
	eachResizable(d.pod, func(c *corev1.Container) {
		_, restart := d.mem.differs(d.pod, c, d.obs.active(c.Name))
		waits = waits || restart
	})
	switch {
	case waits:
	case d.now.Before(d.mem.resizeAt):
		d.again(d.mem.resizeAt)
	default:
		d.do(action{kind: actResize})
	}
}

// sizing says that a container which starts now would not fit into the pod's group,
// perhaps, for that is being resized.
func (d *decider) sizing() bool {
	return d.mem.ops[opResize] != nil || d.mem.given != nil && d.mem.given.Group != nil && !d.now.Before(d.mem.resizeAt)
}

// resources are what the API shows of a running container: what it was given, but
// for what it does not have yet.
func (m *memory) resources(pod *corev1.Pod, c *corev1.Container, have *container) *corev1.ResourceRequirements {
	out := c.Resources.DeepCopy()
	if differs, _ := m.differs(pod, c, have); !differs {
		return out
	}
	is, want := m.actuated(pod, c, have), amountsOf(pod, c)
	show := func(list corev1.ResourceList, name corev1.ResourceName, is, want int64) {
		switch {
		case list == nil || is == want:
		case is == 0:
			delete(list, name)
		case name == corev1.ResourceCPU:
			list[name] = *resource.NewMilliQuantity(is, resource.DecimalSI)
		default:
			list[name] = *resource.NewQuantity(is, resource.BinarySI)
		}
	}
	show(out.Requests, corev1.ResourceCPU, is.CPURequest, want.CPURequest)
	show(out.Requests, corev1.ResourceMemory, is.MemoryRequest, want.MemoryRequest)
	show(out.Limits, corev1.ResourceCPU, is.CPULimit, want.CPULimit)
	show(out.Limits, corev1.ResourceMemory, is.MemoryLimit, want.MemoryLimit)
	return out
}

// notice is a condition about a resize.
type notice struct {
	reason, message string
	generation      int64
}

// resizeText is an event's: what was asked for, as the kubelet writes it.
func resizeText(prefix string, pod *corev1.Pod, generation int64, problem string) string {
	type entry struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources"`
	}
	summary := struct {
		InitContainers []entry `json:"initContainers,omitempty"`
		Containers     []entry `json:"containers,omitempty"`
		Generation     int64   `json:"generation"`
		Error          string  `json:"error,omitempty"`
	}{Generation: generation, Error: problem}
	for i := range pod.Spec.InitContainers {
		summary.InitContainers = append(summary.InitContainers, entry{pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Resources})
	}
	for i := range pod.Spec.Containers {
		summary.Containers = append(summary.Containers, entry{pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Resources})
	}
	raw, err := json.Marshal(&summary)
	if err != nil {
		return prefix
	}
	return prefix + ": " + string(raw)
}
