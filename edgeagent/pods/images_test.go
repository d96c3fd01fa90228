package pods

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

func pulls(image string, p corev1.PullPolicy) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Image, pod.Spec.Containers[0].ImagePullPolicy = image, p
	}
}

// about are the events about images, in order.
func (r *recorder) about(reasons ...string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		if _, rest, _ := strings.Cut(e, " "); slices.ContainsFunc(reasons, func(s string) bool { return strings.HasPrefix(rest, s+":") }) {
			out = append(out, e)
		}
	}
	return out
}

// TestImageWords holds what people and tools look for: reasons, messages, events.
func TestImageWords(t *testing.T) {
	const image = "r.io/a:1"
	for _, tt := range []struct {
		name    string
		pod     func(*corev1.Pod)
		present bool
		err     error
		after   time.Duration
		status  string
		message string
		events  []string
		pulls   int
	}{
		{
			name: "never, absent", pod: pulls(image, corev1.PullNever), status: "Pending c=ErrImageNeverPull",
			message: `Container image "r.io/a:1" is not present with pull policy of Never`,
			events:  []string{`Warning ErrImageNeverPull: Container image "r.io/a:1" is not present with pull policy of Never`, "Warning Failed: Error: ErrImageNeverPull"},
		},
		{
			name: "never, present", pod: pulls(image, corev1.PullNever), present: true, status: "Running c=Running+",
			events: []string{`Normal Pulled: Container image "r.io/a:1" already present on machine`},
		},
		{
			name: "if not present, present", pod: pulls(image, corev1.PullIfNotPresent), present: true, status: "Running c=Running+",
			events: []string{`Normal Pulled: Container image "r.io/a:1" already present on machine`},
		},
		{
			name: "if not present, absent", pod: pulls(image, corev1.PullIfNotPresent), status: "Running c=Running+", pulls: 1,
			events: []string{`Normal Pulling: Pulling image "r.io/a:1"`, `Normal Pulled: Successfully pulled image "r.io/a:1" in 0s (0s including waiting). Image size: 42 bytes.`},
		},
		{
			name: "always, present", pod: pulls(image, corev1.PullAlways), present: true, status: "Running c=Running+", pulls: 1,
			events: []string{`Normal Pulling: Pulling image "r.io/a:1"`, `Normal Pulled: Successfully pulled image "r.io/a:1" in 0s (0s including waiting). Image size: 42 bytes.`},
		},
		{
			name: "no name", pod: pulls("r.io/A:1", corev1.PullIfNotPresent), status: "Pending c=InvalidImageName",
			message: `Failed to apply default image tag "r.io/A:1": couldn't parse image name "r.io/A:1": invalid reference format: repository name (A) must be lowercase`,
			events: []string{
				`Warning InspectFailed: Failed to apply default image tag "r.io/A:1": couldn't parse image name "r.io/A:1": invalid reference format: repository name (A) must be lowercase`,
				"Warning Failed: Error: InvalidImageName",
			},
		},
		{
			name: "pull fails", pod: pulls(image, corev1.PullIfNotPresent), status: "Pending c=ErrImagePull", pulls: 1,
			err:     &cri.RuntimeError{Text: "rpc error: code = NotFound desc = no such image"},
			message: "rpc error: code = NotFound desc = no such image",
			events: []string{
				`Normal Pulling: Pulling image "r.io/a:1"`,
				`Warning Failed: Failed to pull image "r.io/a:1": rpc error: code = NotFound desc = no such image`, "Warning Failed: Error: ErrImagePull",
			},
		},
		{
			name: "back-off", pod: pulls(image, corev1.PullIfNotPresent), status: "Pending c=ImagePullBackOff", pulls: 1, after: 6 * time.Second,
			err:     &cri.RuntimeError{Text: "rpc error: code = NotFound desc = no such image"},
			message: `Back-off pulling image "r.io/a:1": ErrImagePull: rpc error: code = NotFound desc = no such image`,
			events: []string{
				`Normal Pulling: Pulling image "r.io/a:1"`,
				`Warning Failed: Failed to pull image "r.io/a:1": rpc error: code = NotFound desc = no such image`, "Warning Failed: Error: ErrImagePull",
				`Normal BackOff: Back-off pulling image "r.io/a:1"`, "Warning Failed: Error: ImagePullBackOff",
			},
		},
		{
			name: "registry away", pod: pulls(image, corev1.PullIfNotPresent), status: "Pending c=RegistryUnavailable", pulls: 1,
			err: &cri.RuntimeError{Text: "RegistryUnavailable: no route"}, message: "image pull failed for r.io/a:1 because the registry is unavailable: no route",
			events: []string{
				`Normal Pulling: Pulling image "r.io/a:1"`,
				`Warning Failed: Failed to pull image "r.io/a:1": RegistryUnavailable: no route`, "Warning Failed: Error: RegistryUnavailable",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.rt.images = map[string]bool{image: tt.present}
				if tt.err != nil {
					b.rt.fail["pull"] = tt.err
				}
				b.objects.put(newPod("p", tt.pod))
			}, func(b *bubble) {
				pass(tt.after)
				b.see(t, "p", tt.status)
				s := b.rec.get("ns/p")
				if w := s.ContainerStatuses[0].State.Waiting; tt.message != "" && (w == nil || w.Message != tt.message) {
					t.Errorf("message %+v, want %s", w, tt.message)
				}
				if d := cmp.Diff(tt.events, b.rec.about("Pulling", "Pulled", "Failed", "BackOff", "ErrImageNeverPull", "InspectFailed")); d != "" {
					t.Error(d)
				}
				if got := strings.Count(b.rt.log(), "pull "); got != tt.pulls {
					t.Errorf("%d pulls, want %d", got, tt.pulls)
				}
			})
		})
	}
}

func TestPullBackOffTimes(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.fail["pull"] = errNope
		b.objects.put(newPod("p", pulls("r.io/a", "")))
	}, func(b *bubble) {
		pass(25 * time.Minute)
		var at []string
		for line := range strings.Lines(b.rt.log()) {
			if when, what, _ := strings.Cut(line, " "); strings.HasPrefix(what, "pull") {
				at = append(at, when)
			}
		}
		want := []string{"0s", "10s", "30s", "1m10s", "2m30s", "5m10s", "10m10s", "15m10s", "20m10s"}
		if d := cmp.Diff(want, at); d != "" {
			t.Error(d)
		}
		// Another image has no back-off, and begins with the shortest.
		pod, _ := b.objects.Pod("pods/ns/p")
		pod = pod.DeepCopy()
		pod.Spec.Containers[0].Image = "r.io/b:2"
		b.objects.put(pod)
		b.m.Wake("pods/ns/p")
		pass(11 * time.Second)
		if got := strings.Count(b.rt.log(), "pull r.io/b:2"); got != 2 {
			t.Errorf("%d pulls of the other image in 11 s, want 2", got)
		}
	})
}

func TestPullSecrets(t *testing.T) {
	config := func(user string) *corev1.Secret {
		return &corev1.Secret{
			Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{"r.io":{"username":%q,"password":"p"}}}`, user)},
		}
	}
	inBubble(t, func(b *bubble) {
		b.rt.fail["pull "], b.rt.fail["pull old"] = errNope, errNope
		b.objects.put(newPod("p", pulls("r.io/a:1", ""), func(p *corev1.Pod) {
			p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "first"}, {Name: "second"}}
		}))
	}, func(b *bubble) {
		pass(0)
		b.see(t, "p", "Pending c=ErrImagePull")
		if !b.rec.hasEvent("Warning FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (first, second); attempting to pull the image may not succeed.") {
			t.Error("nobody hears of the secrets")
		}
		b.objects.mu.Lock()
		b.objects.secrets["ns/first"], b.objects.secrets["ns/second"] = config("old"), config("new")
		b.objects.mu.Unlock()
		b.m.Wake("secrets/ns/first") // the back-off is not waited for
		pass(time.Second)
		b.see(t, "p", "Running c=Running+")
		var tried []string
		for line := range strings.Lines(b.rt.log()) {
			if _, rest, ok := strings.Cut(strings.TrimSpace(line), " pull "); ok {
				tried = append(tried, rest)
			}
		}
		if d := cmp.Diff([]string{"r.io/a:1", "r.io/a:1 old", "r.io/a:1 new"}, tried); d != "" {
			t.Error(d)
		}
	})
}

// TestImagesChanged: an image that was imported is found at once.
func TestImagesChanged(t *testing.T) {
	inBubble(t, func(b *bubble) { b.objects.put(newPod("p", pulls("r.io/a:1", corev1.PullNever))) }, func(b *bubble) {
		pass(time.Second)
		b.see(t, "p", "Pending c=ErrImageNeverPull")
		b.rt.mu.Lock()
		b.rt.images["r.io/a:1"] = true
		b.rt.mu.Unlock()
		b.m.ImagesChanged()
		pass(time.Second)
		b.see(t, "p", "Running c=Running+")
	})
}

func TestParallelPulls(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.rt.pullTime = time.Minute
		for i := range 5 {
			b.objects.put(newPod(fmt.Sprint("p", i), pulls(fmt.Sprintf("r.io/a:%d", i), "")))
		}
	}, func(b *bubble) {
		for minute, want := range []int{2, 4, 5} {
			pass(time.Second)
			if got := strings.Count(b.rt.log(), "pull "); got != want {
				t.Errorf("%d pulls began in minute %d, want %d", got, minute, want)
			}
			pass(time.Minute)
		}
	})
}
