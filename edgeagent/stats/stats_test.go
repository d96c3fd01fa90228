package stats

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// machineFiles is what both versions of control groups have beside them.
func machineFiles() fstest.MapFS {
	return fstest.MapFS{
		"proc/stat":                   file("cpu  100 0 50 1000 0 0 0 0 0 0\ncpu0 50 0 25 500 0 0 0 0 0 0\ncpu1 50 0 25 500 0 0 0 0 0 0\nbtime 1000\n"),
		"proc/meminfo":                file("MemTotal: 1000 kB\nMemFree: 400 kB\nInactive(file): 100 kB\nAnonPages: 50 kB\nCached: 200 kB\nMapped: 10 kB\nSwapTotal: 8 kB\nSwapFree: 6 kB\n"),
		"proc/vmstat":                 file("pgfault 7\npgmajfault 2\n"),
		"proc/loadavg":                file("0.1 0.2 0.3 2/345 678\n"),
		"proc/sys/kernel/pid_max":     file("4194304\n"),
		"proc/sys/kernel/threads-max": file("1000\n"),
		"proc/sys/kernel/osrelease":   file("6.1.0\n"),
		"proc/pressure/memory":        file("some avg10=1.50 avg60=0.25 avg300=0.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"),
		"proc/net/dev":                file("Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  ens3: 100 10 1 2 0 0 0 0 200 20 3 4 0 0 0 0\nveth12: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n"),
		"proc/net/route":              file("Iface Destination Gateway Flags RefCnt Use Metric Mask\nens3 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n"),
		"proc/self/statm":             file("100 3 1 1 0 1 0\n"),
		"proc/self/ns/net":            {Data: []byte("net:[1]"), Mode: 0o777 | 1<<27},
		"proc/42/ns/net":              {Data: []byte("net:[2]"), Mode: 0o777 | 1<<27},
		"proc/42/net/dev":             file("x\ny\n lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n net1: 5 5 0 0 0 0 0 0 6 6 0 0 0 0 0 0\n eth0: 11 1 0 0 0 0 0 0 22 2 0 0 0 0 0 0\n"),
		"sys/dev/block/8:0/uevent":    file("MAJOR=8\nMINOR=0\nDEVNAME=sda\n"),
	}
}

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

const podDir = "skerry/burstable/podu1"

// v1 has a pod and its container in control groups of version 1, v2 the same in
// those of version 2.
func v1() fstest.MapFS {
	fs := machineFiles()
	for dir, factor := range map[string]string{"skerry": "9", podDir: "4", podDir + "/c1": "3"} {
		for name, text := range map[string]string{
			"cpuacct/" + dir + "/cpuacct.usage":                 factor + "000000000\n",
			"cpuacct/" + dir + "/cpuacct.stat":                  "user 200\nsystem 100\n",
			"cpu/" + dir + "/cpu.stat":                          "nr_periods 5\nnr_throttled 2\nthrottled_time 1000000000\n",
			"cpu/" + dir + "/cpu.shares":                        "512\n",
			"cpu/" + dir + "/cpu.cfs_quota_us":                  "-1\n",
			"cpu/" + dir + "/cpu.cfs_period_us":                 "100000\n",
			"memory/" + dir + "/memory.usage_in_bytes":          factor + "0000\n",
			"memory/" + dir + "/memory.max_usage_in_bytes":      "99999\n",
			"memory/" + dir + "/memory.failcnt":                 "1\n",
			"memory/" + dir + "/memory.limit_in_bytes":          "9223372036854771712\n",
			"memory/" + dir + "/memory.stat":                    "cache 1\ntotal_cache 5\ntotal_rss 6\ntotal_mapped_file 7\ntotal_inactive_file 8000\ntotal_pgfault 9\ntotal_pgmajfault 3\n",
			"pids/" + dir + "/pids.current":                     "3\n",
			"pids/" + dir + "/pids.max":                         "max\n",
			"pids/" + dir + "/cgroup.procs":                     "1\n2\n",
			"blkio/" + dir + "/blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\nTotal 4097\n",
			"blkio/" + dir + "/blkio.throttle.io_serviced":      "8:0 Read 2\n8:0 Write 1\n",
		} {
			fs["sys/fs/cgroup/"+name] = file(text)
		}
	}
	fs["sys/fs/cgroup/memory/"+podDir+"/s1/cgroup.procs"] = file("41\n42\n")
	return fs
}

func v2() fstest.MapFS {
	fs := machineFiles()
	fs["sys/fs/cgroup/cgroup.controllers"] = file("cpu memory\n")
	for dir, factor := range map[string]string{"skerry": "9", podDir: "4", podDir + "/c1": "3"} {
		for name, text := range map[string]string{
			"cpu.stat":            "usage_usec " + factor + "000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 5\nnr_throttled 2\nthrottled_usec 1000000\n",
			"cpu.weight":          "20\n",
			"cpu.max":             "max 100000\n",
			"memory.current":      factor + "0000\n",
			"memory.peak":         "99999\n",
			"memory.max":          "max\n",
			"memory.swap.current": "0\n",
			"memory.swap.max":     "max\n",
			"memory.events":       "low 0\nhigh 0\nmax 1\noom 0\n",
			"memory.stat":         "anon 6\nfile 5\nfile_mapped 7\ninactive_file 8000\npgfault 9\npgmajfault 3\n",
			"pids.current":        "3\n",
			"pids.max":            "max\n",
			"cgroup.procs":        "1\n2\n",
			"io.stat":             "8:0 rbytes=4096 wbytes=1 rios=2 wios=1 dbytes=0 dios=0\n",
			"cpu.pressure":        "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		} {
			fs["sys/fs/cgroup/"+dir+"/"+name] = file(text)
		}
	}
	fs["sys/fs/cgroup/"+podDir+"/s1/cgroup.procs"] = file("41\n42\n")
	return fs
}

// fakeRuntime has one pod with one running container, and remains of others.
type fakeRuntime struct {
	calls int
	cpu   uint64 // nanoseconds, 0 for a runtime that does not say
	err   error
}

func (r *fakeRuntime) ListSandboxes(context.Context, map[string]string) ([]cri.Sandbox, error) {
	r.calls++
	return []cri.Sandbox{
		{ID: "s0", Name: "web", Namespace: "default", UID: "u1", CreatedAt: time.Unix(1500, 0)},
		{ID: "s1", Name: "web", Namespace: "default", UID: "u1", Ready: true, CreatedAt: time.Unix(2000, 0)},
		{ID: "s2", Name: "evil", Namespace: "default", UID: "../..", Ready: true, CreatedAt: time.Unix(2000, 0)},
	}, r.err
}

func (r *fakeRuntime) ListContainers(context.Context, map[string]string) ([]cri.Container, error) {
	labels := map[string]string{labelPodUID: "u1", labelContainerName: "main"}
	return []cri.Container{
		{ID: "c0", SandboxID: "s1", State: cri.StateExited, CreatedAt: time.Unix(2001, 0), Labels: labels},
		{ID: "c1", SandboxID: "s1", State: cri.StateRunning, CreatedAt: time.Unix(2002, 500e6), Labels: labels, Image: "docker.io/library/web:1"},
	}, nil
}

func (r *fakeRuntime) ListContainerStats(context.Context, map[string]string) ([]cri.ContainerStats, error) {
	s := cri.ContainerStats{ID: "c1", WritableLayer: cri.FilesystemUsage{Mountpoint: "/images", UsedBytes: 77, InodesUsed: 5}}
	if r.cpu > 0 {
		s.At, s.CPUNanoSeconds, s.MemoryWorkingSet = time.Now(), r.cpu, 12345
	}
	return []cri.ContainerStats{s}, nil
}

func (r *fakeRuntime) ImageFilesystems(context.Context) ([]cri.FilesystemUsage, error) {
	return []cri.FilesystemUsage{{Mountpoint: "/", UsedBytes: 1000, InodesUsed: 10}}, nil
}

// bySystemd has the same groups as slices and scopes.
func bySystemd(in fstest.MapFS) fstest.MapFS {
	names := strings.NewReplacer(
		podDir+"/s1", sliceDir+"/cri-containerd-s1.scope", podDir+"/c1", sliceDir+"/cri-containerd-c1.scope",
		podDir, sliceDir,
	)
	out := fstest.MapFS{}
	for name, f := range in {
		out[strings.ReplaceAll(names.Replace(name), "/skerry/", "/skerry.slice/")] = f
	}
	return out
}

const sliceDir = "skerry.slice/skerry-burstable.slice/skerry-burstable-podu1.slice"

func layoutOf(root fstest.MapFS) cgroups.Layout {
	l := cgroups.Layout{Root: "/skerry", Driver: cgroups.Cgroupfs}
	for name := range root {
		if strings.Contains(name, ".slice/") {
			l.Driver = cgroups.Systemd
		}
	}
	return l
}

func newCollector(t *testing.T, root fstest.MapFS, rt Runtime) *Collector {
	t.Helper()
	c, err := New(Config{NodeName: "n1", Version: "v1", Runtime: rt, Groups: layoutOf(root), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSummary(t *testing.T) {
	for name, root := range map[string]fstest.MapFS{"v1": v1(), "v2": v2(), "v1 by systemd": bySystemd(v1()), "v2 by systemd": bySystemd(v2())} {
		t.Run(name, func(t *testing.T) {
			got, err := newCollector(t, root, &fakeRuntime{}).Summary(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			if n := got.Node; n.NodeName != "n1" || *n.CPU.UsageCoreNanoSeconds != 1_500_000_000 || *n.Memory.UsageBytes != 600<<10 ||
				*n.Memory.WorkingSetBytes != 500<<10 || *n.Memory.AvailableBytes != 500<<10 || *n.Swap.SwapUsageBytes != 2<<10 ||
				n.Network.Name != "ens3" || *n.Network.RxBytes != 100 || len(n.Network.Interfaces) != 1 ||
				*n.Rlimit.MaxPID != 1000 || *n.Rlimit.NumOfRunningProcesses != 345 || *n.Runtime.ImageFs.UsedBytes != 1000 ||
				n.Fs == nil || n.StartTime.Unix() != 1000 || n.Memory.PSI.Some.Total != 3000 || n.Memory.PSI.Some.Avg10 != 1.5 {
				t.Errorf("node: %s", show(n))
			}
			if len(got.Pods) != 2 {
				t.Fatalf("pods: %s", show(got.Pods))
			}
			if p := got.Pods[0]; p.PodRef.Name != "evil" || p.CPU == nil || p.CPU.UsageCoreNanoSeconds != nil {
				// A UID that leads out of the tree has no group, and sums what is not there.
				if p.CPU != nil || p.Memory != nil {
					t.Errorf("a pod without a group: %s", show(p))
				}
			}
			p := got.Pods[1]
			if p.PodRef != (statsv1alpha1.PodReference{Name: "web", Namespace: "default", UID: "u1"}) || p.StartTime.Unix() != 2000 ||
				*p.CPU.UsageCoreNanoSeconds != 4_000_000_000 || *p.Memory.WorkingSetBytes != 32000 || *p.ProcessStats.ProcessCount != 3 ||
				p.Network.Name != "eth0" || *p.Network.TxBytes != 22 || len(p.Network.Interfaces) != 2 || *p.EphemeralStorage.UsedBytes != 77 {
				t.Errorf("pod: %s", show(p))
			}
			if len(p.Containers) != 1 {
				t.Fatalf("containers: %s", show(p.Containers))
			}
			c := p.Containers[0]
			if c.Name != "main" || c.StartTime.UnixMilli() != 2002500 || *c.CPU.UsageCoreNanoSeconds != 3_000_000_000 || c.CPU.UsageNanoCores != nil ||
				*c.Memory.WorkingSetBytes != 22000 || c.Memory.AvailableBytes != nil || *c.Memory.RSSBytes != 6 || *c.Rootfs.UsedBytes != 77 {
				t.Errorf("container: %s", show(c))
			}
			if (c.CPU.PSI != nil) != strings.HasPrefix(name, "v2") || c.CPU.PSI != nil && c.CPU.PSI.Some.Total != 2e9 {
				t.Errorf("pressure: %s", show(c.CPU))
			}
		})
	}
}

func show(v any) string { return cmp.Diff(nil, v) }

// Rates need two samples that are far enough apart, and are forgotten with what
// they are of.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &fakeRuntime{cpu: 1e9}
		c := newCollector(t, v2(), rt)
		cores := func() *uint64 {
			t.Helper()
			s, err := c.Summary(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			return s.Pods[1].Containers[0].CPU.UsageNanoCores
		}
		if got := cores(); got != nil {
			t.Errorf("the first sample has the rate %d", *got)
		}
		wait(500 * time.Millisecond)
		rt.cpu = 9e9
		if got := cores(); got != nil || rt.calls != 1 {
			t.Errorf("a sample within the second was not shared: %v, %d calls", got, rt.calls)
		}
		wait(9500 * time.Millisecond)
		rt.cpu = 6e9
		if got := cores(); got == nil || *got != 500_000_000 {
			t.Errorf("5 s of CPU in 10 s: %v", got)
		}
		wait(10 * time.Minute)
		rt.cpu = 7e9
		if got := cores(); got != nil {
			t.Errorf("an average of ten minutes is taken for now: %d", *got)
		}
		wait(10 * time.Second)
		rt.cpu = 1e9
		if got := cores(); got != nil {
			t.Errorf("a counter that went back: %d", *got)
		}
		wait(10 * time.Second)
		rt.err = errors.New("no runtime")
		if _, err := c.Summary(t.Context(), true); !errors.Is(err, rt.err) {
			t.Errorf("without a runtime: %v", err)
		}
	})
}

func wait(d time.Duration) { <-time.After(d) }

// A caller who waits for another's measurement can give up.
func TestMeasureIsCanceled(t *testing.T) {
	c := newCollector(t, v1(), &fakeRuntime{})
	<-c.turn
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Summary(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

const wantResource = `# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="main",namespace="default",pod="web"} 2.5 946684800000
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="main",namespace="default",pod="web"} 12345 946684800000
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="main",namespace="default",pod="web"} 2002.5
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 1.5 946684800000
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 512000 946684800000
# HELP node_swap_usage_bytes [ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems
# TYPE node_swap_usage_bytes gauge
node_swap_usage_bytes 2048 946684800000
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="default",pod="web"} 4 946684800000
# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="default",pod="web"} 32000 946684800000
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
`

// TestResource has the bytes of a kubelet.
func TestResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &fakeRuntime{cpu: 2.5e9}
		c := newCollector(t, v1(), rt)
		var b bytes.Buffer
		if err := c.WriteResource(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantResource, b.String()); diff != "" {
			t.Error(diff)
		}
		wait(2 * time.Second)
		rt.err = errors.New("no runtime")
		b.Reset()
		if err := c.WriteResource(t.Context(), &b); err != nil || !strings.HasSuffix(b.String(), "\nresource_scrape_error 1\n") {
			t.Errorf("without a runtime: %v\n%s", err, b.String())
		}
	})
}

func TestCadvisor(t *testing.T) {
	for name, root := range map[string]fstest.MapFS{"v1": v1(), "v2": v2()} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := newCollector(t, root, &fakeRuntime{}).WriteCadvisor(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			parser := expfmt.NewTextParser(model.LegacyValidation)
			families, err := parser.TextToMetricFamilies(bytes.NewReader(b.Bytes()))
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			const c1 = `container="main",`
			const rest = `id="skerry/burstable/podu1/c1",image="docker.io/library/web:1",name="c1",namespace="default",pod="web"`
			for _, want := range []string{
				`container_cpu_usage_seconds_total{` + c1 + `cpu="total",id="/` + rest[4:] + `} 3 `,
				`container_cpu_cfs_throttled_seconds_total{` + c1 + `id="/` + rest[4:] + `} 1 `,
				`container_memory_failures_total{` + c1 + `failure_type="pgmajfault",id="/` + rest[4:] + `,scope="hierarchy"} 3 `,
				`container_fs_reads_bytes_total{` + c1 + `device="/dev/sda",id="/` + rest[4:] + `} 4096 `,
				`container_network_transmit_bytes_total{container="",id="/skerry/burstable/podu1/s1",image="",interface="eth0",name="s1",namespace="default",pod="web"} 22 `,
				`container_memory_working_set_bytes{container="",id="/skerry/burstable/podu1",image="",name="",namespace="default",pod="web"} 32000 `,
				`container_spec_memory_limit_bytes{` + c1 + `id="/` + rest[4:] + `} 0 `,
				`container_threads{` + c1 + `id="/` + rest[4:] + `} 3 `,
				`machine_cpu_cores 2`,
				`machine_memory_bytes 1.024e+06`,
			} {
				if !strings.Contains(b.String(), want) {
					t.Errorf("misses %s", want)
				}
			}
			if len(families) < 35 {
				t.Errorf("only %d families", len(families))
			}
			if t.Failed() {
				t.Log(b.String())
			}
		})
	}
}

// TestNothingThere has a machine of which nothing can be read.
func TestNothingThere(t *testing.T) {
	c := newCollector(t, fstest.MapFS{}, &fakeRuntime{})
	if _, err := c.Summary(t.Context(), false); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if err := c.WriteResource(t.Context(), &b); err != nil {
		t.Error(err)
	}
	if err := c.WriteCadvisor(t.Context(), &b); err != nil {
		t.Error(err)
	}
}

func TestTextEscapes(t *testing.T) {
	var b bytes.Buffer
	x := NewText(&b)
	x.Family("none", Gauge, "not shown")
	x.Family("some", Gauge, "back\\slash\nand line")
	x.Value(1, time.Time{}, "l", "a\"b\\c\nd")
	if err := x.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "# HELP some back\\\\slash\\nand line\n# TYPE some gauge\nsome{l=\"a\\\"b\\\\c\\nd\"} 1\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// FuzzFiles reads whatever the kernel's files may hold.
func FuzzFiles(f *testing.F) {
	for _, root := range []fstest.MapFS{v1(), v2()} {
		for _, one := range root {
			f.Add(string(one.Data))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, root := range []fstest.MapFS{v1(), v2()} {
			for name, one := range root {
				if one.Mode == 0 && !strings.HasSuffix(name, "cgroup.procs") {
					root[name] = file(text)
				}
			}
			var b bytes.Buffer
			c := newCollector(t, root, &fakeRuntime{cpu: 1})
			if err := c.WriteCadvisor(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			if err := c.WriteResource(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
		}
	})
}
