package e2e_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// reconfigure restarts the agent with other settings.
func reconfigure(t *testing.T, e *lab.Edge, keys map[string]string) {
	t.Helper()
	must(t, e.KillAgent(t.Context()))
	must(t, e.Configure(keys))
	must(t, e.StartAgent(t.Context()))
}

// wants is a pod of one idle container of an image.
func wants(ns, name string, e *lab.Edge, image string, policy corev1.PullPolicy) *corev1.Pod {
	c := shell("main", idle)
	c.Image, c.ImagePullPolicy = image, policy
	return newPod(ns, name, e, c)
}

// waits is a condition: the pod's container waits for this reason, and the message
// has these words.
func waits(reason string, words ...string) func(*corev1.Pod) error {
	return func(pod *corev1.Pod) error {
		if len(pod.Status.ContainerStatuses) == 0 || pod.Status.ContainerStatuses[0].State.Waiting == nil {
			return fmt.Errorf("phase %s, %+v", pod.Status.Phase, pod.Status.ContainerStatuses)
		}
		w := pod.Status.ContainerStatuses[0].State.Waiting
		for _, word := range words {
			if !strings.Contains(w.Message, word) {
				return fmt.Errorf("reason %s, message %q", w.Reason, w.Message)
			}
		}
		if w.Reason != reason {
			return fmt.Errorf("reason %s, want %s", w.Reason, reason)
		}
		return nil
	}
}

// TestImages pulls from a registry that wants to know who asks, and from a folder,
// and removes what nobody needs.
func TestImages(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	ns := newNamespace(t)
	r := newRegistry(t, e)
	private := r.addr + "/private/busybox:1"

	t.Run("no credentials", func(t *testing.T) {
		create(t, wants(ns, "nobody", e, private, corev1.PullIfNotPresent))
		waitPod(t, ns, "nobody", waits("ImagePullBackOff", `Back-off pulling image "`+private+`": ErrImagePull: `, "401 Unauthorized"))
	})
	t.Run("pull secret", func(t *testing.T) {
		config, err := json.Marshal(map[string]any{"auths": map[string]any{r.addr + "/private": map[string]string{"username": registryUser, "password": registryPassword}}})
		must(t, err)
		create(t, &corev1.Secret{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "regcred"},
			Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: config},
		})
		pod := wants(ns, "secret", e, private, corev1.PullIfNotPresent)
		pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "regcred"}}
		runPod(t, pod)
		if !r.has(registryUser + " private/busybox") {
			t.Errorf("asked %q", r.asked)
		}
	})
	t.Run("mirror", func(t *testing.T) {
		dir := e.Path("containerd", "registries", "mirrored.example")
		must(t, os.MkdirAll(dir, 0o755))
		hosts := fmt.Sprintf("server = \"https://mirrored.example\"\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", r.addr)
		must(t, os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(hosts), 0o600))
		runPod(t, wants(ns, "mirror", e, "mirrored.example/public/busybox:1", corev1.PullAlways))
		if !r.has(" public/busybox") {
			t.Errorf("asked %q", r.asked)
		}
	})
	t.Run("image volume", func(t *testing.T) {
		pod := wants(ns, "volume", e, lab.BusyboxImage, "")
		pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: lab.BusyboxImage}}}}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/data"}}
		create(t, pod)
		eventually(t, "an event that says why not", func() error {
			events := kubectl(t, "-n", ns, "get", "events", "--field-selector", "involvedObject.name=volume", "-o", "jsonpath={.items[*].message}")
			if !strings.Contains(events, "image volumes are not supported on this node: containerd 1.") {
				return fmt.Errorf("events %q", events)
			}
			return nil
		})
		if pod, err := getPod(t, ns, "volume"); err != nil || pod.Status.Phase != corev1.PodPending {
			t.Errorf("phase %s, %v", pod.Status.Phase, err)
		}
	})
	t.Run("folder", func(t *testing.T) {
		create(t, wants(ns, "folder", e, "example.com/from/a/folder:7", corev1.PullNever))
		waitPod(t, ns, "folder", waits("ErrImageNeverPull"))
		must(t, os.WriteFile(filepath.Join(e.StateDir(), "images", "busybox.tar"), renamedBusybox(t, "example.com/from/a/folder:7"), 0o600))
		waitPod(t, ns, "folder", running)
	})
	credentialProvider(t, e, ns, r)
	collection(t, e, ns, r)
}

// credentialProvider pulls with what an exec plugin of the machine gives.
func credentialProvider(t *testing.T, e *lab.Edge, ns string, r *registry) {
	t.Helper()
	dir := e.Path("plugins")
	must(t, os.Mkdir(dir, 0o755))
	answer := fmt.Sprintf(`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse",`+
		`"cacheKeyType":"Registry","auth":{"%s":{"username":%q,"password":%q}}}`, r.addr, registryUser, registryPassword)
	must(t, os.WriteFile(filepath.Join(dir, "lab-provider"), []byte("#!/bin/sh\ncat >/dev/null\necho '"+answer+"'\n"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"+
		"- {name: lab-provider, apiVersion: credentialprovider.kubelet.k8s.io/v1, matchImages: ["+r.addr+"], defaultCacheDuration: 1m}\n"), 0o600))
	reconfigure(t, e, map[string]string{"imageCredentialProviderConfig": filepath.Join(dir, "config.yaml"), "imageCredentialProviderBinDir": dir})
	runPod(t, wants(ns, "plugin", e, r.addr+"/private/plugin:1", corev1.PullAlways))
	waitPod(t, ns, "nobody", running) // which had no credentials
}

// collection has the disk count as too full: what is used, wanted, imported from the
// folder or needed by the runtime stays.
func collection(t *testing.T, e *lab.Edge, ns string, r *registry) {
	t.Helper()
	must(t, os.WriteFile(e.Path("other.tar"), emptyImage(t, "example.com/not/used:1"), 0o600))
	_, err := e.Ctr(t.Context(), "images", "import", e.Path("other.tar"))
	must(t, err)
	kubectl(t, "-n", ns, "delete", "pod", "folder")
	// A disk that has anything on it counts as 1 % full, however large it is.
	reconfigure(t, e, map[string]string{"imageGCHighThresholdPercent": "1", "imageGCLowThresholdPercent": "0", "imageMinimumGCAge": "1ns"})
	list := func() string {
		out, err := e.Ctr(t.Context(), "images", "ls", "-q")
		must(t, err)
		return out
	}
	eventually(t, "the removal of an image", func() error {
		if have := list(); strings.Contains(have, "example.com/not/used:1") {
			return fmt.Errorf("images %q", have)
		}
		return nil
	})
	for _, name := range []string{lab.BusyboxImage, lab.PauseImage, "example.com/from/a/folder:7", r.addr + "/private/plugin:1"} {
		if have := list(); !strings.Contains(have, name) {
			t.Errorf("%s is gone: %q", name, have)
		}
	}
	eventually(t, "an event of the node", func() error {
		out := kubectl(t, "get", "events", "--field-selector", "involvedObject.kind=Node,reason=FreeDiskSpaceFailed,involvedObject.name="+e.Name, "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(out, "Insufficient free disk space on the node's image filesystem") {
			return fmt.Errorf("events %q", out)
		}
		return nil
	})
	runPod(t, wants(ns, "later", e, lab.BusyboxImage, corev1.PullNever)) // with a sandbox
}

// renamedBusybox is the lab's busybox as docker save would write it under a name. It
// is another image: a runtime removes one with all its names.
func renamedBusybox(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(busyboxArchive())
	must(t, err)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for from := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		b, err := io.ReadAll(from)
		must(t, err)
		switch {
		case h.Name == "manifest.json":
			b = bytes.ReplaceAll(b, []byte(lab.BusyboxImage), []byte(name))
		case strings.HasSuffix(h.Name, ".json"):
			b = bytes.ReplaceAll(b, []byte("2026-01-01T"), []byte("2026-01-02T"))
		}
		h.Size = int64(len(b))
		must(t, w.WriteHeader(h))
		_, err = w.Write(b)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

// emptyImage is an image that only takes room.
func emptyImage(t *testing.T, name string) []byte {
	t.Helper()
	var layer, out bytes.Buffer
	lw := tar.NewWriter(&layer)
	must(t, lw.WriteHeader(&tar.Header{Name: "ballast", Mode: 0o644, Size: 1 << 20}))
	_, err := lw.Write(make([]byte, 1<<20))
	must(t, errors.Join(err, lw.Close()))
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%q]}}`, digestOf(layer.Bytes()))
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"config.json", []byte(config)},
		{"layer.tar", layer.Bytes()},
		{"manifest.json", fmt.Appendf(nil, `[{"Config":"config.json","RepoTags":[%q],"Layers":["layer.tar"]}]`, name)},
	} {
		must(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}))
		_, err := w.Write(f.data)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

// TestLogRotation: a container writes much more than its log may hold. Who follows
// gets every line, and who comes later the newest without a gap.
func TestLogRotation(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	reconfigure(t, e, map[string]string{"containerLogMaxSize": "64Ki", "containerLogMaxFiles": "3"})
	ns := newNamespace(t)
	const lines = 9000
	pod := newPod(ns, "talker", e, shell("main", fmt.Sprintf(
		`sleep 5; i=0; while [ $i -lt %d ]; do i=$((i+1)); echo "line $i ........................................"; [ $((i %% 100)) != 0 ] || sleep 0.5; done; sleep 5; exit 3`, lines)))
	runPod(t, pod)
	whole := kubectlFor(t, 3*time.Minute, "-n", ns, "logs", "-f", "talker")
	if first, last := ends(t, whole); first != 1 || last != lines {
		t.Errorf("followed from line %d to %d of %d", first, last, lines)
	}
	check := func(args ...string) {
		t.Helper()
		first, last := ends(t, kubectl(t, append([]string{"-n", ns, "logs", "talker"}, args...)...))
		if last != lines || first >= lines-100 {
			t.Errorf("logs %v go from line %d to %d of %d", args, first, last, lines)
		}
	}
	files, err := filepath.Glob(e.Path("podlogs", ns+"_talker_*", "main", "0.log*"))
	must(t, err)
	packed := 0
	for _, f := range files {
		if strings.HasSuffix(f, ".gz") {
			packed++
		}
	}
	if len(files) != 3 || packed != 1 {
		t.Errorf("files %q, want three, one of them compressed", files)
	}
	eventually(t, "the next run", func() error {
		pod, err := getPod(t, ns, "talker")
		if err == nil && pod.Status.ContainerStatuses[0].RestartCount == 0 {
			err = errors.New("it has not restarted")
		}
		return err
	})
	check("--previous")
	if first, last := ends(t, kubectl(t, "-n", ns, "logs", "talker", "--previous", "--tail=2000")); last != lines || first != lines-1999 {
		t.Errorf("the last 2000 lines go from %d to %d", first, last)
	}
}

// kubectlFor is kubectl for what takes long.
func kubectlFor(t *testing.T, patience time.Duration, args ...string) string {
	t.Helper()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := theLab.Kubectl(t.Context(), args...)
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		must(t, r.err)
		return r.out
	case <-time.After(patience):
		t.Fatalf("kubectl %v has not ended after %v", args, patience)
		return ""
	}
}

// ends gives the first and the last number of a log of numbered lines, none of
// which may be missing in between.
func ends(t *testing.T, log string) (first, last int) {
	t.Helper()
	for line := range strings.Lines(log) {
		var n int
		if _, err := fmt.Sscanf(line, "line %d ", &n); err != nil {
			t.Fatalf("line %q after %d: %v", line, last, err)
		}
		if first == 0 {
			first = n
		} else if n != last+1 {
			t.Fatalf("line %d after %d", n, last)
		}
		last = n
	}
	return first, last
}
