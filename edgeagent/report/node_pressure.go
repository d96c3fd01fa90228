package report

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ConditionStoreFull is the type of the Node's condition that says that the edge's
// store has no room: it takes no new desired state, and events are lost.
const ConditionStoreFull corev1.NodeConditionType = "StoreFull"

// pressures gives the conditions that say whether the node runs short. Somebody
// else judges that: who also ends pods for it.
func (n *nodeReporter) pressures() []corev1.NodeCondition {
	var under []corev1.NodeConditionType
	if n.cfg.Pressures != nil {
		under = n.cfg.Pressures()
	}
	is := func(t corev1.NodeConditionType) bool { return slices.Contains(under, t) }
	return []corev1.NodeCondition{
		condition(corev1.NodeMemoryPressure, is(corev1.NodeMemoryPressure), "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "edge has too little memory available", "edge has sufficient memory available"),
		condition(corev1.NodeDiskPressure, is(corev1.NodeDiskPressure), "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "edge has disk pressure", "edge has no disk pressure"),
		condition(corev1.NodePIDPressure, is(corev1.NodePIDPressure), "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "edge has too few PIDs available", "edge has sufficient PIDs available"),
	}
}

func condition(t corev1.NodeConditionType, is bool, reason, reasonNot, message, messageNot string) corev1.NodeCondition {
	if is {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: reason, Message: message}
	}
	return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: reasonNot, Message: messageNot}
}

func storeFull(full bool, since time.Time) corev1.NodeCondition {
	message := "edge's store has no room on its disk: changes to its pods wait and events are lost"
	if !since.IsZero() {
		message += ", since " + since.UTC().Format(time.RFC3339)
	}
	return condition(ConditionStoreFull, full, "DiskFull", "DiskHasRoom", message, "edge's store has room")
}

func ready(runtimeErr error) corev1.NodeCondition {
	if runtimeErr != nil {
		return corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady",
			Message: "container runtime is not ready: " + runtimeErr.Error(),
		}
	}
	return corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "edgeagent is posting ready status",
	}
}
