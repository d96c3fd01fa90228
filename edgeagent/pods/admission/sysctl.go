package admission

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The kernel's namespaces that sysctls are in.
const (
	namespaceIPC  = "IPC"
	namespaceNet  = "Net"
	namespaceUser = "User"
	namespaceUTS  = "UTS"
)

// safeSysctls concern nobody but the pod, since a version of the kernel; zero is
// older than any that runs containers.
func safeSysctls() map[string][2]int {
	return map[string][2]int{
		"kernel.shm_rmid_forced":              {},
		"net.ipv4.ip_local_port_range":        {},
		"net.ipv4.tcp_syncookies":             {},
		"net.ipv4.ping_group_range":           {},
		"net.ipv4.ip_unprivileged_port_start": {},
		"net.ipv4.ip_local_reserved_ports":    {3, 16},
		"net.ipv4.tcp_keepalive_time":         {4, 5},
		"net.ipv4.tcp_keepalive_intvl":        {4, 5},
		"net.ipv4.tcp_keepalive_probes":       {4, 5},
		"net.ipv4.tcp_fin_timeout":            {4, 6},
		"net.ipv4.tcp_notsent_lowat":          {4, 6},
		"net.ipv4.tcp_rmem":                   {4, 15},
		"net.ipv4.tcp_wmem":                   {4, 15},
		"net.ipv4.tcp_slow_start_after_idle":  {4, 15},
	}
}

// forbiddenSysctl lets through what is safe on this kernel or allowed by name or
// prefix, if the pod has the namespace that it is in for itself.
func forbiddenSysctl(node *Node, pod *corev1.Pod) *Refusal {
	sc := pod.Spec.SecurityContext
	if sc == nil || len(sc.Sysctls) == 0 {
		return nil
	}
	safe := safeSysctls()
	for _, s := range sc.Sysctls {
		name := NormalSysctl(s.Name)
		since, ok := safe[name]
		if ok {
			ok = AtLeast(node.Kernel, since)
		}
		for _, pattern := range node.UnsafeSysctls {
			prefix, isPrefix := strings.CutSuffix(NormalSysctl(pattern), "*")
			ok = ok || isPrefix && strings.HasPrefix(name, prefix) || !isPrefix && name == prefix
		}
		if !ok {
			return &Refusal{reasonSysctl, fmt.Sprintf("forbidden sysctl: %q not allowlisted", name)}
		}
		ns := sysctlNamespace(name)
		hostUsers := pod.Spec.HostUsers == nil || *pod.Spec.HostUsers
		if ns == namespaceIPC && pod.Spec.HostIPC || ns == namespaceNet && pod.Spec.HostNetwork || ns == namespaceUser && hostUsers {
			return &Refusal{reasonSysctl, fmt.Sprintf("forbidden sysctl: %q not allowed with host %s enabled", name, ns)}
		}
	}
	return nil
}

// NormalSysctl writes a sysctl with dots, whichever way it was written: the first
// separator tells. A dot in a name between slashes is a slash between dots.
func NormalSysctl(name string) string {
	first := strings.IndexAny(name, "./")
	if first < 0 || name[first] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		default:
			return r
		}
	}, name)
}

// Namespaced says whether the kernel keeps a sysctl, or those of a pattern, per
// namespace, so that it may be allowed at all.
func Namespaced(pattern string) bool {
	return sysctlNamespace(strings.TrimSuffix(NormalSysctl(pattern), "*")) != ""
}

func sysctlNamespace(name string) string {
	switch name {
	case "kernel.domainname":
		return namespaceUTS
	case "kernel.sem", "kernel.shm", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
		"kernel.msg", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni":
		return namespaceIPC
	}
	for prefix, ns := range map[string]string{"net.": namespaceNet, "fs.mqueue.": namespaceIPC, "user.": namespaceUser} {
		if strings.HasPrefix(name, prefix) {
			return ns
		}
	}
	return ""
}

// AtLeast compares the version of a kernel, such as 6.1.0-12-arm64, with major and minor
// number; one that can't be read is old.
func AtLeast(kernel string, want [2]int) bool {
	if want == [2]int{} {
		return true
	}
	major, rest, _ := strings.Cut(kernel, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(rest[:end])
	return errA == nil && errB == nil && (a > want[0] || a == want[0] && b >= want[1])
}
