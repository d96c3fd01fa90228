package pods

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// partObjects has static pods beside those of a store that is not complete.
type partObjects struct {
	*memObjects
	missing error
}

func (o *partObjects) Pods() ([]*corev1.Pod, error) {
	list, err := o.memObjects.Pods()
	if o.missing == nil || err != nil {
		return list, err
	}
	var out []*corev1.Pod
	for _, p := range list {
		if static(p) {
			out = append(out, p)
		}
	}
	return out, o.missing
}

func fromFile(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationSource: SourceFile} }

// A static pod starts, restarts and ends before the cloud has told anything, and
// what runs here and is not known yet is left alone.
func TestStaticPodWithoutCloud(t *testing.T) {
	part := &partObjects{memObjects: newObjects(), missing: errors.New("never synced")}
	inBubble(t, func(b *bubble) {
		b.objects = part.memObjects
		b.layer = part
		b.objects.put(newPod("static", fromFile))
		b.objects.put(newPod("cloud"))
		b.rt.exitAfter["c"], b.rt.exitCode["c"] = time.Second, 1
	}, func(b *bubble) {
		pass(10 * time.Second)
		log := b.rt.log()
		if !strings.Contains(log, "sandbox static#0") || strings.Contains(log, "sandbox cloud") || !strings.Contains(log, "create c#1") {
			t.Errorf("before the cloud:\n%s", log)
		}
		b.m.Wake("pods/ns/cloud")
		pass(time.Second)
		if strings.Contains(b.rt.log(), "sandbox cloud") {
			t.Error("a pod of the store starts before all is known")
		}
		part.mu.Lock()
		part.missing = nil
		part.mu.Unlock()
		pass(10 * time.Second)
		if !strings.Contains(b.rt.log(), "sandbox cloud#0") {
			t.Errorf("with a cloud:\n%s", b.rt.log())
		}
		b.rec.mu.Lock()
		defer b.rec.mu.Unlock()
		if _, ok := b.rec.status["ns/static"]; ok {
			t.Error("the API is told of a static pod as of one of its own")
		}
		if p := b.rec.static["ns/static"]; p == nil || p.Status.Phase == "" || len(p.Spec.Containers) != 1 {
			t.Errorf("nobody is told of the static pod, or not all: %+v", p)
		}
		if b.rec.static["ns/cloud"] != nil {
			t.Error("a pod of the cloud is told as a static one")
		}
		if _, ok := b.rec.status["ns/cloud"]; !ok {
			t.Error("the API is not told of the other pod")
		}
	})
}

// A changed file is another pod, which waits for the end of the first.
func TestStaticPodReplaced(t *testing.T) {
	inBubble(t, func(b *bubble) {
		b.objects.put(newPod("p", fromFile))
		b.rt.deaf["c"] = true // so that it takes its grace period to end
	}, func(b *bubble) {
		pass(5 * time.Second)
		b.objects.put(newPod("p", fromFile, func(p *corev1.Pod) { p.UID = "another" }))
		b.m.Wake("pods/ns/p")
		pass(20 * time.Second)
		if strings.Count(b.rt.log(), "sandbox p") != 1 {
			t.Errorf("it did not wait:\n%s", b.rt.log())
		}
		pass(20 * time.Second)
		if strings.Count(b.rt.log(), "sandbox p") != 2 {
			t.Errorf("it does not start:\n%s", b.rt.log())
		}
		list := b.m.Pods()
		if len(list) != 1 || list[0].UID != "another" || list[0].Status.Phase != corev1.PodRunning {
			t.Errorf("pods %+v", list)
		}
	})
}
