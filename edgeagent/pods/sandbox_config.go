package pods

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/admission"
)

// maxHostname is the kernel's limit for a host name, less the final zero.
const maxHostname = 63

// sandboxConfig describes the pod's sandbox. The runtime wants it again with
// each container.
func (e *env) sandboxConfig(ctx context.Context, pod *corev1.Pod, attempt uint32) (*cri.SandboxConfig, error) {
	handler, err := e.handler(pod)
	if err != nil {
		return nil, err
	}
	users, err := e.users(ctx, pod, handler)
	if err != nil {
		return nil, err
	}
	dns, err := e.dnsConfig(pod)
	if err != nil {
		return nil, err
	}
	limitDNS(dns)
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
		Resources: e.podResources(pod),
	}
	cfg.Namespaces.Users = users
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
				cfg.Sysctls[admission.NormalSysctl(s.Name)] = s.Value
			}
		}
	}
	return cfg, nil
}

// handler is the runtime's handler for the pod; empty is its default.
func (e *env) handler(pod *corev1.Pod) (string, error) {
	class := pod.Spec.RuntimeClassName
	if class == nil || *class == "" {
		return "", nil
	}
	handler, err := e.RuntimeHandler(*class)
	if err != nil {
		return "", fmt.Errorf("runtime class %s: %w", *class, err)
	}
	return handler, nil
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
