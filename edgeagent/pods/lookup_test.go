package pods

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// curious is a Reporter that looks for what it is told of.
type curious struct {
	*recorder
	b     *bubble
	found []string // containers by the status, and by Lookup
}

func (c *curious) PodStatus(p *corev1.Pod) {
	c.recorder.PodStatus(p)
	ids := p.Status.ContainerStatuses[0].ContainerID
	there, _ := c.b.m.Lookup(p.Namespace, p.Name, p.UID)
	for i := range there.Containers {
		ids += " fake://" + there.Containers[i].ID
	}
	c.found = append(c.found, ids)
}

// Who hears of a container finds it: kubectl waits for a pod to run, and has a command
// run in it then.
func TestLookupOfWhatIsReported(t *testing.T) {
	c := &curious{}
	inBubble(t, func(b *bubble) {
		c.recorder, c.b = b.rec, b
		b.change = func(cfg *Config) { cfg.Reporter = c }
		b.objects.put(newPod("p"))
	}, func(b *bubble) {
		pass(time.Second)
		b.see(t, "p", "Running c=Running+")
		if d := cmp.Diff([]string{"", "", "fake://c-2 fake://c-2"}, c.found); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}
