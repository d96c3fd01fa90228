package pods

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// maskedPaths and readOnlyPaths are what procMount Default hides, the same for
// all runtimes.
func maskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readOnlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// security is the security context of a container: its own settings before the
// pod's.
func (e *env) security(pod *corev1.Pod, c *corev1.Container, image *cri.Image) (cri.Security, error) {
	out := cri.Security{
		Namespaces:         namespaces(pod),
		SupplementalGroups: supplementalGroups(pod),
		MaskedPaths:        maskedPaths(),
		ReadOnlyPaths:      readOnlyPaths(),
	}
	var profile *corev1.SeccompProfile
	var apparmor *corev1.AppArmorProfile
	var selinux *corev1.SELinuxOptions
	var nonRoot *bool
	if sc := pod.Spec.SecurityContext; sc != nil {
		out.RunAsUser, out.RunAsGroup, nonRoot = sc.RunAsUser, sc.RunAsGroup, sc.RunAsNonRoot
		profile, apparmor, selinux = sc.SeccompProfile, sc.AppArmorProfile, sc.SELinuxOptions
		out.StrictSupplementalGroups = sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict
	}
	if sc := c.SecurityContext; sc != nil {
		override(&out.RunAsUser, sc.RunAsUser)
		override(&out.RunAsGroup, sc.RunAsGroup)
		override(&nonRoot, sc.RunAsNonRoot)
		override(&profile, sc.SeccompProfile)
		override(&apparmor, sc.AppArmorProfile)
		override(&selinux, sc.SELinuxOptions)
		out.Privileged = sc.Privileged != nil && *sc.Privileged
		out.ReadOnlyRootfs = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
		out.NoNewPrivs = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
		if sc.Capabilities != nil {
			out.AddCapabilities = capabilities(sc.Capabilities.Add)
			out.DropCapabilities = capabilities(sc.Capabilities.Drop)
		}
		if sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount {
			out.MaskedPaths, out.ReadOnlyPaths = nil, nil
		}
	}
	if out.Privileged {
		out.MaskedPaths, out.ReadOnlyPaths = nil, nil
	}
	if selinux != nil {
		out.SELinuxUser, out.SELinuxRole, out.SELinuxType, out.SELinuxLevel = selinux.User, selinux.Role, selinux.Type, selinux.Level
	}
	out.AppArmor = appArmor(apparmor)
	var err error
	if out.Seccomp, err = e.seccomp(profile, out.Privileged); err != nil {
		return out, err
	}
	if nonRoot != nil && *nonRoot {
		return out, verifyNonRoot(out.RunAsUser, image)
	}
	return out, nil
}

func override[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

func capabilities(in []corev1.Capability) []string {
	out := make([]string, 0, len(in))
	for _, c := range in {
		out = append(out, string(c))
	}
	return out
}

func (e *env) seccomp(p *corev1.SeccompProfile, privileged bool) (*cri.Profile, error) {
	if p == nil || privileged {
		return &cri.Profile{Type: cri.ProfileUnconfined}, nil
	}
	switch p.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return &cri.Profile{Type: cri.ProfileRuntimeDefault}, nil
	case corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil || !filepath.IsLocal(*p.LocalhostProfile) {
			return nil, errors.New("localhostProfile must be a relative path below the seccomp directory")
		}
		return &cri.Profile{Type: cri.ProfileLocalhost, Localhost: filepath.Join(e.SeccompDir, *p.LocalhostProfile)}, nil
	default:
		return &cri.Profile{Type: cri.ProfileUnconfined}, nil
	}
}

func appArmor(p *corev1.AppArmorProfile) *cri.Profile {
	if p == nil {
		return nil
	}
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		return &cri.Profile{Type: cri.ProfileUnconfined}
	case corev1.AppArmorProfileTypeLocalhost:
		out := &cri.Profile{Type: cri.ProfileLocalhost}
		if p.LocalhostProfile != nil {
			out.Localhost = *p.LocalhostProfile
		}
		return out
	default:
		return &cri.Profile{Type: cri.ProfileRuntimeDefault}
	}
}

// verifyNonRoot keeps runAsNonRoot's promise: with no user in the spec, the
// image's user decides, and a user by name cannot be told from root.
func verifyNonRoot(user *int64, image *cri.Image) error {
	switch {
	case user != nil && *user == 0:
		return errors.New("container's runAsUser breaks non-root policy")
	case user != nil:
		return nil
	case image.UID != nil && *image.UID == 0:
		return errors.New("container has runAsNonRoot and image will run as root")
	case image.UID != nil:
		return nil
	case image.Username == "":
		return errors.New("container has runAsNonRoot and image will run as root")
	}
	uid, err := strconv.ParseInt(image.Username, 10, 64)
	if err != nil {
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", image.Username)
	}
	if uid == 0 {
		return errors.New("container has runAsNonRoot and image will run as root")
	}
	return nil
}

func supplementalGroups(pod *corev1.Pod) []int64 {
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return nil
	}
	out := append([]int64(nil), sc.SupplementalGroups...)
	if sc.FSGroup != nil {
		out = append(out, *sc.FSGroup)
	}
	return out
}

func anyPrivileged(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
				return true
			}
		}
	}
	return false
}
