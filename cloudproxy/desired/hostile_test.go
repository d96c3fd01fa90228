package desired

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// maxHostile is what cloudproxy/DESIGN.md says that an edge can make this package
// hold, whatever it sends. It has nothing to do with what the edge should hold.
const maxHostile = 16 << 20

// counted gives a Publisher with nothing in its caches, and its client.
func counted(t *testing.T) (*Publisher, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset()
	p, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	close(p.ready)
	return p, client
}

// serve begins a stream of which nobody has written the beginning.
func serve(t *testing.T, p *Publisher, node string) (edge net.Conn, ended <-chan error) {
	t.Helper()
	edge, cloud := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- p.Serve(t.Context(), node, cloud) }()
	t.Cleanup(func() { _ = edge.Close() })
	if err := edge.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return edge, done
}

// claim has an edge say that it holds n objects; every answer is acknowledged,
// and the number of Deletes returned when all is said.
func claim(t *testing.T, edge net.Conn, n int, key, version func(i int) string) (deletes int) {
	t.Helper()
	go func() {
		_ = wire.Write(edge, &wire.Digest{Buckets: []wire.Bucket{{Sum: [8]byte{1}}}})
		for i := 0; i < n; {
			f := &wire.Have{}
			for size := 0; i < n && size < 32<<10; i++ {
				f.Entries = append(f.Entries, wire.Entry{Key: key(i), Version: version(i)})
				size += len(key(i)) + len(version(i))
			}
			if f.Last = i == n; wire.Write(edge, f) != nil {
				return
			}
		}
	}()
	return (&fakeEdge{edge, frames(edge)}).agree(t)
}

// agree acknowledges what comes until Synced, and counts the Deletes.
func (e *fakeEdge) agree(t *testing.T) (deletes int) {
	t.Helper()
	for {
		switch f := e.next(t).(type) {
		case *wire.Delete:
			deletes++
			if err := wire.Write(e.conn, &wire.Ack{Seq: f.Seq, Step: wire.StepStored}); err != nil {
				t.Fatal(err)
			}
		case *wire.Synced:
			return deletes
		}
	}
}

func podKey(i int) string {
	return wire.ObjectKey(wire.ResourcePods, "somebody-elses", fmt.Sprintf("pod-%06d", i))
}

func oneVersion(int) string { return "5fbe2a0c-8f13-4a37-b8e0-2c9f5b0f7d11/0123456789abcdef01234567" }

// TestForeignPodsCostNoCalls: an edge says that it holds pods that are not there,
// or are those of other nodes. What the API server is asked does not grow with them.
func TestForeignPodsCostNoCalls(t *testing.T) {
	p, client := counted(t)
	for i := range 5000 {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "somebody-elses", Name: fmt.Sprintf("pod-%06d", i), UID: "another"},
			Spec:       corev1.PodSpec{NodeName: "another"},
		}
		if err := p.pods.GetIndexer().Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	edge, _ := serve(t, p, "e1")
	const n = 20_000
	if got := claim(t, edge, n, podKey, oneVersion); got != n {
		t.Errorf("%d of %d foreign pods were taken away", got, n)
	}
	calls := make(map[string]int)
	for _, a := range client.Actions() {
		calls[a.GetVerb()]++
	}
	if len(client.Actions()) > 1 {
		t.Errorf("%d foreign pods cost %v", n, calls)
	}
}

// TestOwnPodIsNotDismissed: among many foreign pods is one that the API has on the
// node, and a cache that is behind does not.
func TestOwnPodIsNotDismissed(t *testing.T) {
	p, client := counted(t)
	own := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "somebody-elses", Name: "pod-000007", UID: versionUID(oneVersion(7))},
		Spec:       corev1.PodSpec{NodeName: "e1"},
	}
	if _, err := client.CoreV1().Pods(own.Namespace).Create(t.Context(), own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	edge, _ := serve(t, p, "e1")
	const n = 2 * maxConfirms
	if got := claim(t, edge, n, podKey, oneVersion); got != n-1 {
		t.Errorf("%d pods were taken away, want %d", got, n-1)
	}
}

// TestProgressIsBounded: an edge names objects that nobody has sent it.
func TestProgressIsBounded(t *testing.T) {
	p, _ := counted(t)
	edge, _ := serve(t, p, "e1")
	before := heap()
	if err := wire.Write(edge, &wire.Digest{}); err != nil {
		t.Fatal(err)
	}
	if n := (&fakeEdge{edge, frames(edge)}).agree(t); n != 0 {
		t.Errorf("%d deletes", n)
	}
	for i := range 64 << 10 {
		key := fmt.Sprintf("configmaps/ns/%06d", i) + strings.Repeat("k", 580)
		if err := wire.Write(edge, &wire.Progress{Entries: []wire.Advance{{Key: key, Step: wire.StepStored}}}); err != nil {
			t.Fatal(err)
		}
	}
	if st, _ := p.Edge("e1"); st.Unrunning.Objects > 0 {
		t.Errorf("%d objects that the edge does not hold are behind", st.Unrunning.Objects)
	}
	if took := heap() - before; took > 1<<20 {
		t.Errorf("progress with objects that the edge does not hold costs %d bytes", took)
	}
	runtime.KeepAlive(edge)
}

// TestNewestStreamOfANodeWins: an edge has one stream, however many it opens.
func TestNewestStreamOfANodeWins(t *testing.T) {
	p, _ := counted(t)
	var ended []<-chan error
	for range 5 {
		edge, done := serve(t, p, "e1")
		ended = append(ended, done)
		if err := wire.Write(edge, &wire.Digest{}); err != nil {
			t.Fatal(err)
		}
		(&fakeEdge{edge, frames(edge)}).agree(t)
	}
	for _, done := range ended[:4] {
		select {
		case err := <-done:
			if err == nil {
				t.Error("a replaced stream ended without a reason")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a replaced stream goes on")
		}
	}
	if n := len(p.Edges()); n != 1 {
		t.Errorf("%d streams of one edge", n)
	}
	other, _ := serve(t, p, "e2")
	if err := wire.Write(other, &wire.Digest{}); err != nil {
		t.Fatal(err)
	}
	(&fakeEdge{other, frames(other)}).agree(t)
	if n := len(p.Edges()); n != 2 {
		t.Errorf("%d edges have streams, want 2", n)
	}
}

// TestMemoryOfAHostileEdge has an edge open as many streams as it may and make each
// hold what it can: names in Have, progress with all of them, and no acknowledgement.
func TestMemoryOfAHostileEdge(t *testing.T) {
	p, _ := counted(t)
	key := func(i int) string { return fmt.Sprintf("configmaps/ns/%06d", i) + strings.Repeat("k", 80) }
	before := heap()
	var edges []net.Conn
	for range 8 {
		edge, _ := serve(t, p, "e1")
		edges = append(edges, edge)
		go func() {
			_ = wire.Write(edge, &wire.Digest{Buckets: []wire.Bucket{{Sum: [8]byte{1}}}})
			for i := range 40_000 {
				f := &wire.Have{Entries: []wire.Entry{{Key: key(i), Version: "v"}}}
				p := &wire.Progress{Entries: []wire.Advance{{Key: key(i), Step: wire.StepStored}}}
				if i == 30_000 { // not more than it may
					f.Last = true
				}
				if wire.Write(edge, f) != nil || wire.Write(edge, p) != nil {
					return
				}
			}
		}()
		e := &fakeEdge{edge, frames(edge)}
		for range maxUnacked + 1 {
			e.next(t)
		}
	}
	took := heap() - before
	t.Logf("a hostile edge costs %d bytes", took)
	if took > maxHostile {
		t.Errorf("a hostile edge costs %d bytes, want at most %d", took, maxHostile)
	}
	runtime.KeepAlive(edges)
}

// TestFramesFromEdgesAreSmall: nothing that an edge has to say needs large frames.
func TestFramesFromEdgesAreSmall(t *testing.T) {
	p, _ := counted(t)
	edge, done := serve(t, p, "e1")
	go func() {
		f := &wire.Have{Entries: []wire.Entry{{Key: strings.Repeat("k", 65<<10)}}}
		if wire.Write(edge, f) == nil {
			_, _ = io.Copy(io.Discard, edge)
		}
	}()
	if err := <-done; !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, wire.ErrTooLarge)
	}
}
