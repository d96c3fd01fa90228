package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/skerry-io/skerry/tests/lab"
)

// raw asks a node for one of the kubelet's paths.
func raw(t *testing.T, e *lab.Edge, path string) result {
	t.Helper()
	return try(t, "get", "--raw", "/api/v1/nodes/"+e.Name+"/proxy"+path)
}

// busy uses some CPU, memory and network, and writes to its disk.
const busy = "echo started; dd if=/dev/zero of=/tmp/data bs=1024 count=100 2>/dev/null; while true; do sleep 0.05; done"

// TestNodeEndpoints asks a node for everything that a kubelet shows of itself.
func TestNodeEndpoints(t *testing.T) {
	ns := newNamespace(t)
	e := newEdge(t)
	main := shell("main", busy)
	main.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	main.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, PeriodSeconds: 1}
	pod := runPod(t, newPod(ns, "web", e, main))

	if r := raw(t, e, "/healthz"); r.out != "ok" {
		t.Errorf("healthz: %+v", r)
	}
	for _, path := range []string{"/pods", "/runningpods/"} {
		var list corev1.PodList
		r := raw(t, e, path)
		if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list.Items) != 1 || list.Items[0].UID != pod.UID {
			t.Errorf("%s: %v, %v\n%s", path, r.err, err, r.out)
		}
	}
	summaryShows(t, e, pod)
	for path, words := range map[string][]string{
		"/metrics/resource": {
			fmt.Sprintf(`container_cpu_usage_seconds_total{container="main",namespace=%q,pod="web"} `, ns), "node_memory_working_set_bytes ", "resource_scrape_error 0\n",
		},
		"/metrics/cadvisor": {
			fmt.Sprintf(`namespace=%q,pod="web"`, ns), "container_network_receive_bytes_total{", "container_memory_working_set_bytes{", "machine_cpu_cores ", "container_threads{",
		},
		"/metrics":        {"process_resident_memory_bytes ", "kubelet_running_pods 1\n", "skerry_uplink_connected 1\n"},
		"/metrics/probes": {`probe_type="Liveness",result="successful"`},
		"/configz":        {`"kubeletconfig":{`, `"clusterDomain":"cluster.local"`, `"nodeName":"` + e.Name + `"`},
	} {
		eventually(t, path, func() error {
			r := raw(t, e, path)
			for _, w := range words {
				if r.err == nil && !strings.Contains(r.out, w) {
					return fmt.Errorf("misses %s:\n%s", w, r.out)
				}
			}
			return r.err
		})
	}
	logFilesShow(t, e)
	r := try(t, "create", "--raw", "/api/v1/nodes/"+e.Name+"/proxy/checkpoint/"+ns+"/web/main", "-f", "/dev/null")
	if r.err == nil || !strings.Contains(r.stderr, "checkpointing of "+ns+"/web/main failed") {
		t.Errorf("checkpoint: %+v", r) // Debian's containerd can't
	}

	// Bad requests.
	for path, words := range map[string]string{
		"/none":                                 "could not find the requested resource",
		"/stats/none":                           "could not find the requested resource",
		"/logs/%2e%2e/etc/passwd":               "could not find the requested resource", // kube-apiserver has cleaned it
		"/pods?x=" + strings.Repeat("x", 9<<10): "more than 8192",
	} {
		if r := raw(t, e, path); r.err == nil || !strings.Contains(r.stderr, words) {
			t.Errorf("%.40s: %.200s", path, r.stderr)
		}
	}
	if r := try(t, "get", "--raw", "/api/v1/nodes/nobody/proxy/pods"); r.err == nil || !strings.Contains(r.stderr, `nodes "nobody" not found`) {
		t.Errorf("unknown node: %+v", r)
	}
	must(t, e.StopAgent(t.Context()))
	eventually(t, "the edge to be offline", func() error {
		if r := raw(t, e, "/stats/summary"); !strings.Contains(r.stderr, "edge "+e.Name+" is offline since 20") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	err := within(t, 5*time.Second, func(ctx context.Context) error {
		_, err := theLab.Kubectl(ctx, "get", "--raw", "/api/v1/nodes/"+e.Name+"/proxy/metrics")
		return err
	})
	fails(t, err, "is offline since")
}

// summaryShows checks /stats/summary against what is known of the pod.
func summaryShows(t *testing.T, e *lab.Edge, pod *corev1.Pod) {
	t.Helper()
	var last string
	eventually(t, "/stats/summary", func() error {
		r := raw(t, e, "/stats/summary")
		var s statsv1alpha1.Summary
		if r.err != nil {
			return r.err
		}
		last = r.out
		if err := json.Unmarshal([]byte(r.out), &s); err != nil {
			return err
		}
		n := s.Node
		switch {
		case n.NodeName != e.Name || n.CPU == nil || n.Memory == nil || n.Fs == nil || n.Runtime == nil || n.Rlimit == nil || n.Network == nil:
			return fmt.Errorf("parts of the node are missing")
		case len(s.Pods) != 1 || s.Pods[0].PodRef.UID != string(pod.UID) || len(s.Pods[0].Containers) != 1:
			return fmt.Errorf("%d pods", len(s.Pods))
		}
		p, c := s.Pods[0], s.Pods[0].Containers[0]
		switch {
		case p.CPU == nil || p.Memory == nil || p.Network == nil || p.ProcessStats == nil || p.EphemeralStorage == nil:
			return fmt.Errorf("parts of the pod are missing")
		case p.Network.Name != "eth0" || p.Network.RxBytes == nil || *p.ProcessStats.ProcessCount < 2:
			return fmt.Errorf("network %+v, processes %d", p.Network, *p.ProcessStats.ProcessCount)
		case c.CPU == nil || c.CPU.UsageNanoCores == nil || *c.CPU.UsageNanoCores == 0 || *c.CPU.UsageCoreNanoSeconds == 0:
			return fmt.Errorf("the container's CPU is missing")
		case c.Memory == nil || *c.Memory.WorkingSetBytes == 0 || c.Memory.AvailableBytes == nil || *c.Memory.AvailableBytes >= 64<<20:
			return fmt.Errorf("the container's memory is missing, or its limit")
		case c.Logs == nil || *c.Logs.UsedBytes == 0 || c.Rootfs == nil || *c.Rootfs.UsedBytes < 100<<10:
			return fmt.Errorf("the container's disk is missing")
		}
		return nil
	})
	if t.Failed() {
		t.Log(last)
	}
	r := raw(t, e, "/stats/summary?only_cpu_and_memory=true")
	if r.err != nil || !strings.Contains(r.out, "workingSetBytes") || strings.Contains(r.out, "rxBytes") || strings.Contains(r.out, "inodes") {
		t.Errorf("only CPU and memory: %v\n%s", r.err, r.out)
	}
}

// logFilesShow reads a file of the machine's log folder.
func logFilesShow(t *testing.T, e *lab.Edge) {
	t.Helper()
	dir := fmt.Sprintf("/var/log/skerry-e2e-%08x", rand.Uint32())
	must(t, os.Mkdir(dir, 0o700))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	text := strings.Repeat("a line of the log\n", 100_000)
	must(t, os.WriteFile(filepath.Join(dir, "big one.log"), []byte(text), 0o600))
	must(t, os.Symlink("/etc/hostname", filepath.Join(dir, "out")))
	name := filepath.Base(dir)
	if r := raw(t, e, "/logs/"); !strings.Contains(r.out, `<a href="`+name+`/">`) {
		t.Errorf("/logs/: %v\n%s", r.err, r.out)
	}
	if r := raw(t, e, "/logs/"+name+"/"); !strings.Contains(r.out, `<a href="big%20one.log">big one.log</a>`) {
		t.Errorf("/logs/%s/: %v\n%s", name, r.err, r.out)
	}
	if r := raw(t, e, "/logs/"+name+"/big%20one.log"); r.out != text {
		t.Errorf("log file: %v, %d bytes, want %d", r.err, len(r.out), len(text))
	}
	if r := raw(t, e, "/logs/"+name+"/out"); r.err == nil {
		t.Errorf("a link out of the folder is followed: %q", r.out)
	}
}
