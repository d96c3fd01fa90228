package pods

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/downward"
)

// environment resolves the variables of a container, in the kubelet's order:
// services first, then envFrom, then env, later ones replacing earlier ones.
func (e *env) environment(pod *corev1.Pod, c *corev1.Container, facts downward.Facts) ([]cri.EnvVar, error) {
	services, err := e.serviceVars(pod)
	if err != nil {
		return nil, err
	}
	vars := map[string]string{}
	for i := range c.EnvFrom {
		part, err := e.envFrom(pod, &c.EnvFrom[i])
		if err != nil {
			return nil, err
		}
		maps.Copy(vars, part)
	}
	// References see the variables defined so far, and those of services last.
	lookup := func(name string) (string, bool) {
		if v, ok := vars[name]; ok {
			return v, true
		}
		v, ok := services[name]
		return v, ok
	}
	for i := range c.Env {
		v := &c.Env[i]
		value := v.Value
		if v.ValueFrom != nil {
			var present bool
			value, present, err = e.valueFrom(pod, c, v.ValueFrom, facts)
			if err != nil {
				return nil, err
			}
			if !present {
				continue
			}
		} else {
			value = downward.Expand(value, lookup)
		}
		vars[v.Name] = value
	}
	for name, v := range services {
		if _, ok := vars[name]; !ok {
			vars[name] = v
		}
	}
	out := make([]cri.EnvVar, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, cri.EnvVar{Name: name, Value: vars[name]})
	}
	return out, nil
}

func (e *env) envFrom(pod *corev1.Pod, src *corev1.EnvFromSource) (map[string]string, error) {
	out := map[string]string{}
	switch {
	case src.ConfigMapRef != nil:
		cm, err := e.Objects.ConfigMap(pod.Namespace, src.ConfigMapRef.Name)
		if absent, err := missing("configmap", src.ConfigMapRef.Name, src.ConfigMapRef.Optional, err); absent || err != nil {
			return nil, err
		}
		for k, v := range cm.Data {
			out[src.Prefix+k] = v
		}
	case src.SecretRef != nil:
		s, err := e.Objects.Secret(pod.Namespace, src.SecretRef.Name)
		if absent, err := missing("secret", src.SecretRef.Name, src.SecretRef.Optional, err); absent || err != nil {
			return nil, err
		}
		for k, v := range s.Data {
			out[src.Prefix+k] = string(v)
		}
	}
	for k := range out {
		// The API checks the prefix only; a key may hold what no variable may.
		if strings.ContainsAny(k, "=\x00") {
			delete(out, k)
		}
	}
	return out, nil
}

// missing turns a lookup error into the kubelet's text, or into "absent" where
// the reference is optional.
func missing(kind, name string, optional *bool, err error) (bool, error) {
	switch {
	case errors.Is(err, ErrNotFound) && optional != nil && *optional:
		return true, nil
	case errors.Is(err, ErrNotFound):
		return true, fmt.Errorf("%s %q not found", kind, name)
	case err != nil:
		return true, fmt.Errorf("%s %q: %w", kind, name, err)
	default:
		return false, nil
	}
}

// valueFrom resolves one variable; present is false for an optional reference
// to nothing.
func (e *env) valueFrom(pod *corev1.Pod, c *corev1.Container, src *corev1.EnvVarSource, facts downward.Facts) (value string, present bool, err error) {
	switch {
	case src.FieldRef != nil:
		value, err = downward.Field(pod, facts, src.FieldRef.FieldPath)
		return value, true, err
	case src.ResourceFieldRef != nil:
		value, err = downward.Resource(pod, facts, c.Name, src.ResourceFieldRef)
		return value, true, err
	case src.ConfigMapKeyRef != nil:
		ref := src.ConfigMapKeyRef
		cm, err := e.Objects.ConfigMap(pod.Namespace, ref.Name)
		if absent, err := missing("configmap", ref.Name, ref.Optional, err); absent || err != nil {
			return "", false, err
		}
		if v, ok := cm.Data[ref.Key]; ok {
			return v, true, nil
		}
		return "", false, noKey("ConfigMap", pod.Namespace, ref.Name, ref.Key, ref.Optional)
	case src.SecretKeyRef != nil:
		ref := src.SecretKeyRef
		s, err := e.Objects.Secret(pod.Namespace, ref.Name)
		if absent, err := missing("secret", ref.Name, ref.Optional, err); absent || err != nil {
			return "", false, err
		}
		if v, ok := s.Data[ref.Key]; ok {
			return string(v), true, nil
		}
		return "", false, noKey("Secret", pod.Namespace, ref.Name, ref.Key, ref.Optional)
	case src.FileKeyRef != nil:
		return e.fromFile(pod, src.FileKeyRef)
	default:
		return "", false, errors.New("a source of an environment variable of unknown kind is not supported on this node")
	}
}

func noKey(kind, namespace, name, key string, optional *bool) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, namespace, name)
}

// variables looks a variable up in vars, which are sorted by name.
func variables(vars []cri.EnvVar) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		i, ok := slices.BinarySearchFunc(vars, name, func(v cri.EnvVar, n string) int { return strings.Compare(v.Name, n) })
		if !ok {
			return "", false
		}
		return vars[i].Value, true
	}
}

// expandAll expands $(VAR) in a command or its arguments.
func expandAll(in []string, vars []cri.EnvVar) []string {
	if len(in) == 0 {
		return nil
	}
	lookup := variables(vars)
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = downward.Expand(s, lookup)
	}
	return out
}
