package pods

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/downward"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// volumeMount is what container c mounts by the i-th of its volumeMounts.
func (e *env) volumeMount(ctx context.Context, pod *corev1.Pod, c *corev1.Container, i int, vars []cri.EnvVar) (cri.Mount, error) {
	m := &c.VolumeMounts[i]
	v := volumeNamed(pod, m.Name)
	if v == nil {
		return cri.Mount{}, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
	}
	sub, err := subPath(m, vars)
	if err != nil {
		return cri.Mount{}, err
	}
	if v.Image != nil {
		return imageMount(m, v.Image, sub)
	}
	host := e.volumes.Path(pod, v)
	if sub != "" {
		if host, err = e.volumes.SubPath(pod, v, c.Name, i, sub); err != nil {
			return cri.Mount{}, err
		}
	}
	inside := m.MountPath
	if !filepath.IsAbs(inside) {
		inside = "/" + inside
	}
	// What follows API objects is written by the agent only.
	out := cri.Mount{ContainerPath: inside, HostPath: host, ReadOnly: m.ReadOnly || volumes.Follows(v)}
	can := func() bool { return e.canRecursiveReadOnly(ctx, pod) }
	if out.RecursiveReadOnly, err = recursiveReadOnly(m, can); err != nil {
		return cri.Mount{}, fmt.Errorf("failed to resolve recursive read-only mode: %w", err)
	}
	out.Propagation, err = propagation(m.MountPropagation)
	return out, err
}

// canRecursiveReadOnly says whether the pod's runtime makes all that lies below a
// mount read-only.
func (e *env) canRecursiveReadOnly(ctx context.Context, pod *corev1.Pod) bool {
	handler, err := e.handler(pod)
	if err != nil {
		return false
	}
	can, err := e.Features(ctx, handler)
	return err == nil && can.RecursiveReadOnly // what comes next fails by itself, and says why
}

func volumeNamed(pod *corev1.Pod, name string) *corev1.Volume {
	i := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return &pod.Spec.Volumes[i]
}

// subPath is the path in the volume that a mount shows; empty for the whole.
func subPath(m *corev1.VolumeMount, vars []cri.EnvVar) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		lookup := variables(vars)
		var missing []string
		sub = downward.Expand(m.SubPathExpr, func(name string) (string, bool) {
			v, _ := lookup(name)
			if v == "" && !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
			return v, true
		})
		if len(missing) > 0 {
			slices.Sort(missing)
			return "", fmt.Errorf("missing value for %s", strings.Join(missing, ", "))
		}
	}
	if sub == "" {
		return "", nil
	}
	return sub, volumes.CheckSubPath(sub)
}

// recursiveReadOnly says whether what is mounted below a mount is to be read-only,
// too. The words are the kubelet's.
func recursiveReadOnly(m *corev1.VolumeMount, supported func() bool) (bool, error) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	if !m.ReadOnly {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not read-only", m.Name)
	}
	if p := m.MountPropagation; p != nil && *p != corev1.MountPropagationNone {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not compatible with propagation %q", m.Name, *p)
	}
	switch mode := *m.RecursiveReadOnly; mode {
	case corev1.RecursiveReadOnlyIfPossible:
		return supported(), nil
	case corev1.RecursiveReadOnlyEnabled:
		if !supported() {
			return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", m.Name)
		}
		return true, nil
	default:
		return false, fmt.Errorf("unknown recursive read-only mode %q", mode)
	}
}

func propagation(mode *corev1.MountPropagationMode) (cri.Propagation, error) {
	switch {
	case mode == nil || *mode == corev1.MountPropagationNone:
		return cri.PropagationPrivate, nil
	case *mode == corev1.MountPropagationHostToContainer:
		return cri.PropagationHostToContainer, nil
	case *mode == corev1.MountPropagationBidirectional:
		return cri.PropagationBidirectional, nil
	default:
		return cri.PropagationPrivate, fmt.Errorf("invalid MountPropagation mode: %q", *mode)
	}
}
