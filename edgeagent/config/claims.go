package config

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ParseTaint reads a taint as kubectl and a kubelet's --register-with-taints write it:
// KEY=VALUE:EFFECT, or KEY:EFFECT. EFFECT is NoSchedule, PreferNoSchedule or NoExecute.
func ParseTaint(text string) (corev1.Taint, error) {
	name, effect, ok := strings.Cut(text, ":")
	if !ok {
		return corev1.Taint{}, fmt.Errorf("%q is not of the form KEY=VALUE:EFFECT or KEY:EFFECT", text)
	}
	t := corev1.Taint{Effect: corev1.TaintEffect(effect)}
	t.Key, t.Value, _ = strings.Cut(name, "=")
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	if !slices.Contains(effects, t.Effect) {
		return corev1.Taint{}, fmt.Errorf("%q: effect %q is none of NoSchedule, PreferNoSchedule, NoExecute", text, effect)
	}
	if msgs := validation.IsQualifiedName(t.Key); len(msgs) > 0 {
		return corev1.Taint{}, fmt.Errorf("%q: key %q: %s", text, t.Key, strings.Join(msgs, "; "))
	}
	if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
		return corev1.Taint{}, fmt.Errorf("%q: value %q: %s", text, t.Value, strings.Join(msgs, "; "))
	}
	return t, nil
}

// NodeTaints gives Taints as Kubernetes has them. The error is an *Error.
func (c *Config) NodeTaints() ([]corev1.Taint, error) {
	var all []corev1.Taint
	for _, text := range c.Taints {
		t, err := ParseTaint(text)
		if err != nil {
			return nil, &Error{"taints", err.Error()}
		}
		if slices.ContainsFunc(all, func(o corev1.Taint) bool { return o.MatchTaint(&t) }) {
			return nil, &Error{"taints", fmt.Sprintf("%q: there is another of this key and effect", text)}
		}
		all = append(all, t)
	}
	return all, nil
}

// validateClaims checks what an edge says about its Node.
func (c *Config) validateClaims() error {
	for k, v := range c.Labels {
		if msgs := validation.IsQualifiedName(k); len(msgs) > 0 {
			return &Error{"labels", fmt.Sprintf("key %q: %s", k, strings.Join(msgs, "; "))}
		}
		if msgs := validation.IsValidLabelValue(v); len(msgs) > 0 {
			return &Error{"labels", fmt.Sprintf("value of %q: %s", k, strings.Join(msgs, "; "))}
		}
	}
	_, err := c.NodeTaints()
	return err
}
