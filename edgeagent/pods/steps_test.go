package pods

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// stepLog is what the cloud would hear.
type stepLog struct {
	mu  sync.Mutex
	log []string
}

func (s *stepLog) Pod(pod *corev1.Pod, step wire.Step) {
	s.add(pod.Name + "@" + pod.ResourceVersion + " " + step.String())
}
func (s *stepLog) Object(key string) { s.add(key) }

func (s *stepLog) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, line)
}

func (s *stepLog) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}

func TestStepsAreTold(t *testing.T) {
	steps := &stepLog{}
	configMap := func(value string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cm"}, Data: map[string]string{"a": value}}
	}
	inBubble(t, func(b *bubble) {
		b.steps = steps
		b.objects.configMaps["ns/cm"] = configMap("1")
		b.objects.put(newPod("p", func(p *corev1.Pod) {
			p.ResourceVersion = "1"
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
				ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, InitialDelaySeconds: 5,
			}
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}},
			}}}
		}))
	}, func(b *bubble) {
		want := func(what string, lines ...string) {
			t.Helper()
			if diff := cmp.Diff(lines, steps.take()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		pass(time.Second)
		want("started, not ready", "p@1 applied")
		pass(30 * time.Second)
		want("ready", "p@1 running")

		b.objects.mu.Lock()
		b.objects.configMaps["ns/cm"] = configMap("2")
		b.objects.mu.Unlock()
		b.m.Wake("configmaps/ns/cm")
		pass(0)
		want("a volume shows it", "configmaps/ns/cm")
		b.m.Wake("configmaps/ns/other")
		b.m.Wake("secrets/ns/other")
		pass(0)
		if got := steps.take(); len(got) != 2 {
			t.Errorf("what no volume shows is applied at once: got %q", got)
		}
		pass(time.Hour)
		want("time passes")
	})
}
