package stats

import (
	"context"
	"io"
	"time"

	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// WriteResource writes what metrics-server reads, at /metrics/resource: names,
// help, labels and their order are a kubelet's. Pods that can't be measured are a
// metric, not an error.
func (c *Collector) WriteResource(ctx context.Context, w io.Writer) error {
	sum, err := c.Summary(ctx, true)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t := NewText(w)
	failed := 1.0
	if err == nil {
		failed = 0
		containerResources(t, sum.Pods)
		nodeResources(t, &sum.Node)
		podResources(t, sum.Pods)
	}
	t.Family("resource_scrape_error", Gauge, "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise")
	t.Value(failed, time.Time{})
	return t.Flush()
}

func containerResources(t *Text, pods []statsv1alpha1.PodStats) {
	each := func(f func(c *statsv1alpha1.ContainerStats, labels []string)) {
		for i := range pods {
			for j := range pods[i].Containers {
				c := &pods[i].Containers[j]
				f(c, []string{"container", c.Name, "namespace", pods[i].PodRef.Namespace, "pod", pods[i].PodRef.Name})
			}
		}
	}
	t.Family("container_cpu_usage_seconds_total", Counter, "[STABLE] Cumulative cpu time consumed by the container in core-seconds")
	each(func(c *statsv1alpha1.ContainerStats, labels []string) { cpuSeconds(t, c.CPU, labels...) })
	t.Family("container_memory_working_set_bytes", Gauge, "[STABLE] Current working set of the container in bytes")
	each(func(c *statsv1alpha1.ContainerStats, labels []string) { workingSet(t, c.Memory, labels...) })
	t.Family("container_start_time_seconds", Gauge, "[STABLE] Start time of the container since unix epoch in seconds")
	each(func(c *statsv1alpha1.ContainerStats, labels []string) {
		if c.StartTime.Unix() > 0 {
			t.Value(float64(c.StartTime.UnixNano())/float64(time.Second), time.Time{}, labels...)
		}
	})
	t.Family("container_swap_limit_bytes", Gauge, "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems")
	each(func(c *statsv1alpha1.ContainerStats, labels []string) {
		if c.Swap != nil && c.Swap.SwapAvailableBytes != nil && c.Swap.SwapUsageBytes != nil {
			t.Value(float64(*c.Swap.SwapAvailableBytes+*c.Swap.SwapUsageBytes), c.Swap.Time.Time, labels...)
		}
	})
	t.Family("container_swap_usage_bytes", Gauge, "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems")
	each(func(c *statsv1alpha1.ContainerStats, labels []string) { swapUsage(t, c.Swap, labels...) })
}

func nodeResources(t *Text, n *statsv1alpha1.NodeStats) {
	t.Family("node_cpu_usage_seconds_total", Counter, "[STABLE] Cumulative cpu time consumed by the node in core-seconds")
	cpuSeconds(t, n.CPU)
	t.Family("node_memory_working_set_bytes", Gauge, "[STABLE] Current working set of the node in bytes")
	workingSet(t, n.Memory)
	t.Family("node_swap_usage_bytes", Gauge, "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems")
	swapUsage(t, n.Swap)
}

func podResources(t *Text, pods []statsv1alpha1.PodStats) {
	each := func(f func(p *statsv1alpha1.PodStats, labels []string)) {
		for i := range pods {
			f(&pods[i], []string{"namespace", pods[i].PodRef.Namespace, "pod", pods[i].PodRef.Name})
		}
	}
	t.Family("pod_cpu_usage_seconds_total", Counter, "[STABLE] Cumulative cpu time consumed by the pod in core-seconds")
	each(func(p *statsv1alpha1.PodStats, labels []string) { cpuSeconds(t, p.CPU, labels...) })
	t.Family("pod_memory_working_set_bytes", Gauge, "[STABLE] Current working set of the pod in bytes")
	each(func(p *statsv1alpha1.PodStats, labels []string) { workingSet(t, p.Memory, labels...) })
	t.Family("pod_swap_usage_bytes", Gauge, "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems")
	each(func(p *statsv1alpha1.PodStats, labels []string) { swapUsage(t, p.Swap, labels...) })
}

func cpuSeconds(t *Text, c *statsv1alpha1.CPUStats, labels ...string) {
	if c != nil {
		t.Number(c.UsageCoreNanoSeconds, float64(time.Second), c.Time.Time, labels...)
	}
}

func workingSet(t *Text, m *statsv1alpha1.MemoryStats, labels ...string) {
	if m != nil {
		t.Number(m.WorkingSetBytes, 1, m.Time.Time, labels...)
	}
}

func swapUsage(t *Text, s *statsv1alpha1.SwapStats, labels ...string) {
	if s != nil {
		t.Number(s.SwapUsageBytes, 1, s.Time.Time, labels...)
	}
}
