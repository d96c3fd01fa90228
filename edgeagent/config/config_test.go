package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skerry-io/skerry/edgeagent/eviction"
)

const head = "apiVersion: skerry.io/v1alpha1\nkind: EdgeAgentConfig\n"

func TestParse(t *testing.T) {
	c, err := Parse([]byte(head + "server: proxy.example:7443\nnodeName: edge-1\nlabels: {site: north}\n" +
		"taints: ['site=north:NoSchedule', 'example.com/gpu:NoExecute', 'site=far:NoExecute']\n" +
		"imageMaximumGCAge: 24h\nmaxParallelImagePulls: 4\nimageDir: /srv/images\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Server, want.NodeName, want.Labels = "proxy.example:7443", "edge-1", map[string]string{"site": "north"}
	want.Taints = []string{"site=north:NoSchedule", "example.com/gpu:NoExecute", "site=far:NoExecute"}
	want.ImageMaximumGCAge.Duration, want.MaxParallelImagePulls, want.ImageDir = 24*time.Hour, 4, "/srv/images"
	if d := cmp.Diff(want, c); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, again); d != "" {
		t.Errorf("what Marshal writes reads back changed (-want +got):\n%s", d)
	}
}

func TestBad(t *testing.T) {
	ok := head + "server: p:1\nnodeName: e\n"
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", ok + "nodename2: x\n", `unknown field "nodename2"`},
		{"wrong type", ok + "labels: 7\n", "labels"},
		{"not yaml", "\tx", "found character"},
		{"twice", ok + "nodeName: f\n", "nodeName"},
		{"empty", "", "apiVersion"},
		{"other kind", "apiVersion: v1\nkind: Pod\n", "EdgeAgentConfig"},
		{"no server", head + "nodeName: e\n", "server: is missing"},
		{"server without port", head + "server: p\nnodeName: e\n", "HOST:PORT"},
		{"server port", head + "server: p:99999\nnodeName: e\n", "99999"},
		{"node name", head + "server: p:1\nnodeName: Edge_1\n", "nodeName"},
		{"uplinks", ok + "otherUplinks: some\n", "otherUplinks"},
		{"packets", ok + "packets: always\n", "packets"},
		{"rate", ok + "maxRate: fast\n", "maxRate"},
		{"rate too low", ok + "maxRate: 2k\n", "maxRate"},
		{"relative", ok + "stateDir: x\n", "stateDir"},
		{"no group of its own", ok + "cgroupRoot: /.\n", "cgroupRoot"},
		{"cgroup driver", ok + "cgroupDriver: runc\n", "cgroupDriver"},
		{"socket", ok + "criSocket: /run/x\n", "criSocket"},
		{"label", ok + "labels: {'a b': c}\n", "labels"},
		{"taint without effect", ok + "taints: [hall=3]\n", `taints: "hall=3" is not of the form`},
		{"taint's effect", ok + "taints: ['hall=3:noexecute']\n", `effect "noexecute"`},
		{"taint's key", ok + "taints: [':NoExecute']\n", `key ""`},
		{"taint's value", ok + "taints: ['a=b=c:NoExecute']\n", `value "b=c"`},
		{"taint to take away", ok + "taints: ['a:NoExecute-']\n", `effect "NoExecute-"`},
		{"taint twice", ok + "taints: ['a=1:NoExecute', 'a=2:NoExecute']\n", "another of this key and effect"},
		{"taint as an object", ok + "taints: [{key: a}]\n", "taints"},
		{"pods", ok + "maxPods: -1\n", "maxPods"},
		{"reserved", ok + "systemReserved: {disk: 1Gi}\n", "systemReserved: \"disk\""},
		{"reserved amount", ok + "kubeReserved: {memory: much}\n", "kubeReserved: memory"},
		{"enforced", ok + "enforceNodeAllocatable: [everything]\n", "enforceNodeAllocatable"},
		{"threshold", ok + "evictionHard: {memory: 1Mi}\n", "evictionHard"},
		{"transition", ok + "evictionPressureTransitionPeriod: soon\n", "evictionPressureTransitionPeriod"},
		{"sysctl", ok + "allowedUnsafeSysctls: [vm.swappiness]\n", "allowedUnsafeSysctls"},
		{"dns", ok + "clusterDNS: [x]\n", "clusterDNS"},
		{"log size", ok + "containerLogMaxSize: much\n", "containerLogMaxSize"},
		{"one log file", ok + "containerLogMaxFiles: 1\n", "containerLogMaxFiles"},
		{"threshold", ok + "imageGCHighThresholdPercent: 101\n", "imageGCHighThresholdPercent"},
		{"thresholds", ok + "imageGCLowThresholdPercent: 90\n", "imageGCLowThresholdPercent"},
		{"minimum age", ok + "imageMinimumGCAge: -1s\n", "imageMinimumGCAge"},
		{"maximum age", ok + "imageMaximumGCAge: 1m\n", "imageMaximumGCAge"},
		{"pulls", ok + "maxParallelImagePulls: -1\n", "maxParallelImagePulls"},
		{"plugins without a folder", ok + "imageCredentialProviderConfig: /etc/x.yaml\n", "imageCredentialProviderBinDir"},
		{"relative image folder", ok + "imageDir: x\n", "imageDir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.text))
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that contains %q", err, tt.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("error has more than one line: %q", err)
			}
		})
	}
}

// TestKubeletsThresholds: what is of no use here, and legal for kubelets, does no harm.
func TestKubeletsThresholds(t *testing.T) {
	c, err := Parse([]byte(head + "server: p:1\nnodeName: e\n" +
		"evictionHard: {memory.available: 64Mi, containerfs.available: 5%, allocatableMemory.available: 0%}\n" +
		"evictionSoft: {containerfs.inodesFree: 5%}\nevictionSoftGracePeriod: {containerfs.inodesFree: 1m}\n" +
		"evictionMinimumReclaim: {containerfs.available: 1Gi}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	got, err := c.Thresholds()
	if err != nil || len(got) == 0 || got[0].Signal != eviction.MemoryAvailable || got[0].Value.Amount != 64<<20 {
		t.Errorf("thresholds %+v, %v", got, err)
	}
}

func TestFits(t *testing.T) {
	machine := corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("1Gi"), "pid": resource.MustParse("0")}
	for _, tt := range []struct{ system, kube, want string }{
		{"", "", ""},
		{"1", "900m", ""},
		{"1", "1", "keep 2 of cpu, the machine has 2"},
		{"3", "", "keep 3 of cpu"},
	} {
		r := NodeResources{SystemReserved: map[string]string{"cpu": tt.system}, KubeReserved: map[string]string{"cpu": tt.kube}}
		err := r.Fits(machine)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v: got %v", tt, err)
		}
	}
}

func TestLoad(t *testing.T) {
	p := filepath.Join(t.TempDir(), "edgeagent.yaml")
	if _, err := Load(p); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "skerry join") {
		t.Errorf("missing file: got %v", err)
	}
	if err := os.WriteFile(p, []byte(head+"x: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(p); err == nil || !strings.Contains(err.Error(), p) {
		t.Errorf("error must name the file: %v", err)
	}
}

// FuzzParse: whatever the file says, it is refused in one line, or can be used.
func FuzzParse(f *testing.F) {
	f.Add([]byte("apiVersion: skerry.io/v1alpha1\nkind: EdgeAgentConfig\nserver: a:1\nnodeName: e\n"))
	f.Add([]byte("server: [\n"))
	f.Add([]byte("labels: {a: {b: c}}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err == nil {
			err = c.Validate()
		}
		switch {
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("more than one line: %q", err)
		case err == nil && (c.Server == "" || c.NodeName == ""):
			t.Errorf("%q is taken for %+v", b, c)
		}
	})
}
