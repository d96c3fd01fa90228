package pods

import (
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/admission"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// kernelVersion is such as 6.1.0-12-arm64.
func kernelVersion() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "" // then only what every kernel has counts
	}
	return strings.TrimSpace(string(b))
}

// hasAppArmor says whether this kernel enforces AppArmor profiles.
func hasAppArmor() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(b), "Y")
}

// canMapVolumes is nil unless the pod has a volume whose files this kernel can't show
// with the pod's own users, by version as mount_setattr(2) lists file systems: a container
// would never start.
func canMapVolumes(kernel string, pod *corev1.Pod) error {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		since := [2]int{}
		switch {
		case v.EmptyDir != nil && strings.HasPrefix(string(v.EmptyDir.Medium), string(corev1.StorageMediumHugePages)):
			since = [2]int{6, 9} // hugetlbfs
		case volumes.InMemory(v):
			since = [2]int{6, 3} // tmpfs
		}
		if !admission.AtLeast(kernel, since) {
			return fmt.Errorf("can't set `spec.hostUsers: false`, volume %q is in memory, and this kernel (%s) can't map the users of files there: Linux %d.%d can", v.Name, kernel, since[0], since[1])
		}
	}
	return nil
}
