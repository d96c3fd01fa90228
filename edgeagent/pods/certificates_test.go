package pods

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
)

// someCertificates gives all pods the same, or an error.
type someCertificates struct {
	mu    sync.Mutex // guards the following fields
	key   string
	err   error
	asked int
	gone  map[types.UID]bool
	left  []types.UID // pods of which there are keys
}

func (s *someCertificates) Certificate(*corev1.Pod, string, int) (key, chain []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return []byte(s.key), []byte("chain"), s.err
}

func (s *someCertificates) Forget(pod types.UID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[pod] = true
	s.left = slices.DeleteFunc(s.left, func(u types.UID) bool { return u == pod })
	return nil
}

func (s *someCertificates) Pods() []types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.left)
}

func (s *someCertificates) become(key string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.err, s.asked = key, err, 0
}

// TestPodCertificate: a pod whose cluster has no such thing is told so and runs nothing; it
// starts when that changes, shows what is renewed, and is forgotten when it is gone.
func TestPodCertificate(t *testing.T) {
	some := &someCertificates{gone: map[types.UID]bool{}, err: &volumes.UnsupportedError{Volume: "id", Source: "podCertificate", Why: "the cluster has none"}}
	pod := newPod("p", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "id", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{PodCertificate: &corev1.PodCertificateProjection{CredentialBundlePath: "bundle"}},
		}}}}}
	})
	some.left = []types.UID{pod.UID, "lost"} // by an agent that has lost its directories
	inBubble(t, func(b *bubble) {
		b.mounter = noMounts{}
		b.change = func(c *Config) { c.Certificates = some }
		b.objects.put(pod)
		b.objects.put(newPod("other"))
	}, func(b *bubble) {
		pass(time.Minute)
		b.see(t, "p", "Pending c=ContainerCreating")
		if !b.rec.hasEvent(`Warning FailedMount: volume "id": podCertificate volumes are not supported on this node: the cluster has none`) {
			t.Errorf("events %v", b.rec.events)
		}
		some.mu.Lock()
		if !some.gone["lost"] || some.gone[pod.UID] {
			t.Errorf("forgotten at the start: %v", some.gone)
		}
		some.mu.Unlock()
		if log := b.rt.log(); strings.Contains(log, "p#") || some.asked != 1 {
			t.Errorf("it runs half, or was tried %d times:\n%s", some.asked, log)
		}
		some.become("", volumes.ErrNotYet)
		b.m.Wake("nodes/edge-1")
		pass(time.Second)
		b.see(t, "p", "Pending c=ContainerCreating")
		some.become("one ", nil)
		b.m.Wake("podcertificaterequests/ns/answer")
		pass(time.Second)
		b.see(t, "p", "Running c=Running+")
		file := filepath.Join(b.m.env.volumes.Path(pod, &pod.Spec.Volumes[0]), "bundle")
		shows := func(want string) {
			t.Helper()
			if got, err := os.ReadFile(file); err != nil || string(got) != want {
				t.Errorf("%v, the volume shows %q, want %q", err, got, want)
			}
		}
		shows("one chain")
		some.become("two ", nil)
		b.m.Wake("podcertificaterequests/other/answer")
		pass(time.Second)
		shows("one chain")
		b.m.Wake("podcertificaterequests/ns/answer")
		pass(time.Second)
		shows("two chain")
		b.objects.remove(keyOf(pod))
		b.m.Wake(keyOf(pod))
		pass(time.Minute)
		some.mu.Lock()
		defer some.mu.Unlock()
		if !some.gone[pod.UID] {
			t.Error("its key was not forgotten")
		}
	})
}
