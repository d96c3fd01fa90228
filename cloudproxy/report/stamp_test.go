package report

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// says is a report that a pod or the Node has a message, from a place in an outbox.
func says(t *testing.T, subject wire.Subject, seq uint64, message string) wire.Report {
	t.Helper()
	r := wire.Report{Seq: seq, Subject: subject}
	var err error
	if subject == wire.SubjectNode {
		s := corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Message: message}}}
		r.Value, err = s.Marshal()
	} else {
		pod := throttledPod
		pod.Status.Message = message
		r.Value, err = pod.Marshal()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// message is what the API shows.
func message(t *testing.T, client *fake.Clientset, subject wire.Subject) string {
	t.Helper()
	if subject == wire.SubjectNode {
		node, err := client.CoreV1().Nodes().Get(t.Context(), "e1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return findNodeCondition(&node.Status, corev1.NodeReady).Message
	}
	pod, err := client.CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod.Status.Message
}

// TestLaterReportStays: two replicas write what one edge reported, and the one that
// has lost the edge is the later to write.
func TestLaterReportStays(t *testing.T) {
	mine, another := [8]byte{1}, [8]byte{2}
	for name, subject := range map[string]wire.Subject{"pod": wire.SubjectPod, "node": wire.SubjectNode} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "e1", Annotations: map[string]string{AnnotationOwner: owner}}}
				client := fake.NewClientset(throttledPod.DeepCopy(), node)
				r, err := New(Config{Client: client})
				if err != nil {
					t.Fatal(err)
				}
				write := func(outbox [8]byte, seq uint64, text string) error {
					return r.write(t.Context(), "e1", stamp{outbox, seq}, says(t, subject, seq, text))
				}
				for _, step := range []struct {
					outbox  [8]byte
					seq     uint64
					text    string
					want    string
					refused bool
				}{
					{mine, 7, "seven", "seven", false},
					{mine, 5, "five", "seven", true},
					{mine, 9, "nine", "nine", false},
					{mine, 9, "nine", "nine", false},
					{another, 3, "a new disk", "a new disk", false},
					{mine, 10, "not comparable", "not comparable", false},
					{[8]byte{}, 1, "nobody knows", "nobody knows", false},
				} {
					if err := write(step.outbox, step.seq, step.text); errors.Is(err, errOvertaken) != step.refused || !step.refused && err != nil {
						t.Errorf("%s: got %v, refused %t", step.text, err, step.refused)
					}
					if got := message(t, client, subject); got != step.want {
						t.Errorf("after %q the API says %q", step.text, got)
					}
				}
				// A disk that was put back to what it was gives out seqs again.
				if err := write(mine, 10, "ten"); err != nil {
					t.Error(err)
				}
				<-time.After(stampLife + time.Second)
				if err := write(mine, 2, "two"); err != nil {
					t.Errorf("a stamp of long ago: %v", err)
				}
			})
		})
	}
}

// TestRepeatedReportWritesNothing: an acknowledgement that was lost costs no write.
func TestRepeatedReportWritesNothing(t *testing.T) {
	client := fake.NewClientset(throttledPod.DeepCopy())
	r, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := r.write(t.Context(), "e1", stamp{[8]byte{1}, 7}, says(t, wire.SubjectPod, 7, "m")); err != nil {
			t.Fatal(err)
		}
	}
	patches := 0
	for _, a := range client.Actions() {
		if a.Matches("patch", "pods/status") {
			patches++
		}
	}
	if patches != 1 {
		t.Errorf("%d patches, want 1", patches)
	}
}

// TestLaterReportBetweenReadAndWrite: the patch holds only for what was read, and
// what there is then is looked at again.
func TestLaterReportBetweenReadAndWrite(t *testing.T) {
	pod := throttledPod.DeepCopy()
	pod.ResourceVersion = "1"
	client := fake.NewClientset(pod)
	r, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	conflicts := 0
	client.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		if conflicts++; conflicts > 1 {
			return false, nil, nil
		}
		other := pod.DeepCopy()
		other.Status.Message = "later"
		if err := (stamp{[8]byte{1}, 8}).onPod(&pod.Status, &other.Status); err != nil {
			t.Error(err)
		}
		resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
		if err := client.Tracker().Update(resource, other, other.Namespace); err != nil {
			t.Error(err)
		}
		return true, nil, apierrors.NewConflict(resource.GroupResource(), "web", errors.New("it has changed"))
	})
	err = r.write(t.Context(), "e1", stamp{[8]byte{1}, 7}, says(t, wire.SubjectPod, 7, "earlier"))
	if !errors.Is(err, errOvertaken) || conflicts != 1 {
		t.Errorf("got %v after %d conflicts, want %v after 1", err, conflicts, errOvertaken)
	}
	if got := message(t, client, wire.SubjectPod); got != "later" {
		t.Errorf("the API says %q", got)
	}
}

// mirrorReport is what e1 says of its static pod web-e1.
func mirrorReport(t *testing.T, seq uint64, uid types.UID, message string) wire.Report {
	t.Helper()
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-e1", UID: uid},
		Spec:       corev1.PodSpec{NodeName: "e1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Message: message},
	}
	report := wire.Report{Seq: seq, Subject: wire.SubjectStaticPod, Key: "pods/default/web-e1"}
	if uid == "" {
		return report // it is gone
	}
	var err error
	if report.Value, err = pod.Marshal(); err != nil {
		t.Fatal(err)
	}
	return report
}

// TestLaterMirrorStays: so it is with static pods, whose mirrors come and go with what
// is reported.
func TestLaterMirrorStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "e1", Annotations: map[string]string{AnnotationOwner: owner}}}
		client := fake.NewClientset(node)
		r, err := New(Config{Client: client})
		if err != nil {
			t.Fatal(err)
		}
		list := func(seq uint64, uids string) wire.Report {
			return wire.Report{Seq: seq, Subject: wire.SubjectStaticPods, Key: "static", Value: []byte(uids)}
		}
		for _, step := range []struct {
			name    string
			report  wire.Report
			want    string
			refused bool
		}{
			{"made", mirrorReport(t, 7, "h1", "seven"), "h1 seven", false},
			{"an older status", mirrorReport(t, 5, "h1", "five"), "h1 seven", true},
			{"an older end", mirrorReport(t, 5, "", ""), "h1 seven", true},
			{"an older file", mirrorReport(t, 5, "h0", "five"), "h1 seven", true},
			{"an older list", list(6, ""), "h1 seven", false},
			{"the same again", mirrorReport(t, 7, "h1", "seven"), "h1 seven", false},
			{"a newer status", mirrorReport(t, 8, "h1", "eight"), "h1 eight", false},
			{"a newer file", mirrorReport(t, 9, "h2", "nine"), "h2 nine", false},
			{"the file before it", mirrorReport(t, 8, "h1", "eight"), "h2 nine", true},
			{"a newer list", list(10, ""), "", false},
			{"back", mirrorReport(t, 11, "h2", "eleven"), "h2 eleven", false},
			{"a newer end", mirrorReport(t, 12, "", ""), "", false},
		} {
			err := r.write(t.Context(), "e1", stamp{[8]byte{1}, step.report.Seq}, step.report)
			if errors.Is(err, errOvertaken) != step.refused || !step.refused && err != nil {
				t.Errorf("%s: got %v, refused %t", step.name, err, step.refused)
			}
			got := ""
			if pod, err := client.CoreV1().Pods("default").Get(t.Context(), "web-e1", metav1.GetOptions{}); err == nil {
				got = pod.Annotations[corev1.MirrorPodAnnotationKey] + " " + pod.Status.Message
			}
			if got != step.want {
				t.Errorf("%s: the API says %q, want %q", step.name, got, step.want)
			}
		}
	})
}

// TestLaterMirrorBetweenReadAndWrite: the patch of a mirror, too, holds only for what
// was read.
func TestLaterMirrorBetweenReadAndWrite(t *testing.T) {
	mirror := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "web-e1", UID: "m1", ResourceVersion: "1", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "h1"},
		},
		Spec: corev1.PodSpec{NodeName: "e1"},
	}
	client := fake.NewClientset(mirror.DeepCopy())
	r, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	conflicts := 0
	client.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		p, ok := a.(clienttesting.PatchAction)
		if conflicts++; conflicts > 1 || !ok || !bytes.Contains(p.GetPatch(), []byte(`"resourceVersion":"1"`)) {
			return false, nil, nil
		}
		other := mirror.DeepCopy()
		other.Status.Message = "later"
		if err := (stamp{[8]byte{1}, 8}).onPod(&mirror.Status, &other.Status); err != nil {
			t.Error(err)
		}
		if err := client.Tracker().Update(resource, other, other.Namespace); err != nil {
			t.Error(err)
		}
		return true, nil, apierrors.NewConflict(resource.GroupResource(), "web-e1", errors.New("it has changed"))
	})
	err = r.write(t.Context(), "e1", stamp{[8]byte{1}, 7}, mirrorReport(t, 7, "h1", "earlier"))
	if !errors.Is(err, errOvertaken) || conflicts != 1 {
		t.Errorf("got %v after %d conflicts, want %v after 1", err, conflicts, errOvertaken)
	}
	pod, err := client.CoreV1().Pods("default").Get(t.Context(), "web-e1", metav1.GetOptions{})
	if err != nil || pod.Status.Message != "later" {
		t.Errorf("the API says %q, %v", pod.Status.Message, err)
	}
}
