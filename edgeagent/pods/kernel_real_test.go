package pods

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const hugePages2Mi = corev1.ResourceHugePagesPrefix + "2Mi"

// allocatable is what the machine has, with its huge pages.
func allocatable() corev1.ResourceList {
	out := MeasureNode()
	text, _ := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
	if n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); n > 0 {
		out[hugePages2Mi] = *resource.NewQuantity(n<<21, resource.BinarySI)
	}
	return out
}

// TestRealAppArmor: the kernel confines a container by the profile that its pod names,
// and one that the kernel does not know keeps it from starting.
func TestRealAppArmor(t *testing.T) {
	client := testClient(t)
	if !hasAppArmor() {
		t.Skip("this kernel has no AppArmor")
	}
	confined := func(kind corev1.AppArmorProfileType, localhost *string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: kind, LocalhostProfile: localhost}}
		}
	}
	r := newRig(t)
	for name, tt := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"default":    {confined(corev1.AppArmorProfileTypeRuntimeDefault, nil), "cri-containerd.apparmor.d (enforce)"},
		"unconfined": {confined(corev1.AppArmorProfileTypeUnconfined, nil), "unconfined"},
		"localhost":  {confined(corev1.AppArmorProfileTypeLocalhost, new("skerry-test")), "skerry-test (enforce)"},
	} {
		r.apply(newPod(name, script("trap 'exit 0' TERM; while :; do sleep 0.1; done"), tt.change))
		r.waitFor(t, name, "Running c=Running+")
		p, _ := r.m.Lookup("ns", name, "")
		c, _ := p.Container("c")
		res, err := client.ExecSync(t.Context(), c.ID, []string{"cat", "/proc/1/attr/current"}, 10*time.Second)
		if got := strings.TrimSpace(string(res.Stdout)); got != tt.want || err != nil {
			t.Errorf("%s: confined by %q (%v), want %q", name, got, err, tt.want)
		}
		// What the profile denies is denied, for a process that comes later too.
		res, err = client.ExecSync(t.Context(), c.ID, []string{"sh", "-c", "echo x > /denied"}, 10*time.Second)
		if denied := res.ExitCode != 0; denied != (name == "localhost") || err != nil {
			t.Errorf("%s: writes the file: %+v %v", name, res, err)
		}
	}
	r.apply(newPod("unknown", script("sleep 1000"), confined(corev1.AppArmorProfileTypeLocalhost, new("nobody-has-it"))))
	r.rec.wait(t, "the refusal", 30*time.Second, func() bool { return r.rec.hasEvent("nobody-has-it") })
}

// TestRealHugePages: a container has the pages that it has a limit of, as a volume too,
// and one without has none.
func TestRealHugePages(t *testing.T) {
	if have := allocatable(); have.Name(hugePages2Mi, resource.BinarySI).Value() < 4<<21 {
		testClient(t)
		t.Skip("this machine keeps no 4 huge pages of 2 MiB: sysctl vm.nr_hugepages=4")
	}
	const keep = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
	two := corev1.ResourceList{hugePages2Mi: resource.MustParse("4Mi"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	r := newRig(t,
		newPod("without", script(keep)),
		newPod("large", script(keep), func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: two, Requests: two}
			p.Spec.Volumes = []corev1.Volume{{Name: "pages", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumHugePages}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "pages", MountPath: "/pages"}}
		}))
	for name, want := range map[string]string{"without": "0", "large": "4194304"} {
		r.waitFor(t, name, "Running c=Running+")
		p, _ := r.m.Lookup("ns", name, "")
		c, _ := p.Container("c")
		pid, err := r.client.MainPID(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range []string{hugeGroup(t, pid), filepath.Dir(hugeGroup(t, pid))} {
			if got := groupFile(t, group, "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"); got != want {
				t.Errorf("%s: %s may have %s bytes of huge pages, want %s", name, group, got, want)
			}
		}
	}
	p, _ := r.m.Lookup("ns", "large", "")
	c, _ := p.Container("c")
	res, err := r.client.ExecSync(t.Context(), c.ID, []string{"grep", " /pages hugetlbfs ", "/proc/mounts"}, 10*time.Second)
	if err != nil || !strings.Contains(string(res.Stdout), "pagesize=2M") {
		t.Errorf("mounted: %q, %v", res.Stdout, err)
	}
}

// hugeGroup is the control group of a process as far as huge pages go.
func hugeGroup(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 && (fields[1] == "hugetlb" || fields[1] == "") {
			return fields[2]
		}
	}
	t.Fatalf("process %d is in no group: %s", pid, text)
	return ""
}
