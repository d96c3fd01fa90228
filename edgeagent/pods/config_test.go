package pods

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

func testEnv(t *testing.T) *env {
	t.Helper()
	dir := t.TempDir()
	resolv := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("# node\nnameserver 192.0.2.53\nsearch lan site\noptions ndots:1 edns0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{
		Objects: newObjects(), Reporter: newRecorder(), Events: newRecorder(), CRI: newFakeRuntime(), StateDir: dir, LogsDir: "/logs",
		Cgroups: noCgroups{}, NodeName: "edge-1", ResolvConf: resolv, ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local", Groups: cgroups.Layout{Root: "/k"},
		Services: testServices{},
		Allocatable: func() corev1.ResourceList {
			return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1000Mi"), corev1.ResourceCPU: resource.MustParse("2")}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m.env
}

func TestDNS(t *testing.T) {
	own := &corev1.PodDNSConfig{
		Nameservers: []string{"192.0.2.1"}, Searches: []string{"own", "lan"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}, {Name: "rotate"}},
	}
	for _, tt := range []struct {
		name   string
		policy corev1.DNSPolicy
		host   bool
		own    *corev1.PodDNSConfig
		want   cri.DNSConfig
	}{
		{"cluster first", corev1.DNSClusterFirst, false, nil, cri.DNSConfig{
			Servers: []string{"10.96.0.10"}, Searches: []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan", "site"}, Options: []string{"ndots:5"},
		}},
		{"cluster first on the host's network", corev1.DNSClusterFirst, true, nil, cri.DNSConfig{
			Servers: []string{"192.0.2.53"}, Searches: []string{"lan", "site"}, Options: []string{"ndots:1", "edns0"},
		}},
		{"default with own", corev1.DNSDefault, false, own, cri.DNSConfig{
			Servers: []string{"192.0.2.53", "192.0.2.1"}, Searches: []string{"lan", "site", "own"}, Options: []string{"edns0", "ndots:2", "rotate"},
		}},
		{"none", corev1.DNSNone, false, own, cri.DNSConfig{
			Servers: []string{"192.0.2.1"}, Searches: []string{"own", "lan"}, Options: []string{"ndots:2", "rotate"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := newPod("p", func(p *corev1.Pod) {
				p.Spec.DNSPolicy, p.Spec.HostNetwork, p.Spec.DNSConfig = tt.policy, tt.host, tt.own
			})
			got, err := testEnv(t).dnsConfig(pod)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, *got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSandboxConfig(t *testing.T) {
	e := testEnv(t)
	pod := newPod(strings.Repeat("long-", 20), func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "x"}
		p.Spec.ShareProcessNamespace = new(true)
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: corev1.ProtocolUDP}, {ContainerPort: 81}}
		p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(7)), Sysctls: []corev1.Sysctl{
			{Name: "net/ipv4/x", Value: "1"}, {Name: "net/ipv4/conf/eth0.100/y", Value: "2"}, {Name: "net.ipv4.conf.eth0/100.z", Value: "3"},
		}}
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}
	})
	pod.UID = "u"
	cfg, err := e.sandboxConfig(t.Context(), pod, 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Hostname) > maxHostname || strings.HasSuffix(cfg.Hostname, "-") {
		t.Errorf("hostname %q", cfg.Hostname)
	}
	if cfg.CgroupParent != "/k/burstable/podu" || cfg.Namespaces.PID != cri.NamespacePod || cfg.Attempt != 3 {
		t.Errorf("config %+v", cfg)
	}
	want := map[string]string{"net.ipv4.x": "1", "net.ipv4.conf.eth0/100.y": "2", "net.ipv4.conf.eth0/100.z": "3"} // as they were admitted
	if d := cmp.Diff(want, cfg.Sysctls); d != "" {
		t.Error(d)
	}
	if cfg.Labels[labelPodUID] != "u" || cfg.Labels["app"] != "x" {
		t.Errorf("labels %v", cfg.Labels)
	}
	if d := cmp.Diff([]cri.PortMapping{{Protocol: cri.UDP, ContainerPort: 80, HostPort: 8080}}, cfg.Ports); d != "" {
		t.Error(d)
	}
}

func TestNonRoot(t *testing.T) {
	for _, tt := range []struct {
		user  *int64
		image cri.Image
		ok    bool
	}{
		{new(int64(5)), cri.Image{}, true},
		{new(int64(0)), cri.Image{UID: new(int64(5))}, false},
		{nil, cri.Image{UID: new(int64(5))}, true},
		{nil, cri.Image{UID: new(int64(0))}, false},
		{nil, cri.Image{}, false},
		{nil, cri.Image{Username: "app"}, false},
		{nil, cri.Image{Username: "1000"}, true},
	} {
		if err := verifyNonRoot(tt.user, &tt.image); (err == nil) != tt.ok {
			t.Errorf("user %v, image %+v: %v", tt.user, tt.image, err)
		}
	}
}

func TestOOMScore(t *testing.T) {
	e := testEnv(t)
	request := func(q string) *corev1.Pod {
		return newPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(q)}
		})
	}
	for _, tt := range []struct {
		pod  *corev1.Pod
		want int64
	}{
		{newPod("p"), 1000},
		{request("100Mi"), 900},
		{request("1"), 999},
		{request("999Mi"), 3},
	} {
		if got := e.oomScoreAdj(tt.pod, &tt.pod.Spec.Containers[0]); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.pod.Spec.Containers[0].Resources.Requests, got, tt.want)
		}
	}
}

func TestLastLogLines(t *testing.T) {
	raw := "ut in half\n2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P tw\n2026-01-01T00:00:00Z stderr F o\n"
	if got := lastLogLines([]byte(raw)); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
	if got := lastLogLines([]byte(strings.Repeat("t stdout F x\n", 200))); got != strings.Repeat("x\n", maxMessageLogLines) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestPreStopTargetOnHostNetwork(t *testing.T) {
	pod := newPod("p", func(p *corev1.Pod) {
		p.Spec.HostNetwork = true
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/bye"}}}
	})
	e := &env{Config: Config{HostIP: func() []string { return []string{"192.0.2.7"} }}}
	_, target := e.preStop(&snapshot{pod: pod, obs: &observed{}}, action{kind: actKill, container: "c", id: "c-1"})
	if target.PodIP != "192.0.2.7" {
		t.Errorf("the hook is asked at %q, want the node's address", target.PodIP)
	}
}
