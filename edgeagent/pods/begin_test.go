package pods

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// lateObjects has a pod come just after the pods were read for the first time.
type lateObjects struct {
	*memObjects

	came func()
}

func (o *lateObjects) Pods() ([]*corev1.Pod, error) {
	pods, err := o.memObjects.Pods()
	if o.came != nil {
		o.came()
		o.came = nil
	}
	return pods, err
}

// A pod that is stored while the manager begins is not passed over.
func TestPodComesWhileTheManagerBegins(t *testing.T) {
	late := &lateObjects{memObjects: newObjects()}
	inBubble(t, func(b *bubble) {
		b.objects, b.layer = late.memObjects, late
		late.came = func() {
			late.put(newPod("late"))
			b.m.Wake("pods/ns/late")
			pass(time.Second) // it is looked at meanwhile
		}
	}, func(b *bubble) {
		pass(10 * time.Second)
		if log := b.rt.log(); !strings.Contains(log, "sandbox late#0") {
			t.Errorf("the pod was not started:\n%s", log)
		}
	})
}
