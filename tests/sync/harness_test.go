package sync

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"

	clouddesired "github.com/skerry-io/skerry/cloudproxy/desired"
	edgedesired "github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/store"
	"github.com/skerry-io/skerry/edgeagent/store/storetest"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const node = "edge-1"

// wait lets virtual time pass, and then all others come to rest. Only the
// goroutine of the test may call it.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func logger() *slog.Logger {
	if os.Getenv("SKERRY_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// link is the network: it hands streams of the edge to the cloud, counts what
// the cloud sends down, and can be cut.
type link struct {
	ctx   context.Context
	serve func(ctx context.Context, node string, conn net.Conn) error
	wg    sync.WaitGroup

	mu     sync.Mutex // guards the following fields
	down   bool
	up     chan struct{} // closed when down turns false
	conns  []net.Conn
	frames map[string]int // frames sent down, by type and key
	delay  time.Duration  // of each write of the cloud
}

func newLink(ctx context.Context, serve func(context.Context, string, net.Conn) error) *link {
	up := make(chan struct{})
	close(up)
	return &link{ctx: ctx, serve: serve, up: up, frames: make(map[string]int)}
}

// Dial implements Dialer.
func (l *link) Dial(ctx context.Context, _ wire.Kind) (net.Conn, error) {
	for {
		l.mu.Lock()
		down, up := l.down, l.up
		l.mu.Unlock()
		if !down {
			break
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	edge, cloud := net.Pipe()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, edge, cloud)
	l.wg.Go(func() { _ = l.serve(l.ctx, node, &tap{Conn: cloud, link: l}) })
	return edge, nil
}

// cut ends all streams; no new one begins before mend.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
	if !l.down {
		l.down, l.up = true, make(chan struct{})
	}
}

// slow makes each write of the cloud take d.
func (l *link) slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		l.down = false
		close(l.up)
	}
}

// counts gives the frames sent down since the last call.
func (l *link) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.frames
	l.frames = make(map[string]int)
	return c
}

// reconnect cuts the link and mends it after a while, over which nothing has changed: the
// cloud has nothing to send but that the edge is in step.
func (l *link) reconnect(t *testing.T, while time.Duration) {
	t.Helper()
	l.cut()
	wait(while)
	l.counts()
	l.mend()
	wait(while)
	if got, want := l.counts(), map[string]int{"synced": 1}; !cmp.Equal(got, want) {
		t.Errorf("a reconnect sent %v, want %v", got, want)
	}
}

// tap is the cloud's end of a stream; it decodes what the cloud writes.
type tap struct {
	net.Conn
	link *link
	once sync.Once
	pw   *io.PipeWriter
}

func (t *tap) Write(p []byte) (int, error) {
	t.once.Do(func() {
		var pr *io.PipeReader
		pr, t.pw = io.Pipe()
		t.link.wg.Go(func() { t.link.observe(pr) })
	})
	if _, err := t.pw.Write(p); err != nil {
		return 0, err
	}
	t.link.mu.Lock()
	delay := t.link.delay
	t.link.mu.Unlock()
	if delay > 0 {
		<-time.After(delay)
	}
	return t.Conn.Write(p)
}

func (t *tap) Close() error {
	t.once.Do(func() { _, t.pw = io.Pipe() })
	_ = t.pw.Close()
	return t.Conn.Close()
}

// Store is the edge: what survives of it is its disk.
type edge struct {
	t      testing.TB
	fs     *storetest.Disk
	disk   *disk // what fs is on; nil means one without end
	store  *store.Store
	client *edgedesired.Client
	stop   context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex // guards the following fields
	woken map[string]int
	wake  func(key string) // who else is woken; may be nil
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	return &edge{t: t, fs: storetest.New(), woken: make(map[string]int)}
}

func (e *edge) start(ctx context.Context, d uplink.Dialer) {
	e.t.Helper()
	var err error
	conf := store.Config{Dir: "db", FS: e.fs}
	if e.disk != nil {
		e.disk.FS, conf.FS = e.fs, e.disk
	}
	if e.store, err = store.Open(conf); err != nil {
		e.t.Fatal(err)
	}
	e.client, err = edgedesired.New(edgedesired.Config{Store: e.store, Dialer: d, Log: logger(), Wake: func(key string) {
		e.mu.Lock()
		e.woken[key]++
		wake := e.wake
		e.mu.Unlock()
		if wake != nil {
			wake(key)
		}
	}})
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, e.stop = context.WithCancel(ctx)
	e.done = make(chan struct{})
	go func() {
		defer close(e.done)
		if err := e.client.Run(ctx); err != nil {
			e.t.Errorf("edge's Run: %v", err)
		}
	}()
}

// crash takes the power away; what was not synced is lost.
func (e *edge) crash() {
	clone := e.fs.Crash(0, nil)
	e.halt()
	e.fs = clone
}

func (e *edge) halt() {
	e.t.Helper()
	e.stop()
	<-e.done
	if err := e.store.Close(); err != nil {
		e.t.Error(err)
	}
}

// api is the fake API server, with the parts that client-go's fake lacks:
// UIDs, resourceVersions and tokens. It is not fake.NewClientset, which builds a
// table of all kinds of the API for each write, for the fields' managers.
type api struct {
	*fake.Clientset
	devices *dynamicfake.FakeDynamicClient
	tracker clienttesting.ObjectTracker
	t       *testing.T
	rv      int

	mu     sync.Mutex // guards the following fields
	refuse func(clienttesting.Action) error
}

// refuseBy has f decide which requests fail.
func (a *api) refuseBy(f func(clienttesting.Action) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse = f
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{Clientset: &fake.Clientset{}, devices: newDevices(), t: t}
	a.tracker = clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	a.AddReactor("*", "*", clienttesting.ObjectReaction(a.tracker))
	a.AddWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		w, err := a.tracker.Watch(action.GetResource(), action.GetNamespace())
		return true, w, err
	})
	a.PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateActionImpl)
		if !ok || create.Subresource != "token" {
			return false, nil, nil
		}
		tr, ok := create.Object.(*authenticationv1.TokenRequest)
		if !ok {
			return false, nil, nil
		}
		tr = tr.DeepCopy()
		life := time.Duration(*tr.Spec.ExpirationSeconds) * time.Second
		tr.Status = authenticationv1.TokenRequestStatus{
			Token:               fmt.Sprintf("token for %s until %d", tr.Spec.BoundObjectRef.UID, time.Now().Add(life).Unix()),
			ExpirationTimestamp: metav1.NewTime(time.Now().Add(life).Truncate(time.Second)),
		}
		return true, tr, nil
	})
	// Reactors must not be added while requests are served.
	a.PrependReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		a.mu.Lock()
		refuse := a.refuse
		a.mu.Unlock()
		if refuse == nil {
			return false, nil, nil
		}
		err := refuse(action)
		return err != nil, nil, err
	})
	return a
}

// stamp does what the API server does to each object that is written.
func (a *api) stamp(m *metav1.ObjectMeta) {
	if a.rv++; a.rv%50 == 0 {
		synctest.Wait() // the tracker's watches panic at a hundred events that nobody took
	}
	m.ResourceVersion = fmt.Sprint(a.rv)
	if m.UID == "" {
		m.UID = types.UID(fmt.Sprintf("uid-%d", a.rv))
	}
}

func (a *api) createPod(ctx context.Context, pod *corev1.Pod) {
	a.t.Helper()
	a.stamp(&pod.ObjectMeta)
	if _, err := a.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *api) updatePod(ctx context.Context, name string, change func(*corev1.Pod)) {
	a.t.Helper()
	pod, err := a.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		a.t.Fatal(err)
	}
	change(pod)
	a.stamp(&pod.ObjectMeta)
	if _, err := a.CoreV1().Pods("default").Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *api) putConfigMap(ctx context.Context, name, value string) {
	a.t.Helper()
	cms := a.CoreV1().ConfigMaps("default")
	cm, err := cms.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{"key": value}}
		a.stamp(&cm.ObjectMeta)
		_, err = cms.Create(ctx, cm, metav1.CreateOptions{})
	} else {
		cm.Data = map[string]string{"key": value}
		a.stamp(&cm.ObjectMeta)
		_, err = cms.Update(ctx, cm, metav1.UpdateOptions{})
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// testPod names ConfigMaps and wants a token.
func testPod(name string, configMaps ...string) *corev1.Pod {
	seconds := int64(3607)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"a": "1", "b": "2", "c": "3"}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
	}
	sources := []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}}}
	for _, cm := range configMaps {
		sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: cm}}})
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "all", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}}
	return pod
}

// publisher runs the cloud half.
func publisher(ctx context.Context, t *testing.T, a *api) (*clouddesired.Publisher, *sync.WaitGroup) {
	t.Helper()
	p, err := clouddesired.New(clouddesired.Config{Client: a, Dynamic: a.devices, Log: logger()})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("publisher's Run: %v", err)
		}
	})
	<-p.Ready()
	// The fake's watches may begin after its lists.
	synctest.Wait()
	return p, &wg
}
