package pods

import corev1 "k8s.io/api/core/v1"

// uses says whether a pod reads a ConfigMap or Secret.
func uses(pod *corev1.Pod, kind, name string) bool {
	cm := kind == "configmaps"
	for i := range pod.Spec.Volumes {
		if volumeUses(&pod.Spec.Volumes[i], cm, name) {
			return true
		}
	}
	if !cm {
		for _, ref := range pod.Spec.ImagePullSecrets {
			if ref.Name == name {
				return true
			}
		}
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if containerUses(&list[i], cm, name) {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		if containerUses(&c, cm, name) {
			return true
		}
	}
	return false
}

func volumeUses(v *corev1.Volume, cm bool, name string) bool {
	switch {
	case v.ConfigMap != nil:
		return cm && v.ConfigMap.Name == name
	case v.Secret != nil:
		return !cm && v.Secret.SecretName == name
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if cm && s.ConfigMap != nil && s.ConfigMap.Name == name || !cm && s.Secret != nil && s.Secret.Name == name {
				return true
			}
		}
	}
	return false
}

func containerUses(c *corev1.Container, cm bool, name string) bool {
	for _, f := range c.EnvFrom {
		if cm && f.ConfigMapRef != nil && f.ConfigMapRef.Name == name || !cm && f.SecretRef != nil && f.SecretRef.Name == name {
			return true
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; cm && r != nil && r.Name == name {
			return true
		}
		if r := e.ValueFrom.SecretKeyRef; !cm && r != nil && r.Name == name {
			return true
		}
	}
	return false
}
