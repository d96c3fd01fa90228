package report

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// roleEdge is the label that kubectl shows as the role of an edge's Node, and a usual
// key of taints that keep from edges what is not meant for them.
const roleEdge = "node-role.kubernetes.io/edge"

// maxTaints is how many taints a Node is made with: the scheduler looks at each of them
// for each pod.
const maxTaints = 64

// labels are those that Kubernetes wants, ours, and the operator's. It gives back
// those of the operator's that may not be.
func labels(s *Session) (all map[string]string, bad []string) {
	all = make(map[string]string)
	for _, text := range s.Hello.Labels {
		key, value, ok := strings.Cut(text, "=")
		if !ok || !MayLabel(key) || len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			bad = append(bad, text)
			continue
		}
		all[key] = value
	}
	for key, value := range map[string]string{
		corev1.LabelOSStable:   s.Hello.OS,
		corev1.LabelArchStable: s.Hello.Arch,
		corev1.LabelHostname:   s.Node,
		roleEdge:               "",
		LabelEdge:              "true",
	} {
		// The name of a Node may be longer than a label's value. A Node without one
		// label is better than none.
		if len(validation.IsValidLabelValue(value)) == 0 {
			all[key] = value
		}
	}
	return all, bad
}

// taints are those that the operator wants on a new Node. It gives back those that
// may not be: one that the API refuses would keep the Node from being made.
func taints(s *Session) (all []corev1.Taint, bad []string) {
	for _, t := range s.Hello.Taints {
		taint := corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)}
		if len(all) == maxTaints || !MayTaint(t.Key) || len(validation.IsQualifiedName(t.Key)) > 0 || len(validation.IsValidLabelValue(t.Value)) > 0 ||
			!isEffect(taint.Effect) || slices.ContainsFunc(all, func(o corev1.Taint) bool { return o.MatchTaint(&taint) }) {
			bad = append(bad, taint.ToString())
			continue
		}
		all = append(all, taint)
	}
	return all, bad
}

func isEffect(e corev1.TaintEffect) bool {
	return e == corev1.TaintEffectNoSchedule || e == corev1.TaintEffectPreferNoSchedule || e == corev1.TaintEffectNoExecute
}

// MayLabel says whether an edge may give its Node a label with this key: of
// Kubernetes' own, and ours, only those that say where a machine stands and what it is.
func MayLabel(key string) bool {
	switch key {
	case corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelInstanceTypeStable:
		return true
	}
	return !reserved(key)
}

// MayTaint says whether an edge may give its Node a taint with this key when it is made:
// those of Kubernetes are set and taken away by controllers.
func MayTaint(key string) bool { return key == roleEdge || !reserved(key) }

// reserved keeps edges from giving themselves roles and states.
func reserved(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return false
	}
	return slices.ContainsFunc([]string{"kubernetes.io", "k8s.io", "skerry.io"}, func(d string) bool {
		return domain == d || strings.HasSuffix(domain, "."+d)
	})
}

// refused lists the labels and taints that an edge wants and may not have.
func refused(s *Session) []string {
	_, badLabels := labels(s)
	_, badTaints := taints(s)
	return slices.Concat(badLabels, badTaints)
}
