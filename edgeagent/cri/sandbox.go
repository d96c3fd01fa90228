package cri

import (
	"context"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RunSandbox creates and starts a sandbox and returns its id.
func (c *Client) RunSandbox(ctx context.Context, cfg *SandboxConfig) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sandboxCall)
	defer cancel()
	r, err := c.runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{
		Config:         sandboxConfig(cfg),
		RuntimeHandler: cfg.RuntimeHandler,
	})
	if err != nil {
		return "", c.wrap("run pod sandbox", err)
	}
	return r.GetPodSandboxId(), nil
}

// StopSandbox kills what runs in the sandbox and releases its network. Stopping
// a sandbox that is stopped or gone succeeds.
func (c *Client) StopSandbox(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := c.runtime.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: id})
	return c.gone("stop pod sandbox", err)
}

// RemoveSandbox removes a stopped sandbox and all containers in it. Removing
// one that is gone succeeds.
func (c *Client) RemoveSandbox(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := c.runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: id})
	return c.gone("remove pod sandbox", err)
}

// ListSandboxes lists the sandboxes that carry all the given labels; nil lists all.
func (c *Client) ListSandboxes(ctx context.Context, labels map[string]string) ([]Sandbox, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{
		Filter: &runtimev1.PodSandboxFilter{LabelSelector: labels},
	})
	if err != nil {
		return nil, c.wrap("list pod sandboxes", err)
	}
	out := make([]Sandbox, 0, len(r.GetItems()))
	for _, s := range r.GetItems() {
		out = append(out, Sandbox{
			ID: s.GetId(), Name: s.GetMetadata().GetName(), Namespace: s.GetMetadata().GetNamespace(),
			UID: s.GetMetadata().GetUid(), Attempt: s.GetMetadata().GetAttempt(),
			Ready:     s.GetState() == runtimev1.PodSandboxState_SANDBOX_READY,
			CreatedAt: time.Unix(0, s.GetCreatedAt()),
			Labels:    s.GetLabels(), Annotations: s.GetAnnotations(), RuntimeHandler: s.GetRuntimeHandler(),
		})
	}
	return out, nil
}

// SandboxStatus asks for one sandbox.
func (c *Client) SandboxStatus(ctx context.Context, id string) (SandboxStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return SandboxStatus{}, c.wrap("get pod sandbox status", err)
	}
	s := r.GetStatus()
	out := SandboxStatus{
		Sandbox: Sandbox{
			ID: s.GetId(), Name: s.GetMetadata().GetName(), Namespace: s.GetMetadata().GetNamespace(),
			UID: s.GetMetadata().GetUid(), Attempt: s.GetMetadata().GetAttempt(),
			Ready:     s.GetState() == runtimev1.PodSandboxState_SANDBOX_READY,
			CreatedAt: time.Unix(0, s.GetCreatedAt()),
			Labels:    s.GetLabels(), Annotations: s.GetAnnotations(), RuntimeHandler: s.GetRuntimeHandler(),
		},
		HostNetwork: s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtimev1.NamespaceMode_NODE,
	}
	if ip := s.GetNetwork().GetIp(); ip != "" && !out.HostNetwork {
		out.IPs = append(out.IPs, ip)
		for _, more := range s.GetNetwork().GetAdditionalIps() {
			out.IPs = append(out.IPs, more.GetIp())
		}
	}
	return out, nil
}

func sandboxConfig(cfg *SandboxConfig) *runtimev1.PodSandboxConfig {
	out := &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: cfg.Name, Namespace: cfg.Namespace, Uid: cfg.UID, Attempt: cfg.Attempt},
		Hostname:     cfg.Hostname,
		LogDirectory: cfg.LogDirectory,
		Labels:       cfg.Labels,
		Annotations:  cfg.Annotations,
		Linux: &runtimev1.LinuxPodSandboxConfig{
			CgroupParent: cfg.CgroupParent,
			Sysctls:      cfg.Sysctls,
			SecurityContext: &runtimev1.LinuxSandboxSecurityContext{
				NamespaceOptions:   namespaceOption(cfg.Namespaces),
				RunAsUser:          int64Value(cfg.RunAsUser),
				RunAsGroup:         int64Value(cfg.RunAsGroup),
				SupplementalGroups: cfg.SupplementalGroups,
				Privileged:         cfg.Privileged,
				Seccomp:            profile(cfg.Seccomp),
			},
		},
	}
	if cfg.Overhead != nil {
		out.Linux.Overhead = linuxResources(cfg.Overhead)
	}
	if cfg.Resources != nil {
		out.Linux.Resources = linuxResources(cfg.Resources)
	}
	if cfg.DNS != nil {
		out.DnsConfig = &runtimev1.DNSConfig{Servers: cfg.DNS.Servers, Searches: cfg.DNS.Searches, Options: cfg.DNS.Options}
	}
	for _, p := range cfg.Ports {
		out.PortMappings = append(out.PortMappings, &runtimev1.PortMapping{
			Protocol: protocol(p.Protocol), ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIp: p.HostIP,
		})
	}
	return out
}
