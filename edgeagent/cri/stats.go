package cri

import (
	"context"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ContainerStats is the resource usage of one container.
type ContainerStats struct {
	ID, Name            string
	Labels, Annotations map[string]string
	At                  time.Time
	CPUNanoSeconds      uint64 // used since the container started
	CPUNanoCores        uint64 // used now; 0 where the runtime does not say
	MemoryWorkingSet    uint64
	MemoryRSS           uint64
	MemoryUsage         uint64
	MemoryAvailable     uint64
	PageFaults          uint64
	MajorPageFaults     uint64
	WritableLayer       FilesystemUsage
}

// ContainerStats asks for the usage of one container.
func (c *Client) ContainerStats(ctx context.Context, id string) (ContainerStats, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.ContainerStats(ctx, &runtimev1.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		return ContainerStats{}, c.wrap("get container stats", err)
	}
	return containerStats(r.GetStats()), nil
}

// ListContainerStats reports the usage of the containers that carry all the
// given labels; nil lists all.
func (c *Client) ListContainerStats(ctx context.Context, labels map[string]string) ([]ContainerStats, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.ListContainerStats(ctx, &runtimev1.ListContainerStatsRequest{
		Filter: &runtimev1.ContainerStatsFilter{LabelSelector: labels},
	})
	if err != nil {
		return nil, c.wrap("list container stats", err)
	}
	out := make([]ContainerStats, 0, len(r.GetStats()))
	for _, s := range r.GetStats() {
		out = append(out, containerStats(s))
	}
	return out, nil
}

// NetworkUsage is the traffic of one interface of a pod.
type NetworkUsage struct {
	Interface                            string
	RxBytes, RxErrors, TxBytes, TxErrors uint64
}

// SandboxStats is the resource usage of one pod.
type SandboxStats struct {
	ID, Name, Namespace, UID string
	At                       time.Time
	CPUNanoSeconds           uint64
	CPUNanoCores             uint64
	MemoryWorkingSet         uint64
	MemoryUsage              uint64
	Network                  []NetworkUsage // the default interface first
	Processes                uint64
	Containers               []ContainerStats
}

// ListSandboxStats reports the usage of all pods; ErrUnsupported before
// containerd 1.7.
func (c *Client) ListSandboxStats(ctx context.Context) ([]SandboxStats, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.ListPodSandboxStats(ctx, &runtimev1.ListPodSandboxStatsRequest{})
	if err != nil {
		return nil, c.wrap("list pod sandbox stats", err)
	}
	out := make([]SandboxStats, 0, len(r.GetStats()))
	for _, s := range r.GetStats() {
		a, l := s.GetAttributes(), s.GetLinux()
		stats := SandboxStats{
			ID: a.GetId(), Name: a.GetMetadata().GetName(), Namespace: a.GetMetadata().GetNamespace(), UID: a.GetMetadata().GetUid(),
			At:               unixNano(l.GetCpu().GetTimestamp()),
			CPUNanoSeconds:   l.GetCpu().GetUsageCoreNanoSeconds().GetValue(),
			CPUNanoCores:     l.GetCpu().GetUsageNanoCores().GetValue(),
			MemoryWorkingSet: l.GetMemory().GetWorkingSetBytes().GetValue(),
			MemoryUsage:      l.GetMemory().GetUsageBytes().GetValue(),
			Processes:        l.GetProcess().GetProcessCount().GetValue(),
		}
		if n := l.GetNetwork(); n != nil {
			stats.Network = append(stats.Network, networkUsage(n.GetDefaultInterface()))
			for _, i := range n.GetInterfaces() {
				stats.Network = append(stats.Network, networkUsage(i))
			}
		}
		for _, cs := range l.GetContainers() {
			stats.Containers = append(stats.Containers, containerStats(cs))
		}
		out = append(out, stats)
	}
	return out, nil
}

func networkUsage(n *runtimev1.NetworkInterfaceUsage) NetworkUsage {
	return NetworkUsage{
		Interface: n.GetName(),
		RxBytes:   n.GetRxBytes().GetValue(), RxErrors: n.GetRxErrors().GetValue(),
		TxBytes: n.GetTxBytes().GetValue(), TxErrors: n.GetTxErrors().GetValue(),
	}
}

func containerStats(s *runtimev1.ContainerStats) ContainerStats {
	return ContainerStats{
		ID: s.GetAttributes().GetId(), Name: s.GetAttributes().GetMetadata().GetName(),
		Labels: s.GetAttributes().GetLabels(), Annotations: s.GetAttributes().GetAnnotations(),
		At:               unixNano(s.GetCpu().GetTimestamp()),
		CPUNanoSeconds:   s.GetCpu().GetUsageCoreNanoSeconds().GetValue(),
		CPUNanoCores:     s.GetCpu().GetUsageNanoCores().GetValue(),
		MemoryWorkingSet: s.GetMemory().GetWorkingSetBytes().GetValue(),
		MemoryRSS:        s.GetMemory().GetRssBytes().GetValue(),
		MemoryUsage:      s.GetMemory().GetUsageBytes().GetValue(),
		MemoryAvailable:  s.GetMemory().GetAvailableBytes().GetValue(),
		PageFaults:       s.GetMemory().GetPageFaults().GetValue(),
		MajorPageFaults:  s.GetMemory().GetMajorPageFaults().GetValue(),
		WritableLayer:    filesystemUsage(s.GetWritableLayer()),
	}
}
