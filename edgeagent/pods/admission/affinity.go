package admission

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// matchesNode says whether the pod's node selector and required node affinity
// allow this node. Terms are alternatives; an empty one matches nothing.
func matchesNode(node *corev1.Node, pod *corev1.Pod) bool {
	for k, v := range pod.Spec.NodeSelector {
		if have, ok := node.Labels[k]; !ok || have != v {
			return false
		}
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	return slices.ContainsFunc(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
			return false
		}
		return all(t.MatchExpressions, node.Labels) && all(t.MatchFields, map[string]string{"metadata.name": node.Name})
	})
}

func all(requirements []corev1.NodeSelectorRequirement, values map[string]string) bool {
	return !slices.ContainsFunc(requirements, func(r corev1.NodeSelectorRequirement) bool { return !matches(&r, values) })
}

func matches(r *corev1.NodeSelectorRequirement, values map[string]string) bool {
	have, ok := values[r.Key]
	switch r.Operator {
	case corev1.NodeSelectorOpIn:
		return ok && slices.Contains(r.Values, have)
	case corev1.NodeSelectorOpNotIn:
		return !ok || !slices.Contains(r.Values, have)
	case corev1.NodeSelectorOpExists:
		return ok
	case corev1.NodeSelectorOpDoesNotExist:
		return !ok
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if !ok || len(r.Values) != 1 {
			return false
		}
		is, err := strconv.ParseInt(have, 10, 64)
		bound, bad := strconv.ParseInt(r.Values[0], 10, 64)
		if err != nil || bad != nil {
			return false
		}
		return r.Operator == corev1.NodeSelectorOpGt && is > bound || r.Operator == corev1.NodeSelectorOpLt && is < bound
	default:
		return false
	}
}

// tolerated says whether one of the tolerations is for the taint.
func tolerated(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			return false
		}
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			return t.Value == taint.Value
		case corev1.TolerationOpExists:
			return true
		case corev1.TolerationOpLt, corev1.TolerationOpGt:
			bound, err := strconv.ParseInt(t.Value, 10, 64)
			is, bad := strconv.ParseInt(taint.Value, 10, 64)
			if err != nil || bad != nil {
				return false
			}
			return t.Operator == corev1.TolerationOpLt && is < bound || t.Operator == corev1.TolerationOpGt && is > bound
		default:
			return false
		}
	})
}
