package sync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clienttesting "k8s.io/client-go/testing"

	cloudreport "github.com/skerry-io/skerry/cloudproxy/report"
	edgereport "github.com/skerry-io/skerry/edgeagent/report"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/store/storetest"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// reporting is an edge that reports, with its disk.
type reporting struct {
	t        testing.TB
	fs       vfs.FS
	store    *store.Store
	reporter *edgereport.Reporter
	stop     context.CancelFunc
	done     chan struct{}
}

func (e *reporting) start(ctx context.Context, d uplink.Dialer) {
	e.t.Helper()
	var err error
	if e.store, err = store.Open(store.Config{Dir: "db", FS: e.fs}); err != nil {
		e.t.Fatal(err)
	}
	e.reporter = newReporter(e.t, e.store, d)
	ctx, e.stop = context.WithCancel(ctx)
	e.done = make(chan struct{})
	go func() {
		defer close(e.done)
		if err := e.reporter.Run(ctx); err != nil {
			e.t.Errorf("reporter's Run: %v", err)
		}
	}()
}

func newReporter(tb testing.TB, st *store.Store, d uplink.Dialer) *edgereport.Reporter {
	tb.Helper()
	r, err := edgereport.New(edgereport.Config{Store: st, Dialer: d, Log: logger(), Node: edgereport.NodeConfig{
		Name:    node,
		Runtime: func(context.Context) (string, error) { return "containerd://1.6.20", nil },
		Root:    fstest.MapFS{}, // no machine of ours is read, ten seconds after ten seconds
		Disk:    func(string) (uint64, uint64, error) { return 8 << 30, 6 << 30, nil },
	}})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func (e *reporting) halt() {
	e.t.Helper()
	e.stop()
	<-e.done
	if err := e.store.Close(); err != nil {
		e.t.Error(err)
	}
}

func runReports(t *testing.T, f func(ctx context.Context, a *api, l *link, e *reporting, r *cloudreport.Receiver)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		if _, err := a.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: node, UID: "node-uid", Annotations: map[string]string{cloudreport.AnnotationOwner: "cloudproxy"},
		}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		r, err := cloudreport.New(cloudreport.Config{Client: a, Log: logger()})
		if err != nil {
			t.Fatal(err)
		}
		l := newLink(ctx, r.Serve)
		e := &reporting{t: t, fs: storetest.New()}
		e.start(ctx, l)
		f(ctx, a, l, e, r)
		e.halt()
		cancel()
		l.cut()
		l.wg.Wait()
	})
}

func status(pod *corev1.Pod, phase corev1.PodPhase, message string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Status: corev1.PodStatus{
			Phase: phase, Message: message, PodIPs: []corev1.PodIP{{IP: "10.0.0." + fmt.Sprint(len(message)+1)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func (a *api) pod(ctx context.Context, name string) *corev1.Pod {
	a.t.Helper()
	pod, err := a.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	return pod
}

func (e *reporting) wantEmpty() {
	e.t.Helper()
	if st := e.store.Outbox().Stats(); st.Entries != 0 {
		e.t.Errorf("outbox still holds %d entries", st.Entries)
	}
}

func TestReports(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, _ *cloudreport.Receiver) {
		pod := testPod("web")
		pod.Status.Conditions = []corev1.PodCondition{{Type: "example.com/gate", Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionFalse}}
		pod.Status.PodIPs = []corev1.PodIP{{IP: "10.9.9.9"}}
		a.createPod(ctx, pod)
		e.reporter.PodStatus(status(pod, corev1.PodRunning, "m"))
		began := time.Now()
		for range 5 {
			e.reporter.PodEvent("default", "web", pod.UID, "spec.containers{main}", "Warning", "BackOff", "back-off")
			wait(20 * time.Second)
		}
		got := a.pod(ctx, "web").Status
		want := status(pod, corev1.PodRunning, "m").Status
		want.Conditions = append(want.Conditions, pod.Status.Conditions[0], corev1.PodCondition{Type: cloudreport.ConditionReported, Status: corev1.ConditionTrue})
		sortConditions := func(s []corev1.PodCondition) map[corev1.PodConditionType]corev1.ConditionStatus {
			m := make(map[corev1.PodConditionType]corev1.ConditionStatus)
			for _, c := range s {
				m[c.Type] = c.Status
			}
			return m
		}
		if diff := cmp.Diff(sortConditions(want.Conditions), sortConditions(got.Conditions)); diff != "" {
			t.Errorf("conditions (-want +got):\n%s", diff)
		}
		if got.Phase != corev1.PodRunning || got.Message != "m" || !cmp.Equal(got.PodIPs, want.PodIPs) {
			t.Errorf("status = %+v", got)
		}

		events, err := a.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(events.Items) != 1 {
			t.Fatalf("events: %+v, %v", events, err)
		}
		ev := events.Items[0]
		if ev.Count != 5 || ev.Source.Host != node || !ev.FirstTimestamp.Time.Equal(began) {
			t.Errorf("event: count %d of %s, first %v, want 5 of %s, %v", ev.Count, ev.Source.Host, ev.FirstTimestamp, node, began)
		}

		n, err := a.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n.Status.NodeInfo.ContainerRuntimeVersion != "containerd://1.6.20" || len(n.Status.Conditions) != 5 || n.Status.Capacity.Pods().Value() != 110 {
			t.Errorf("node status: %+v", n.Status)
		}
		e.wantEmpty()
		sent := e.reporter.Stats().Sent
		wait(time.Hour)
		if more := e.reporter.Stats().Sent - sent; more != 0 {
			t.Errorf("%d reports in an hour in which nothing happened", more)
		}
	})
}

func TestPodGoneNeedsDeletion(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, r *cloudreport.Receiver) {
		a.createPod(ctx, testPod("web"))
		pod := a.pod(ctx, "web")
		e.reporter.PodGone("default", "web", pod.UID)
		wait(time.Second)
		if a.pod(ctx, "web"); r.Stats().Foreign != 1 {
			t.Errorf("Stats = %+v, want the report refused", r.Stats())
		}
		a.updatePod(ctx, "web", func(p *corev1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now })
		e.reporter.PodGone("default", "web", "another")
		wait(time.Second)
		a.pod(ctx, "web")
		e.reporter.PodGone("default", "web", pod.UID)
		wait(time.Second)
		if _, err := a.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("pod after PodGone: %v", err)
		}
		e.wantEmpty()
	})
}

func TestForeignReportsAreRefused(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, r *cloudreport.Receiver) {
		other := testPod("theirs")
		other.Spec.NodeName = "edge-2"
		a.createPod(ctx, other)
		e.reporter.PodStatus(status(other, corev1.PodFailed, "x"))
		e.reporter.PodGone("default", "theirs", other.UID)
		e.reporter.PodEvent("default", "theirs", other.UID, "", "Normal", "Lie", "lie")
		e.reporter.Event(&corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "e"},
			InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "edge-2"},
		})
		wait(time.Second)
		if got := r.Stats().Foreign; got != 4 {
			t.Errorf("%d reports refused, want 4", got)
		}
		if p := a.pod(ctx, "theirs"); p.Status.Phase != "" {
			t.Errorf("status of another edge's pod was written: %+v", p.Status)
		}
		events, err := a.CoreV1().Events("").List(ctx, metav1.ListOptions{})
		if err != nil || len(events.Items) != 0 {
			t.Errorf("events: %+v, %v", events.Items, err)
		}
		e.wantEmpty()
	})
}

// TestRefusedWriteDelaysNoOther has the API fail for one pod for an hour.
func TestRefusedWriteDelaysNoOther(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, r *cloudreport.Receiver) {
		var broken atomic.Bool
		broken.Store(true)
		a.refuseBy(func(action clienttesting.Action) error {
			if p, ok := action.(clienttesting.PatchAction); ok && broken.Load() && p.GetName() == "bad" {
				return apierrors.NewInternalError(errors.New("webhook is down"))
			}
			return nil
		})
		bad, good := testPod("bad"), testPod("good")
		a.createPod(ctx, bad)
		a.createPod(ctx, good)
		for i := range 10 {
			e.reporter.PodStatus(status(bad, corev1.PodRunning, fmt.Sprint(i)))
		}
		e.reporter.PodStatus(status(good, corev1.PodRunning, ""))
		wait(time.Second)
		if p := a.pod(ctx, "good"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("status of the other pod: %+v", p.Status)
		}
		for i := range 60 {
			e.reporter.PodStatus(status(bad, corev1.PodRunning, fmt.Sprint("later ", i)))
			wait(time.Minute)
		}
		if n := e.store.Outbox().Stats().Entries; n != 1 {
			t.Errorf("outbox holds %d entries of one key", n)
		}
		broken.Store(false)
		wait(time.Minute)
		if p := a.pod(ctx, "bad"); p.Status.Message != "later 59" {
			t.Errorf("status: %+v", p.Status)
		}
		if st := r.Stats(); st.Retried > 200 {
			t.Errorf("%d attempts in an hour", st.Retried)
		}
		e.wantEmpty()
	})
}

// TestSentInOrder checks the edge's half against a cloud that acknowledges
// nothing on its first stream.
func TestSentInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var seen [][]string
		l := newLink(ctx, func(_ context.Context, _ string, conn net.Conn) error {
			defer conn.Close()
			var keys []string
			r := frames(conn)
			for len(keys) < 4 {
				f, err := r.Next()
				if err != nil {
					return err
				}
				if report, ok := f.(*wire.Report); ok && report.Subject == wire.SubjectEvent {
					keys = append(keys, strings.TrimPrefix(report.Key, "events/default/"))
				}
			}
			seen = append(seen, keys)
			return nil
		})
		e := &reporting{t: t, fs: storetest.New()}
		e.start(ctx, l)
		for i := range 4 {
			e.reporter.Event(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", i)}})
		}
		wait(5 * time.Second)
		e.halt()
		cancel()
		l.cut()
		l.wg.Wait()
		want := []string{"e0", "e1", "e2", "e3"}
		if len(seen) < 2 {
			t.Fatalf("reports were sent over %d streams", len(seen))
		}
		for _, keys := range seen {
			if !cmp.Equal(keys, want) {
				t.Errorf("events came as %v, want %v", keys, want)
			}
		}
		if len(seen) > 8 {
			t.Errorf("%d streams in five seconds: no backoff", len(seen))
		}
	})
}
