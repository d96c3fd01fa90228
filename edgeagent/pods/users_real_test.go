package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/pods/admission"
	"github.com/skerry-io/skerry/edgeagent/pods/userns"
	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// canRealUsers says whether the runtime gives pods users of their own.
func canRealUsers(tb testing.TB, client *cri.Client) bool {
	tb.Helper()
	can, err := (&rig{client: client}).features(tb.Context(), "")
	if err != nil {
		tb.Fatal(err)
	}
	return can.UserNamespaces
}

// TestRealUsersRefused: a runtime that can't is asked for nothing.
func TestRealUsersRefused(t *testing.T) {
	if canRealUsers(t, testClient(t)) {
		t.Skip("the runtime can")
	}
	r := newRig(t, newPod("own", withOwnUsers, script("sleep 1000")))
	r.rec.wait(t, "the refusal", 20*time.Second, func() bool {
		return r.rec.hasEvent("FailedCreatePodSandBox: Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces")
	})
	if list, err := r.client.ListSandboxes(t.Context(), map[string]string{labelPodName: "own"}); err != nil || len(list) > 0 {
		t.Errorf("sandboxes %v, %v", list, err)
	}
}

// TestRealUsersRefusedMemory: an older kernel can't, and nothing of the pod runs.
func TestRealUsersRefusedMemory(t *testing.T) {
	if !canRealUsers(t, testClient(t)) || admission.AtLeast(kernelVersion(), [2]int{6, 3}) {
		t.Skip("the runtime can't, or the kernel can")
	}
	r := newRig(t, newPod("own", withOwnUsers, script("sleep 1000"), func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
	}))
	r.rec.wait(t, "the refusal", 20*time.Second, func() bool {
		return r.rec.hasEvent("FailedCreatePodSandBox: Failed to create pod sandbox: can't set `spec.hostUsers: false`, volume \"mem\" is in memory")
	})
	if list, err := r.client.ListSandboxes(t.Context(), map[string]string{labelPodName: "own"}); err != nil || len(list) > 0 {
		t.Errorf("sandboxes %v, %v", list, err)
	}
}

// TestRealUsers: root inside is nobody outside, and files belong inside to those to
// whom they belong in a pod with the machine's users.
func TestRealUsers(t *testing.T) {
	if !canRealUsers(t, testClient(t)) {
		t.Skip("the runtime can't")
	}
	inMemory := admission.AtLeast(kernelVersion(), [2]int{6, 3})
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "roots"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The same questions to both pods; only what a user namespace is must differ.
	const asks = `set -e
cat /proc/self/uid_map > /empty/uids; cat /proc/self/gid_map > /empty/gids
who() { echo "$1 $(stat -L -c '%u:%g %a' $1)"; }
for f in /etc/hosts /etc/hostname /etc/resolv.conf /dev/termination-log /empty /cfg/a /sub /host/roots /bin/busybox; do who $f; done > /empty/owners
cat /cfg/a /sub > /empty/texts
if [ -d /mem ]; then
  for f in /mem /secret /secret/s /all/s /all/name; do who $f; done >> /empty/owners
  cat /secret/s /all/name >> /empty/texts
  echo mine > /mem/file; chown 7:8 /mem/file; who /mem/file >> /empty/owners
fi
echo mine > /empty/file; chown 7:8 /empty/file; who /empty/file >> /empty/owners; echo mine > /host/new; chown 5:6 /host/new
echo words > /dev/termination-log
trap 'exit 0' TERM; while :; do sleep 0.1; done`
	mounts := func(p *corev1.Pod) {
		named := corev1.LocalObjectReference{Name: "cm"}
		p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: new(int64(3000))}
		p.Spec.Volumes = []corev1.Volume{
			{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
			{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: new(int32(0o400))}}},
			{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: named}}},
			{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
			}}}},
			{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: host}}},
		}
		if !inMemory {
			p.Spec.Volumes = slices.DeleteFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return volumes.InMemory(&v) })
		}
		for _, v := range p.Spec.Volumes {
			p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
		}
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "cfg", MountPath: "/sub", SubPath: "a"})
	}
	r := newRig(t)
	r.objects.secrets["ns/s"] = &corev1.Secret{Data: map[string][]byte{"s": []byte("secret")}}
	r.objects.configMaps["ns/cm"] = &corev1.ConfigMap{Data: map[string]string{"a": "one"}}
	for _, name := range []string{"shared", "own", "other"} {
		p := newPod(name, script(asks), mounts)
		if name != "shared" {
			withOwnUsers(p)
		}
		r.apply(p)
		r.waitFor(t, name, "Running c=Running+")
	}
	read := func(pod, file string) string {
		t.Helper()
		path := filepath.Join(r.dir, "state/pods/uid-"+pod+"/volumes/kubernetes.io~empty-dir/empty", file)
		var b []byte
		r.rec.wait(t, path, 20*time.Second, func() bool {
			var err error
			b, err = os.ReadFile(path)
			return err == nil && len(b) > 0
		})
		return string(b)
	}
	r.rec.wait(t, "the last answers", 20*time.Second, func() bool {
		return read("own", "file") != "" && read("other", "file") != "" && read("shared", "file") != ""
	})
	for i, name := range []string{"own", "other"} {
		if got, want := read(name, "owners"), read("shared", "owners"); got != want {
			t.Errorf("%s: owners\n%s\nwith the machine's users\n%s", name, got, want)
		}
		want := "oneone"
		if inMemory {
			want += "secretns"
		}
		if got := read(name, "texts"); got != want {
			t.Errorf("%s reads %q", name, got)
		}
		want = fmt.Sprintf("0 %d %d", (i+1)*userns.Size, userns.Size)
		for _, of := range []string{"uids", "gids"} {
			if got := strings.Join(strings.Fields(read(name, of)), " "); got != want {
				t.Errorf("%s: %s %q, want %q", name, of, got, want)
			}
		}
		p, _ := r.m.Lookup("ns", name, "")
		pid, err := r.client.MainPID(t.Context(), p.Containers[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if first := (i + 1) * userns.Size; !strings.Contains(string(status), fmt.Sprintf("Uid:\t%d\t", first)) || err != nil {
			t.Errorf("%s: its root is not %d on the machine: %v\n%s", name, first, err, status)
		}
	}
	info, err := os.Stat(filepath.Join(host, "new"))
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("a file given to 5:6 inside is on the disk %+v", info.Sys())
	}
	// Commands, and what the container says last, go the usual ways.
	own, _ := r.m.Lookup("ns", "own", "")
	if res, err := r.client.ExecSync(t.Context(), own.Containers[0].ID, []string{"id", "-u"}, 5*time.Second); err != nil || string(res.Stdout) != "0\n" {
		t.Errorf("id: %q %v", res.Stdout, err)
	}
	// The next agent restarts a container with the users of its sandbox.
	r.stop()
	r.start(t)
	r.waitFor(t, "own", "Running c=Running+")
	_, _ = r.client.ExecSync(t.Context(), own.Containers[0].ID, []string{"kill", "1"}, 5*time.Second)
	s := r.waitFor(t, "own", "Running c=Running+#1")
	if last := s.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.Message != "words\n" {
		t.Errorf("last state %+v", last)
	}
}
