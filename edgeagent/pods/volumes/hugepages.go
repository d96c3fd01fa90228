package volumes

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// hugePagesFS is the file system of an emptyDir of huge pages. Its medium names their
// size ("HugePages-2Mi"), or leaves it to the only one that the pod has ("HugePages").
func hugePagesFS(pod *corev1.Pod, src *corev1.EmptyDirVolumeSource) (MemoryFS, error) {
	medium := string(src.Medium)
	if !strings.HasPrefix(medium, string(corev1.StorageMediumHugePages)) {
		return MemoryFS{}, fmt.Errorf("medium %q of emptyDir is not supported on this node", medium)
	}
	var sizes []int64
	for name, q := range demand.Limits(pod) {
		text, huge := strings.CutPrefix(string(name), corev1.ResourceHugePagesPrefix)
		if size, err := resource.ParseQuantity(text); huge && err == nil && size.Value() > 0 && !q.IsZero() {
			sizes = append(sizes, size.Value())
		}
	}
	wanted, named := strings.CutPrefix(medium, string(corev1.StorageMediumHugePagesPrefix))
	if !named {
		if len(sizes) != 1 {
			return MemoryFS{}, fmt.Errorf("medium %q of emptyDir: the containers have limits of %d sizes of huge pages, want one; name it, such as HugePages-2Mi", medium, len(sizes))
		}
		return ofPages(sizes[0], src.SizeLimit), nil
	}
	size, err := resource.ParseQuantity(wanted)
	if err != nil {
		return MemoryFS{}, fmt.Errorf("medium %q of emptyDir: size of pages: %w", medium, err)
	}
	if !slices.Contains(sizes, size.Value()) {
		return MemoryFS{}, fmt.Errorf("medium %q of emptyDir: no container has a limit of %s%s", medium, corev1.ResourceHugePagesPrefix, wanted)
	}
	return ofPages(size.Value(), src.SizeLimit), nil
}

// ofPages bounds the file system by the volume's limit, which is one page at least, since
// the kernel cuts less to nothing. How many pages the pod may have is a matter of its
// control group.
func ofPages(size int64, limit *resource.Quantity) MemoryFS {
	out := MemoryFS{PageSize: size}
	if limit != nil && limit.Sign() > 0 {
		out.Size = max(limit.Value(), size)
	}
	return out
}
