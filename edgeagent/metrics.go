package edgeagent

import (
	"context"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/stats"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/uplink"
)

// agentMetrics are the agent's own, at /metrics. Nothing is counted but for them:
// all is read when it is asked for.
type agentMetrics struct {
	node, version string
	started       time.Time
	pods          *pods.Manager
	store         *store.Store
	up            *uplink.Uplink
	bus           *localBus // nil for none
}

func (m *agentMetrics) write(_ context.Context, w io.Writer) error {
	t := stats.NewText(w)
	goMetrics(t)
	m.podMetrics(t)
	m.processMetrics(t)
	t.Family("skerry_edgeagent_info", stats.Gauge, "The build and the node of this agent.")
	t.Value(1, time.Time{}, "node", m.node, "version", m.version)
	full, _ := m.store.Full()
	t.Family("skerry_store_full", stats.Gauge, "1 while the store takes nothing for want of room on the disk.")
	t.Value(flag(full), time.Time{})
	state := m.up.State()
	t.Family("skerry_uplink_connected", stats.Gauge, "1 while there is a session to the cloud.")
	t.Value(flag(state.Connected), time.Time{})
	t.Family("skerry_uplink_since_seconds", stats.Gauge, "When the session began, or was lost, in seconds since 1970.")
	t.Value(float64(state.Since.Unix()), time.Time{})
	m.bus.metrics(t)
	return t.Flush()
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func goMetrics(t *stats.Text) {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) float64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0 // a later Go has it no more
		}
		return float64(samples[i].Value.Uint64())
	}
	t.Family("go_gc_cycles_total_gc_cycles_total", stats.Counter, "Count of all completed GC cycles.")
	t.Value(value(0), time.Time{})
	t.Family("go_goroutines", stats.Gauge, "Number of goroutines that currently exist.")
	t.Value(float64(runtime.NumGoroutine()), time.Time{})
	t.Family("go_info", stats.Gauge, "Information about the Go environment.")
	t.Value(1, time.Time{}, "version", runtime.Version())
	t.Family("go_memstats_heap_alloc_bytes", stats.Gauge, "Number of heap bytes allocated and currently in use.")
	t.Value(value(1), time.Time{})
	t.Family("go_memstats_sys_bytes", stats.Gauge, "Number of bytes obtained from system.")
	t.Value(value(2), time.Time{})
}

func (m *agentMetrics) podMetrics(t *stats.Text) {
	running, byState := 0, map[string]int{}
	for p := range m.pods.EachPod() {
		if p.Status.Phase == corev1.PodRunning {
			running++
		}
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
			for i := range list {
				switch s := &list[i].State; {
				case s.Running != nil:
					byState["running"]++
				case s.Terminated != nil:
					byState["exited"]++
				default:
					byState["created"]++
				}
			}
		}
	}
	t.Family("kubelet_node_name", stats.Gauge, "The node's name. The count is always 1.")
	t.Value(1, time.Time{}, "node", m.node)
	t.Family("kubelet_running_containers", stats.Gauge, "Number of containers currently running")
	for _, state := range []string{"created", "exited", "running"} {
		t.Value(float64(byState[state]), time.Time{}, "container_state", state)
	}
	t.Family("kubelet_running_pods", stats.Gauge, "Number of pods that have a running pod sandbox")
	t.Value(float64(running), time.Time{})
}

func (m *agentMetrics) processMetrics(t *stats.Text) {
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) == nil {
		t.Family("process_cpu_seconds_total", stats.Counter, "Total user and system CPU time spent in seconds.")
		t.Value(float64(use.Utime.Nano()+use.Stime.Nano())/float64(time.Second), time.Time{})
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		t.Family("process_open_fds", stats.Gauge, "Number of open file descriptors.")
		t.Value(float64(len(fds)), time.Time{})
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(statm)); len(f) > 1 {
			if pages, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				t.Family("process_resident_memory_bytes", stats.Gauge, "Resident memory size in bytes.")
				t.Value(float64(pages)*float64(os.Getpagesize()), time.Time{})
			}
		}
	}
	t.Family("process_start_time_seconds", stats.Gauge, "Start time of the process since unix epoch in seconds.")
	t.Value(float64(m.started.UnixMilli())/1000, time.Time{})
}

// probeMetrics writes what probes have come to, at /metrics/probes.
func probeMetrics(w io.Writer, mgr *pods.Manager) error {
	t := stats.NewText(w)
	t.Family("prober_probe_total", stats.Counter, "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.")
	for _, p := range mgr.ProbeTotals() {
		t.Value(float64(p.Count), time.Time{}, "container", p.Container, "namespace", p.Pod.Namespace, "pod", p.Pod.Name,
			"pod_uid", string(p.Pod.UID), "probe_type", p.Type, "result", p.Result)
	}
	return t.Flush()
}
