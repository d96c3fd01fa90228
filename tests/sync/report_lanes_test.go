package sync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	cloudreport "github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/edgeagent/store/storetest"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// TestRefusedEventsDelayNoStatus has the cluster refuse more events than an edge
// may have under way.
func TestRefusedEventsDelayNoStatus(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, _ *cloudreport.Receiver) {
		const events = 1000
		var mu sync.Mutex
		refused := true
		a.refuseBy(func(action clienttesting.Action) error {
			mu.Lock()
			defer mu.Unlock()
			if refused && action.Matches("create", "events") {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "e", errors.New("exceeded quota"))
			}
			return nil
		})
		pod := testPod("web")
		a.createPod(ctx, pod)
		for i := range events {
			e.reporter.Event(&corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", i)},
				InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: pod.UID},
			})
		}
		wait(10 * time.Minute)
		e.reporter.PodStatus(status(pod, corev1.PodRunning, "m"))
		wait(time.Second)
		if got := a.pod(ctx, "web").Status.Phase; got != corev1.PodRunning {
			t.Errorf("phase %q behind events that are refused", got)
		}
		mu.Lock()
		refused = false
		mu.Unlock()
		wait(5 * time.Minute)
		list, err := a.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != events {
			t.Errorf("%d events are there, want %d: %v", len(list.Items), events, err)
		}
		e.wantEmpty()
	})
}

// TestRefusedMirrorsDelayNoStatus has the cluster's admission refuse static pods, which
// may be for good: some that are large, or many.
func TestRefusedMirrorsDelayNoStatus(t *testing.T) {
	for name, tt := range map[string]struct{ pods, size, events int }{
		"many":             {250, 10, 0},
		"large":            {8, 90 << 10, 0},
		"many, and events": {250, 10, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			runReports(t, func(ctx context.Context, a *api, _ *link, e *reporting, _ *cloudreport.Receiver) {
				var refused atomic.Bool
				refused.Store(true)
				a.refuseBy(func(action clienttesting.Action) error {
					if refused.Load() && (action.Matches("create", "pods") || action.Matches("create", "events")) {
						return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("violates PodSecurity"))
					}
					return nil
				})
				pod := testPod("web")
				a.stamp(&pod.ObjectMeta)
				if err := a.tracker.Add(pod); err != nil {
					t.Fatal(err)
				}
				for i := range tt.pods {
					static := staticPod("hash")
					static.Name = fmt.Sprint("static-", i, "-", node)
					static.Annotations["padding"] = strings.Repeat("g", tt.size) // which no decoder takes for fields
					e.reporter.StaticPod(static)
				}
				for i := range tt.events {
					e.reporter.Event(&corev1.Event{
						ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", i)},
						InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web", UID: pod.UID},
					})
				}
				wait(10 * time.Minute)
				e.reporter.PodStatus(status(pod, corev1.PodRunning, "m"))
				wait(time.Second)
				if got := a.pod(ctx, "web").Status.Phase; got != corev1.PodRunning {
					t.Errorf("phase %q behind mirrors that are refused", got)
				}
				refused.Store(false)
				wait(10 * time.Minute)
				list, err := a.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
				if err != nil || len(list.Items) != tt.pods+1 {
					t.Errorf("%d pods are there, want %d mirrors and one: %v", len(list.Items), tt.pods, err)
				}
				e.wantEmpty()
			})
		})
	}
}

// TestReportTooLarge has statuses that no report holds: what was said before stands.
func TestReportTooLarge(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, l *link, e *reporting, _ *cloudreport.Receiver) {
		web := testPod("web")
		a.createPod(ctx, web)
		wait(time.Minute)
		l.cut()
		static := staticPod("hash")
		static.Status.Message = "fits"
		e.reporter.StaticPods(map[string]string{mirrorKey: "hash"})
		e.reporter.StaticPod(static)
		e.reporter.PodStatus(status(web, corev1.PodRunning, "fits"))
		large := static.DeepCopy()
		large.Status.Message = strings.Repeat("g", 128<<10)
		e.reporter.StaticPod(large)
		e.reporter.PodStatus(status(web, corev1.PodRunning, large.Status.Message))
		wait(time.Minute)
		l.mend()
		wait(time.Minute)
		if got := a.pod(ctx, "web").Status.Message; got != "fits" {
			t.Errorf("status %.10q", got)
		}
		if got := a.pod(ctx, mirrorName).Status.Message; got != "fits" {
			t.Errorf("mirror's status %.10q", got)
		}
		if got := e.reporter.Stats().Failed; got != 2 {
			t.Errorf("%d reports failed, want 2", got)
		}
		e.wantEmpty()
	})
}

// TestOutage has an edge alone for a day with a container that fails all the
// time, while the API throttles at the return.
func TestOutage(t *testing.T) {
	runReports(t, func(ctx context.Context, a *api, l *link, e *reporting, r *cloudreport.Receiver) {
		pod := testPod("web")
		a.createPod(ctx, pod)
		wait(time.Minute)
		l.cut()
		began := time.Now()
		e.reporter.PodEvent("default", "web", pod.UID, "", "Warning", "Once", "happened offline")
		const every = 10 * time.Second
		n := int32(0)
		for time.Since(began) < 24*time.Hour {
			e.reporter.PodEvent("default", "web", pod.UID, "spec.containers{main}", "Warning", "BackOff", "back-off 5m0s")
			e.reporter.PodStatus(status(pod, corev1.PodRunning, fmt.Sprint("restart ", n)))
			n++
			wait(every)
		}
		last := time.Now().Add(-every)
		if st := e.store.Outbox().Stats(); st.Entries > 4 || st.Dropped != 0 {
			t.Errorf("after %d repetitions of an event the outbox holds %d entries, %d were dropped", n, st.Entries, st.Dropped)
		}
		var mu sync.Mutex
		throttled := 20
		a.refuseBy(func(clienttesting.Action) error {
			mu.Lock()
			defer mu.Unlock()
			if throttled == 0 {
				return nil
			}
			throttled--
			return apierrors.NewTooManyRequests("slow down", 5)
		})
		l.mend()
		wait(10 * time.Minute)
		list, err := a.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 2 {
			t.Fatalf("%d events, want 2: %v", len(list.Items), err)
		}
		for _, ev := range list.Items {
			// Kubernetes keeps seconds. What came after the last sending waits for the next.
			lag := last.Sub(ev.LastTimestamp.Time)
			switch ev.Reason {
			case "Once":
				if ev.Count != 1 || ev.FirstTimestamp.Unix() != began.Unix() || ev.LastTimestamp.Unix() != began.Unix() {
					t.Errorf("event made offline: count %d, %v to %v", ev.Count, ev.FirstTimestamp, ev.LastTimestamp)
				}
			case "BackOff":
				if ev.Count < n-30 || ev.FirstTimestamp.Unix() != began.Unix() || lag < 0 || lag > 5*time.Minute {
					t.Errorf("event that repeated itself: count %d of %d, %v to %v", ev.Count, n, ev.FirstTimestamp, ev.LastTimestamp)
				}
			}
		}
		if got, want := a.pod(ctx, "web").Status.Message, fmt.Sprint("restart ", n-1); got != want {
			t.Errorf("status %q, want %q", got, want)
		}
		if st := r.Stats(); st.Retried < 10 || st.Retried > 40 {
			t.Errorf("%d attempts for 20 refusals", st.Retried)
		}
		e.wantEmpty()
	})
}

// TestCloudAsksForNode checks when the status of the node goes up.
func TestCloudAsksForNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		reports, ask := 0, false
		l := newLink(ctx, func(_ context.Context, _ string, conn net.Conn) error {
			defer conn.Close()
			mu.Lock()
			if ask {
				if err := wire.Write(conn, &wire.ReportAck{}); err != nil {
					t.Error(err)
				}
			}
			mu.Unlock()
			r := frames(conn)
			for {
				f, err := r.Next()
				if err != nil {
					return err
				}
				report, ok := f.(*wire.Report)
				if !ok {
					continue
				}
				mu.Lock()
				if report.Subject == wire.SubjectNode {
					reports++
				}
				mu.Unlock()
				if err := wire.Write(conn, &wire.ReportAck{Seq: report.Seq}); err != nil {
					return err
				}
			}
		})
		e := &reporting{t: t, fs: storetest.New()}
		e.start(ctx, l)
		reconnect := func(wanted bool) int {
			l.cut()
			mu.Lock()
			reports, ask = 0, wanted
			mu.Unlock()
			wait(time.Minute)
			l.mend()
			wait(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			return reports
		}
		wait(time.Minute)
		mu.Lock()
		if reports != 1 {
			t.Errorf("%d reports of a new node", reports)
		}
		mu.Unlock()
		if got := reconnect(false); got != 0 {
			t.Errorf("%d reports of a node that is as it was", got)
		}
		if got := reconnect(true); got != 1 {
			t.Errorf("%d reports of a node that the cloud asks for", got)
		}
		e.halt()
		cancel()
		l.cut()
		l.wg.Wait()
	})
}
