package pods

import (
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// maxHostname is the kernel's limit for a host name, less the final zero.
const maxHostname = 63

// sandboxConfig describes the pod's sandbox. The runtime wants it again with
// each container.
func (e *env) sandboxConfig(pod *corev1.Pod, attempt uint32) (*cri.SandboxConfig, error) {
	handler := ""
	if class := pod.Spec.RuntimeClassName; class != nil && *class != "" {
		var err error
		if handler, err = e.RuntimeHandler(*class); err != nil {
			return nil, fmt.Errorf("runtime class %s: %w", *class, err)
		}
	}
	dns, err := e.dnsConfig(pod)
	if err != nil {
		return nil, err
	}
	cfg := &cri.SandboxConfig{
		Name: pod.Name, Namespace: pod.Namespace, UID: string(pod.UID), Attempt: attempt,
		LogDirectory:   logDirectory(e.LogsDir, pod.Namespace, pod.Name, pod.UID),
		DNS:            dns,
		Labels:         sandboxLabels(pod),
		Annotations:    pod.Annotations,
		RuntimeHandler: handler,
		CgroupParent:   e.cgroupPath(pod),
		Namespaces:     namespaces(pod),
		// What the pause process may do is nobody's choice.
		Seccomp:   &cri.Profile{Type: cri.ProfileRuntimeDefault},
		Resources: podResources(pod),
	}
	if !pod.Spec.HostNetwork {
		name, err := e.hostname(pod)
		if err != nil {
			return nil, err
		}
		cfg.Hostname = name
	}
	for i := range pod.Spec.Containers {
		cfg.Ports = append(cfg.Ports, hostPorts(&pod.Spec.Containers[i])...)
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; sidecar(c) {
			cfg.Ports = append(cfg.Ports, hostPorts(c)...)
		}
	}
	cfg.Privileged = anyPrivileged(pod)
	if sc := pod.Spec.SecurityContext; sc != nil {
		cfg.RunAsUser, cfg.RunAsGroup = sc.RunAsUser, sc.RunAsGroup
		cfg.SupplementalGroups = supplementalGroups(pod)
		if len(sc.Sysctls) > 0 {
			cfg.Sysctls = make(map[string]string, len(sc.Sysctls))
			for _, s := range sc.Sysctls {
				cfg.Sysctls[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
			}
		}
	}
	return cfg, nil
}

// hostname is the pod's name for itself.
func (e *env) hostname(pod *corev1.Pod) (string, error) {
	if o := pod.Spec.HostnameOverride; o != nil && *o != "" {
		return *o, nil
	}
	name := pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && pod.Spec.Subdomain != "" {
		name += "." + e.subdomain(pod)
		if len(name) > maxHostname+1 {
			return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)",
				name, maxHostname+1, len(name))
		}
		return name, nil
	}
	if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	return name, nil
}

// subdomain is the domain of a pod with spec.subdomain; empty without.
func (e *env) subdomain(pod *corev1.Pod) string {
	if pod.Spec.Subdomain == "" || pod.Spec.HostnameOverride != nil {
		return ""
	}
	return fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, e.ClusterDomain)
}

func hostPorts(c *corev1.Container) []cri.PortMapping {
	var out []cri.PortMapping
	for _, p := range c.Ports {
		if p.HostPort == 0 {
			continue
		}
		m := cri.PortMapping{ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIP: p.HostIP}
		switch p.Protocol {
		case corev1.ProtocolUDP:
			m.Protocol = cri.UDP
		case corev1.ProtocolSCTP:
			m.Protocol = cri.SCTP
		default:
			m.Protocol = cri.TCP
		}
		out = append(out, m)
	}
	return out
}

func namespaces(pod *corev1.Pod) cri.Namespaces {
	n := cri.Namespaces{Network: cri.NamespacePod, IPC: cri.NamespacePod, PID: cri.NamespaceContainer}
	if pod.Spec.HostNetwork {
		n.Network = cri.NamespaceNode
	}
	if pod.Spec.HostIPC {
		n.IPC = cri.NamespaceNode
	}
	switch {
	case pod.Spec.HostPID:
		n.PID = cri.NamespaceNode
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		n.PID = cri.NamespacePod
	}
	return n
}

// dnsConfig is what the pod's resolv.conf says.
func (e *env) dnsConfig(pod *corev1.Pod) (*cri.DNSConfig, error) {
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	if len(e.ClusterDNS) == 0 && (policy == corev1.DNSClusterFirst || policy == corev1.DNSClusterFirstWithHostNet) {
		policy = corev1.DNSDefault
	}
	out := &cri.DNSConfig{}
	if policy != corev1.DNSNone {
		host, err := readResolvConf(e.ResolvConf)
		if err != nil {
			return nil, err
		}
		out = host
	}
	if policy == corev1.DNSClusterFirst || policy == corev1.DNSClusterFirstWithHostNet || policy == "" && len(e.ClusterDNS) > 0 {
		out.Servers = slices.Clip(e.ClusterDNS)
		if d := e.ClusterDomain; d != "" {
			out.Searches = append([]string{pod.Namespace + ".svc." + d, "svc." + d, d}, out.Searches...)
		}
		out.Options = []string{"ndots:5"}
	}
	mergeDNS(out, pod.Spec.DNSConfig)
	return out, nil
}

// mergeDNS adds the pod's own settings; an option of the pod replaces the same
// option of the node.
func mergeDNS(out *cri.DNSConfig, own *corev1.PodDNSConfig) {
	if own == nil {
		out.Servers, out.Searches = unique(out.Servers), unique(out.Searches)
		return
	}
	out.Servers = unique(append(out.Servers, own.Nameservers...))
	out.Searches = unique(append(out.Searches, own.Searches...))
	for _, o := range own.Options {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		kept := out.Options[:0:0]
		for _, have := range out.Options {
			if name, _, _ := strings.Cut(have, ":"); name != o.Name {
				kept = append(kept, have)
			}
		}
		out.Options = append(kept, text)
	}
}

func unique(in []string) []string {
	seen := map[string]bool{}
	out := in[:0:0]
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

const (
	resolvConf        = "/etc/resolv.conf"
	resolvedResolv    = "/run/systemd/resolve/resolv.conf"
	resolvedStubAddr  = "127.0.0.53"
	resolvConfMaxSize = 64 << 10
)

// findResolvConf avoids the stub of systemd-resolved, which listens on the
// node's loopback, where no pod can reach it.
func findResolvConf() string {
	b, err := os.ReadFile(resolvConf)
	if err == nil && strings.Contains(string(b), resolvedStubAddr) {
		if _, err := os.Stat(resolvedResolv); err == nil {
			return resolvedResolv
		}
	}
	return resolvConf
}

func readResolvConf(path string) (*cri.DNSConfig, error) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return &cri.DNSConfig{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read resolver configuration: %w", err)
	}
	out := &cri.DNSConfig{}
	for line := range strings.SplitSeq(string(b[:min(len(b), resolvConfMaxSize)]), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			out.Servers = append(out.Servers, f[1])
		case "search":
			out.Searches = f[1:] // the last one counts
		case "options":
			out.Options = append(out.Options, f[1:]...)
		}
	}
	return out, nil
}
