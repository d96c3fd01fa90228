package sync

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	edgedesired "github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// observe counts the frames that come down.
func (l *link) observe(r *io.PipeReader) {
	defer r.Close()
	frames := wire.NewReader(bufio.NewReader(r), 4<<20)
	for {
		f, err := frames.Next()
		if err != nil {
			return
		}
		name := fmt.Sprintf("%T", f)
		switch f := f.(type) {
		case *wire.Upsert:
			name = "upsert " + f.Key
		case *wire.Delete:
			name = "delete " + f.Key
		case *wire.Synced:
			name = "synced"
		}
		l.mu.Lock()
		l.frames[name]++
		l.mu.Unlock()
	}
}

// want gives what an edge must hold by what the API says: pods without status,
// as protobuf, and of tokens only that they are there.
func (a *api) want(ctx context.Context) map[string]string {
	a.t.Helper()
	want := make(map[string]string)
	pods, err := a.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName != node {
			continue
		}
		want["pods/default/"+pod.Name] = podText(pod)
		for _, s := range pod.Spec.Volumes[0].Projected.Sources {
			if s.ServiceAccountToken != nil {
				want[wire.TokenKey("default", pod.Name, wire.TokenID(string(pod.UID), "", 3607))] = "token for " + string(pod.UID)
				continue
			}
			cm, err := a.CoreV1().ConfigMaps("default").Get(ctx, s.ConfigMap.Name, metav1.GetOptions{})
			if err == nil {
				want["configmaps/default/"+cm.Name] = cm.Data["key"]
			}
		}
	}
	return want
}

func podText(pod *corev1.Pod) string {
	return fmt.Sprintf("%s %s %v", pod.UID, pod.Spec.Containers[0].Image, pod.Annotations)
}

// has gives what the edge's store holds, in the terms of want.
func (e *edge) has() map[string]string {
	e.t.Helper()
	objects := &edgedesired.Objects{Store: e.store}
	has := make(map[string]string)
	if err := e.store.Versions("", func(entry store.Entry) bool {
		r, ns, name, id, _ := wire.SplitKey(entry.Key)
		var err error
		switch r {
		case wire.ResourcePods:
			var pod *corev1.Pod
			if pod, err = objects.Pod(entry.Key); err == nil {
				has[entry.Key] = podText(pod)
			}
		case wire.ResourceConfigMaps:
			var cm *corev1.ConfigMap
			if cm, err = objects.ConfigMap(ns, name); err == nil {
				has[entry.Key] = cm.Data["key"]
			}
		case wire.ResourceTokens:
			tr, tokenErr := objects.Token(ns, name, id)
			if err = tokenErr; err == nil {
				has[entry.Key], _, _ = strings.Cut(tr.Status.Token, " until")
			}
		case wire.ResourceSecrets:
			_, err = objects.Secret(ns, name)
		default: // the tests of these look for themselves
		}
		if err != nil {
			e.t.Errorf("%s: %v", entry.Key, err)
		}
		return true
	}); err != nil {
		e.t.Fatal(err)
	}
	return has
}

// run gives f an API, a link and an edge in a bubble of virtual time.
func run(t *testing.T, f func(ctx context.Context, a *api, l *link, e *edge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAPI(t)
		p, wg := publisher(ctx, t, a)
		l := newLink(ctx, p.Serve)
		e := newEdge(t)
		e.start(ctx, l)
		f(ctx, a, l, e)
		e.halt()
		cancel()
		l.cut()
		wg.Wait()
		l.wg.Wait()
	})
}

func TestEdgeHoldsWhatTheAPISays(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		a.putConfigMap(ctx, "kube-root-ca.crt", "ca")
		a.putConfigMap(ctx, "other", "nobody names it")
		a.createPod(ctx, testPod("web", "kube-root-ca.crt", "absent"))
		elsewhere := testPod("elsewhere")
		elsewhere.Spec.NodeName = "edge-2"
		a.createPod(ctx, elsewhere)
		wait(time.Second)
		want := a.want(ctx)
		if len(want) != 3 {
			t.Fatalf("model is wrong: %v", want)
		}
		if diff := cmp.Diff(want, e.has()); diff != "" {
			t.Errorf("edge (-want +got):\n%s", diff)
		}
		if !e.client.Stats().Synced {
			t.Error("edge was not told that it is synced")
		}
		l.counts()

		// What the edge itself reports does not come back.
		for _, phase := range []corev1.PodPhase{corev1.PodPending, corev1.PodRunning} {
			a.updatePod(ctx, "web", func(p *corev1.Pod) { p.Status.Phase = phase; p.Status.PodIP = "10.0.0.1" })
		}
		wait(time.Second)
		if got := l.counts(); len(got) != 0 {
			t.Errorf("after a change of status alone the cloud sent %v", got)
		}

		// An object that is named already and comes later is sent, and told by its own key.
		e.mu.Lock()
		clear(e.woken)
		e.mu.Unlock()
		a.putConfigMap(ctx, "absent", "here now")
		wait(time.Second)
		if got, want := l.counts(), map[string]int{"upsert configmaps/default/absent": 1}; !cmp.Equal(got, want) {
			t.Errorf("cloud sent %v, want %v", got, want)
		}
		if want := map[string]int{"configmaps/default/absent": 1}; !cmp.Equal(e.woken, want) {
			t.Errorf("woken: %v, want %v", e.woken, want)
		}

		// A finished pod needs nothing any more.
		a.updatePod(ctx, "web", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		wait(time.Second)
		if has := e.has(); len(has) != 1 {
			t.Errorf("beside a finished pod the edge holds %v", has)
		}
	})
}

// A store that the cloud has not filled yet must not look like a node without
// pods: what runs on it would be removed.
func TestPodsAreUnknownUntilSynced(t *testing.T) {
	fresh, err := store.Open(store.Config{Dir: "db", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if pods, err := (&edgedesired.Objects{Store: fresh}).Pods(); !errors.Is(err, edgedesired.ErrNeverSynced) {
		t.Errorf("before the cloud has spoken: %d pods, %v", len(pods), err)
	}
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		objects := func() *edgedesired.Objects { return &edgedesired.Objects{Store: e.store} }
		a.createPod(ctx, testPod("web"))
		wait(time.Second)
		if pods, err := objects().Pods(); err != nil || len(pods) != 1 {
			t.Errorf("synced: %d pods, %v", len(pods), err)
		}
		l.cut()
		e.crash()
		e.start(ctx, l)
		if pods, err := objects().Pods(); err != nil || len(pods) != 1 {
			t.Errorf("after a restart without a cloud: %d pods, %v", len(pods), err)
		}
	})
}

func TestUnchangedReconnectSendsOnlySynced(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		for i := range 500 {
			a.putConfigMap(ctx, fmt.Sprintf("cm-%d", i), "x")
		}
		for i := range 50 {
			a.createPod(ctx, testPod(fmt.Sprintf("pod-%d", i), fmt.Sprintf("cm-%d", i), fmt.Sprintf("cm-%d", 10*i)))
		}
		wait(10 * time.Second)
		l.reconnect(t, time.Minute)
		if !e.client.Stats().Synced {
			t.Error("edge is not synced")
		}
	})
}

func TestBurstCostsOneMessage(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, e *edge) {
		a.putConfigMap(ctx, "cm", "0")
		a.createPod(ctx, testPod("web", "cm"))
		wait(time.Second)
		l.counts()
		l.slow(300 * time.Millisecond)
		for i := range 1000 {
			a.putConfigMap(ctx, "cm", fmt.Sprint(i+1))
		}
		wait(10 * time.Second)
		// The first goes out at once, all others while it is on the way.
		if got := l.counts()["upsert configmaps/default/cm"]; got > 2 {
			t.Errorf("1000 changes cost %d messages, want one and one more for those during its flight", got)
		}
		if diff := cmp.Diff(a.want(ctx), e.has()); diff != "" {
			t.Errorf("edge (-want +got):\n%s", diff)
		}
	})
}

func TestTokenIsRenewed(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, _ *edge) {
		a.createPod(ctx, testPod("web"))
		wait(time.Second)
		key := "upsert " + wire.TokenKey("default", "web", wire.TokenID("uid-1", "", 3607))
		if got := l.counts()[key]; got != 1 {
			t.Fatalf("token was sent %d times", got)
		}
		wait(45 * time.Minute) // 75 % of its life
		l.cut()
		wait(time.Second)
		l.mend()
		wait(time.Minute)
		if got := l.counts()[key]; got != 0 {
			t.Errorf("token was sent %d times before 77 %% of its life were over", got)
		}
		wait(3 * time.Minute)
		if got := l.counts()[key]; got != 1 {
			t.Errorf("token was sent %d times at 80 %% of its life", got)
		}
	})
}

func TestBadValueDelaysNoOther(t *testing.T) {
	run(t, func(ctx context.Context, _ *api, l *link, e *edge) {
		l.cut()
		conn := &direct{link: l}
		wait(time.Second)
		e.halt()
		e.start(ctx, conn)
		conn.serve(t,
			&wire.Upsert{Seq: 1, Key: "pods/default/bad", Version: "1", Value: []byte("\xff\xff")},
			&wire.Upsert{Seq: 2, Key: "gadgets/default/new", Version: "1"},
			&wire.Upsert{Seq: 3, Key: "configmaps/default/misnamed", Version: "1"},
			&wire.Delete{Seq: 4, Key: "pods/default/none"},
		)
		if st := e.client.Stats(); st.Rejected != 3 {
			t.Errorf("Stats = %+v, want 3 rejected", st)
		}
		if has := e.has(); len(has) != 0 {
			t.Errorf("edge holds %v", has)
		}
	})
}

// TestStaleCacheKillsNoPod has the edge hold a pod that the watch has not brought
// yet, as when it comes to a replica that is behind.
func TestStaleCacheKillsNoPod(t *testing.T) {
	run(t, func(ctx context.Context, a *api, l *link, _ *edge) {
		a.putConfigMap(ctx, "cm", "x")
		a.createPod(ctx, testPod("web", "cm"))
		wait(time.Second)
		l.cut()
		wait(time.Minute)
		// Another replica that lists nothing and whose watches bring nothing.
		blind := newAPI(t)
		blind.PrependReactor("get", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
			get, ok := action.(clienttesting.GetAction)
			if !ok {
				return false, nil, nil
			}
			pod, err := a.CoreV1().Pods(get.GetNamespace()).Get(ctx, get.GetName(), metav1.GetOptions{})
			return true, pod, err
		})
		blind.putConfigMap(ctx, "cm", "x")
		ctx, cancel := context.WithCancel(ctx)
		p, wg := publisher(ctx, t, blind)
		l.serve = func(_ context.Context, node string, conn net.Conn) error { return p.Serve(ctx, node, conn) }
		l.counts()
		l.mend()
		wait(time.Minute)
		for name, n := range l.counts() {
			if strings.HasPrefix(name, "delete pods/") || strings.HasPrefix(name, "upsert pods/") {
				t.Errorf("%s was sent %d times by a replica that is behind", name, n)
			}
		}
		cancel()
		wg.Wait()
	})
}
