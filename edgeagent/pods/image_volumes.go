package pods

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// lacksImageVolumes says why a runtime can't mount images. CRI has no question for
// it, and an older runtime takes such a mount for one of no path. One that is not
// known here may be able to.
func lacksImageVolumes(v cri.Version) string {
	var first [2]int
	switch v.Name {
	case "containerd":
		first = [2]int{2, 1}
	case "cri-o":
		first = [2]int{1, 31}
	default:
		return ""
	}
	major, minor, ok := release(v.Version)
	if !ok || major > first[0] || major == first[0] && minor >= first[1] {
		return ""
	}
	return fmt.Sprintf("%s %s can't mount images, %d.%d can", v.Name, v.Version, first[0], first[1])
}

// release takes the first two numbers of a version, such as v2.1.0-rc.1 or 1.6.20~ds1.
func release(version string) (major, minor int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(parts[1])
	return major, minor, err == nil
}

// checkImageVolumes says whether the runtime can give the pod its volumes.
func (e *env) checkImageVolumes(pod *corev1.Pod) error {
	if e.noImages == "" {
		return nil
	}
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Image != nil {
			return &volumes.UnsupportedError{Volume: pod.Spec.Volumes[i].Name, Source: "image", Why: e.noImages}
		}
	}
	return nil
}

// ensureMountedImages makes the images that a container mounts present, and returns
// their references by name.
func (e *env) ensureMountedImages(ctx context.Context, s *snapshot, c *corev1.Container, sandbox *cri.SandboxConfig) (map[string]string, *startError) {
	var out map[string]string
	for i := range s.pod.Spec.Volumes {
		v := &s.pod.Spec.Volumes[i]
		if v.Image == nil || !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name }) {
			continue
		}
		_, ref, failed := e.ensureImage(ctx, s, imageWanted{image: v.Image.Reference, policy: v.Image.PullPolicy}, sandbox)
		if failed != nil {
			return nil, failed
		}
		if out == nil {
			out = map[string]string{}
		}
		out[v.Image.Reference] = ref
	}
	return out, nil
}

// imageMount mounts an image, always read-only. Which reference it has is filled in
// when it is there.
func imageMount(m *corev1.VolumeMount, image *corev1.ImageVolumeSource, sub string) (cri.Mount, error) {
	if path.IsAbs(sub) {
		return cri.Mount{}, fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	}
	if slices.Contains(strings.Split(sub, "/"), "..") {
		return cri.Mount{}, fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
	}
	inside := m.MountPath
	if !path.IsAbs(inside) {
		inside = "/" + inside
	}
	return cri.Mount{ContainerPath: inside, UserImage: image.Reference, ImageSubPath: sub, ReadOnly: true}, nil
}
