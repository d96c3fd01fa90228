package staticpods

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// fieldError says which field breaks which rule.
func fieldError(field, format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{field}, args...)...)
}

func checkName(field, name string) error {
	if name == "" {
		return fieldError(field, "is missing")
	}
	if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
		return fieldError(field, "%q: %s", name, strings.Join(msgs, "; "))
	}
	return nil
}

// check refuses what the API server would have, as far as running it here depends
// on it, and what only the API could give.
func check(pod *corev1.Pod) error {
	if err := checkName("metadata.name", pod.Name); err != nil {
		return err
	}
	if msgs := validation.IsDNS1123Label(pod.Namespace); len(msgs) > 0 {
		return fieldError("metadata.namespace", "%q: %s", pod.Namespace, strings.Join(msgs, "; "))
	}
	s := &pod.Spec
	const noAPI = "a static pod can't use what only the API has"
	switch {
	case len(s.Containers) == 0:
		return fieldError("spec.containers", "is missing")
	case len(s.EphemeralContainers) > 0:
		return fieldError("spec.ephemeralContainers", "come by the API only")
	case s.ServiceAccountName != "" || s.DeprecatedServiceAccount != "":
		return fieldError("spec.serviceAccountName", noAPI)
	case len(s.ImagePullSecrets) > 0:
		return fieldError("spec.imagePullSecrets", noAPI)
	case len(s.ResourceClaims) > 0:
		return fieldError("spec.resourceClaims", noAPI)
	case s.RestartPolicy != "" && !slices.Contains([]corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}, s.RestartPolicy):
		return fieldError("spec.restartPolicy", "%q is not Always, OnFailure or Never", s.RestartPolicy)
	}
	if err := checkUsers(s); err != nil {
		return err
	}
	volumes, err := checkVolumes(s.Volumes)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for field, list := range map[string][]corev1.Container{"spec.initContainers": s.InitContainers, "spec.containers": s.Containers} {
		for i := range list {
			c := &list[i]
			at := fmt.Sprintf("%s[%d]", field, i)
			if names[c.Name] {
				return fieldError(at+".name", "%q is there twice", c.Name)
			}
			names[c.Name] = true
			if err := checkContainer(at, c, volumes); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkUsers refuses users of a pod's own beside the machine's namespaces, in which
// they may do next to nothing.
func checkUsers(s *corev1.PodSpec) error {
	const forbidden = "is forbidden when `hostUsers` is false"
	switch {
	case s.HostUsers == nil || *s.HostUsers:
		return nil
	case s.HostNetwork:
		return fieldError("spec.hostNetwork", forbidden)
	case s.HostPID:
		return fieldError("spec.hostPID", forbidden)
	case s.HostIPC:
		return fieldError("spec.hostIPC", forbidden)
	default:
		return nil
	}
}

func checkVolumes(list []corev1.Volume) (map[string]bool, error) {
	names := map[string]bool{}
	for i := range list {
		v := &list[i]
		at := fmt.Sprintf("spec.volumes[%d]", i)
		if msgs := validation.IsDNS1123Label(v.Name); len(msgs) > 0 {
			return nil, fieldError(at+".name", "%q: %s", v.Name, strings.Join(msgs, "; "))
		}
		if names[v.Name] {
			return nil, fieldError(at+".name", "%q is there twice", v.Name)
		}
		names[v.Name] = true
		ok := v.EmptyDir != nil || v.HostPath != nil || v.DownwardAPI != nil || v.Projected != nil
		if v.Projected != nil {
			for _, src := range v.Projected.Sources {
				ok = ok && src.DownwardAPI != nil
			}
		}
		if !ok {
			return nil, fieldError(at, "a static pod has emptyDir, hostPath, downwardAPI, and projected volumes of that; others come by the API only")
		}
	}
	return names, nil
}

func checkContainer(at string, c *corev1.Container, volumes map[string]bool) error {
	if msgs := validation.IsDNS1123Label(c.Name); len(msgs) > 0 {
		return fieldError(at+".name", "%q: %s", c.Name, strings.Join(msgs, "; "))
	}
	if c.Image == "" {
		return fieldError(at+".image", "is missing")
	}
	if len(c.EnvFrom) > 0 {
		return fieldError(at+".envFrom", "a static pod can't use what only the API has")
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && (from.ConfigMapKeyRef != nil || from.SecretKeyRef != nil) {
			return fieldError(fmt.Sprintf("%s.env[%d].valueFrom", at, i), "a static pod can't use what only the API has")
		}
	}
	for i := range c.VolumeMounts {
		if m := &c.VolumeMounts[i]; !volumes[m.Name] {
			return fieldError(fmt.Sprintf("%s.volumeMounts[%d].name", at, i), "there is no volume %q", m.Name)
		}
	}
	return nil
}
