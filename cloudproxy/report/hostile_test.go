package report

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/cloudproxy/newest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxReport is what cloudproxy/DESIGN.md says that a report costs at most.
const maxReport = 32 << 20

// field is one of a protobuf message, of bytes.
func field(number int, value []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(number)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// manyStatuses is a report whose pod has so many containers that nothing is said of.
func manyStatuses(n int) []byte {
	meta := bytes.Join([][]byte{field(1, []byte("web")), field(3, []byte("default")), field(5, []byte("u1"))}, nil)
	return append(field(1, meta), field(3, bytes.Repeat(field(8, nil), n))...)
}

// TestReportsCostWhatTheyAre: a report of two bytes for each item, which are hundreds
// in memory.
func TestReportsCostWhatTheyAre(t *testing.T) {
	manyContainers := append(manyStatuses(0), field(2, bytes.Repeat(field(2, nil), 100_000))...)
	for _, tt := range []struct {
		name    string
		subject wire.Subject
		value   []byte
		refused bool
	}{
		{"statuses", wire.SubjectPod, manyStatuses(100_000), true},
		{"statuses that may be", wire.SubjectPod, manyStatuses(maxFields - 10), false},
		{"statuses and an end that is none", wire.SubjectPod, append(manyStatuses(100_000), 0xff), true},
		{"a spec, which nobody asked for", wire.SubjectPod, manyContainers, true},
		{"conditions", wire.SubjectNode, bytes.Repeat(field(4, nil), 100_000), true},
		{"managed fields", wire.SubjectEvent, field(1, bytes.Repeat(field(17, nil), 100_000)), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := throttledPod.DeepCopy()
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "e1", Annotations: map[string]string{AnnotationOwner: owner}}}
			r, err := New(Config{Client: fake.NewClientset(pod, node)})
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err = newLanes(r, "e1").try(t.Context(), wire.Report{Seq: 1, Subject: tt.subject, Key: "k", Value: tt.value})
			runtime.ReadMemStats(&after)
			took := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d bytes cost %d: %v", len(tt.value), took, err)
			if bad := hopeless(err); bad != tt.refused {
				t.Errorf("refused %t (%v), want %t", bad, err, tt.refused)
			}
			most := uint64(1 << 20)
			if !tt.refused {
				most = maxReport
			}
			if took > most {
				t.Errorf("%d bytes cost %d, want at most %d", len(tt.value), took, most)
			}
		})
	}
}

// podOf has as many containers; all of them have ended before, and have volumes, if
// that is to be said.
func podOf(containers int, all bool) *corev1.Pod {
	at, on, digest := metav1.Now(), true, strings.Repeat("0123456789abcdef", 4)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "00000000-0000-0000-0000-000000000000"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, HostIP: "192.0.2.1", PodIP: "192.0.2.2", PodIPs: []corev1.PodIP{{IP: "192.0.2.2"}}, StartTime: &at,
		},
	}
	for _, c := range []corev1.PodConditionType{corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReadyToStartContainers, corev1.PodScheduled} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: at})
	}
	for i := range containers {
		s := corev1.ContainerStatus{
			Name: fmt.Sprint("container-", i), Image: "registry.example.com/project/image:v1.2.3", ImageID: "registry.example.com/project/image@sha256:" + digest,
			ContainerID: "containerd://" + digest, RestartCount: 17, Started: &on,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}},
		}
		if all {
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", StartedAt: at, FinishedAt: at, ContainerID: s.ContainerID}
			s.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}}
			for v := range 4 {
				s.VolumeMounts = append(s.VolumeMounts, corev1.VolumeMountStatus{Name: fmt.Sprint("volume-", v), MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true})
			}
		}
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, s)
	}
	return pod
}

// TestLargeReportsAreLegal has what the comment on maxFields says that there is room
// for, far more than a pod or node of an edge has to say.
func TestLargeReportsAreLegal(t *testing.T) {
	var node corev1.NodeStatus
	for i := range 50 {
		image := corev1.ContainerImage{SizeBytes: 1 << 30}
		for n := range 5 {
			image.Names = append(image.Names, fmt.Sprintf("registry.example.com/some/project/with/a/long/name/image-%d-%d@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", i, n))
		}
		node.Images = append(node.Images, image)
	}
	for _, o := range []interface{ Marshal() ([]byte, error) }{podOf(60, true), podOf(240, false), &node} {
		b, err := o.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		n := countFields(b)
		t.Logf("%T: %d bytes, %d fields", o, len(b), n)
		if len(b) > maxFrame-1024 || n > maxFields {
			t.Errorf("%T of %d bytes and %d fields is beyond the bounds, %d and %d", o, len(b), n, maxFrame, maxFields)
		}
	}
}

// TestForeignReportsCostNoCalls: reports about pods that the cache shows on another
// node.
func TestForeignReportsCostNoCalls(t *testing.T) {
	client := fake.NewClientset()
	pod := throttledPod.DeepCopy()
	pod.Spec.NodeName = "another"
	r, err := New(Config{Client: client, Pod: func(string, string) *corev1.Pod { return pod }})
	if err != nil {
		t.Fatal(err)
	}
	gone := wire.Report{Subject: wire.SubjectPodGone, Key: "pods/default/web", Value: []byte("u1")}
	for _, report := range []wire.Report{statusReport(t, 1), gone} {
		if err := r.write(t.Context(), "e1", stamp{}, report); !errors.Is(err, errForeign) {
			t.Errorf("subject %d: got %v, want %v", report.Subject, err, errForeign)
		}
	}
	if n := len(client.Actions()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// TestNewestReportStreamWins: the next one begins when the requests of the one before
// are over, so that of two statuses the later is written last.
func TestNewestReportStreamWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under, most atomic.Int32
		api := func(r *http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			<-r.Context().Done()
			<-time.After(time.Second) // as long as it takes to let go
			return nil, r.Context().Err()
		}
		r := receiver(t, api)
		var wg sync.WaitGroup
		var last net.Conn
		for range 4 {
			edge, cloud := net.Pipe()
			last = edge
			wg.Go(func() {
				if err := r.Serve(t.Context(), "e1", cloud); edge != last && !errors.Is(err, newest.ErrReplaced) {
					t.Errorf("stream ended with %v, want %v", err, newest.ErrReplaced)
				}
			})
			wg.Go(func() { _, _ = io.Copy(io.Discard, edge) })
			f := statusReport(t, 1)
			wg.Go(func() { _ = wire.Write(edge, &f) })
			<-time.After(100 * time.Millisecond)
		}
		<-time.After(5 * time.Second)
		if n := most.Load(); n != 1 {
			t.Errorf("%d requests of one object at once, want 1", n)
		}
		if err := last.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

// TestReportFramesAreBounded: one that is too large ends the stream.
func TestReportFramesAreBounded(t *testing.T) {
	r, err := New(Config{Client: fake.NewClientset()})
	if err != nil {
		t.Fatal(err)
	}
	edge, cloud := net.Pipe()
	defer edge.Close()
	go func() { _ = wire.Write(edge, &wire.Report{Seq: 1, Subject: 99, Value: make([]byte, maxFrame)}) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.Serve(ctx, "e1", cloud); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, wire.ErrTooLarge)
	}
}
