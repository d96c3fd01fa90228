package desired

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// filled gives a Publisher whose caches hold 100 pods on "large" that name 9,900
// ConfigMaps of 4 kB, and one pod with one ConfigMap on "small".
func filled(t *testing.T) *Publisher {
	t.Helper()
	p, err := New(Config{Client: fake.NewClientset()})
	if err != nil {
		t.Fatal(err)
	}
	add := func(pod string, node string, n int) {
		spec := corev1.PodSpec{NodeName: node}
		for i := range n {
			cm := fmt.Sprintf("%s-%d", pod, i)
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: cm, VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: cm}},
			}})
			put(t, p, cm, "1")
		}
		o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: pod, UID: types.UID("5fbe2a0c-8f13-4a37-b8e0-" + pod)}, Spec: spec}
		if err := p.pods.GetIndexer().Add(o); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		add(fmt.Sprintf("large-%d", i), "large", 99)
	}
	add("small", "small", 1)
	close(p.ready)
	return p
}

func put(t *testing.T, p *Publisher, name, version string) {
	t.Helper()
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "0d3b7c52-8f13-4a37-b8e0-2c9f5b0f7d11", ResourceVersion: version},
		Data:       map[string]string{"data": strings.Repeat("x", 4096)},
	}
	if err := p.named[wire.ResourceConfigMaps].GetIndexer().Update(cm); err != nil {
		t.Fatal(err)
	}
	p.namedChanged(wire.ResourceConfigMaps, cm)
}

// fakeEdge is the other end of a desired stream.
type fakeEdge struct {
	conn net.Conn
	r    *wire.Reader
}

func dial(t *testing.T, p *Publisher, node string) *fakeEdge {
	t.Helper()
	edge, cloud := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Serve(t.Context(), node, cloud)
	}()
	t.Cleanup(func() { _ = edge.Close(); <-done })
	if err := edge.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := wire.Write(edge, &wire.Digest{}); err != nil {
		t.Fatal(err)
	}
	return &fakeEdge{edge, frames(edge)}
}

// frames reads what comes down.
func frames(conn net.Conn) *wire.Reader { return wire.NewReader(bufio.NewReader(conn), maxFrame) }

func (e *fakeEdge) next(t *testing.T) wire.Frame { //nolint:ireturn // it is one of several
	t.Helper()
	f, err := e.r.Next()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// acknowledge takes what comes until Synced, and acknowledges it.
func (e *fakeEdge) acknowledge(t *testing.T) (upserts int) {
	t.Helper()
	for {
		switch f := e.next(t).(type) {
		case *wire.Upsert:
			upserts++
			done := &wire.Progress{Entries: []wire.Advance{{Key: f.Key, Step: wire.StepRunning}}}
			for _, answer := range []wire.Frame{&wire.Ack{Seq: f.Seq, Step: wire.StepStored}, done} {
				if err := wire.Write(e.conn, answer); err != nil {
					t.Fatal(err)
				}
			}
		case *wire.Synced:
			return upserts
		}
	}
}

// TestSlowEdgeDelaysNobody has an edge with 10,000 objects take some and then
// neither read nor acknowledge.
func TestSlowEdgeDelaysNobody(t *testing.T) {
	p := filled(t)
	large := dial(t, p, "large")
	for range maxUnacked {
		large.next(t)
	}
	began := time.Now()
	small := dial(t, p, "small")
	if n := small.acknowledge(t); n != 2 {
		t.Errorf("small edge was sent %d objects, want 2", n)
	}
	for i := range 20 {
		put(t, p, "small-0", fmt.Sprint(2+i))
		f, ok := small.next(t).(*wire.Upsert)
		if !ok || f.Key != "configmaps/ns/small-0" {
			t.Fatalf("got %+v", f)
		}
		if err := wire.Write(small.conn, &wire.Ack{Seq: f.Seq, Step: wire.StepStored}); err != nil {
			t.Fatal(err)
		}
		// The slow edge is concerned by other changes meanwhile.
		for j := range 50 {
			put(t, p, fmt.Sprintf("large-%d-0", j), fmt.Sprint(2+i))
		}
	}
	took := time.Since(began)
	t.Logf("sync and 20 changes of the small edge beside a stuck one: %v", took)
	if took > 10*time.Second {
		t.Errorf("a stuck edge held up another for %v", took)
	}
	if st, ok := p.Edge("large"); !ok || st.Unstored.Objects != maxUnacked {
		t.Errorf("large edge has %+v on the way, want %d", st.Unstored, maxUnacked)
	}
}

// TestMemoryIsKeysAndVersions: an edge costs the proxy no copies of its objects.
func TestMemoryIsKeysAndVersions(t *testing.T) {
	p := filled(t)
	before := heap()
	e := dial(t, p, "large")
	n := e.acknowledge(t)
	each := (heap() - before) / int64(n)
	t.Logf("%d objects of 4 kB: %d bytes each", n, each)
	if n != 10_000 || each > 1000 {
		t.Errorf("%d objects cost %d bytes each, want 10000 and at most 1000", n, each)
	}
	runtime.KeepAlive(e)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
