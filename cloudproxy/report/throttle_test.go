package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// roundTrip is an API server as client-go sees it.
type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return f(r)
}

func answer(r *http.Request, code int, header http.Header, o any) (*http.Response, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	return &http.Response{StatusCode: code, Header: header, Body: io.NopCloser(bytes.NewReader(b)), Request: r}, nil
}

// receiver makes a Receiver with a real client over f.
func receiver(t *testing.T, f roundTrip) *Receiver {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api", Transport: f, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Client: client})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serveReports runs a Receiver with a real client over f, sends it reports, and
// gives the seqs that are acknowledged.
func serveReports(t *testing.T, f roundTrip, reports ...wire.Report) (acked func() map[uint64]bool, stop func()) {
	t.Helper()
	r := receiver(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	edge, cloud := net.Pipe()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seqs := make(map[uint64]bool)
	wg.Go(func() { _ = r.Serve(ctx, "e1", cloud) })
	wg.Go(func() {
		frames := wire.NewReader(bufio.NewReader(edge), maxFrame)
		for {
			f, err := frames.Next()
			if err != nil {
				return
			}
			if ack, ok := f.(*wire.ReportAck); ok {
				mu.Lock()
				seqs[ack.Seq] = true
				mu.Unlock()
			}
		}
	})
	for _, report := range reports {
		if err := wire.Write(edge, &report); err != nil {
			t.Fatal(err)
		}
	}
	return func() map[uint64]bool {
		mu.Lock()
		defer mu.Unlock()
		return seqs
	}, func() { cancel(); edge.Close(); wg.Wait() }
}

var throttledPod = corev1.Pod{
	TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
	ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"}, Spec: corev1.PodSpec{NodeName: "e1"},
}

func statusReport(t *testing.T, seq uint64) wire.Report {
	t.Helper()
	pod := throttledPod
	pod.Status.Phase = corev1.PodRunning
	b, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return wire.Report{Seq: seq, Subject: wire.SubjectPod, Key: "pods/default/web", Value: b}
}

func eventReport(t *testing.T, seq uint64) wire.Report {
	t.Helper()
	ev := corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("e", seq)},
		InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "e1"},
	}
	b, err := ev.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return wire.Report{Seq: seq, Subject: wire.SubjectEvent, Key: fmt.Sprint("events/default/e", seq), Value: b}
}

// TestSlowEventsDelayNoStatus has the API server answer to no event.
func TestSlowEventsDelayNoStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		hanging, most, attempts := 0, 0, 0
		patched := false
		api := func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/events") {
				mu.Lock()
				hanging++
				attempts++
				most = max(most, hanging)
				mu.Unlock()
				<-r.Context().Done()
				mu.Lock()
				hanging--
				mu.Unlock()
				return nil, r.Context().Err()
			}
			mu.Lock()
			patched = patched || r.Method == http.MethodPatch
			mu.Unlock()
			return answer(r, http.StatusOK, nil, throttledPod)
		}
		var reports []wire.Report
		for i := range uint64(20) {
			reports = append(reports, eventReport(t, i+1))
		}
		acked, stop := serveReports(t, api, append(reports, statusReport(t, 21))...)
		wait(time.Second)
		if got := acked(); !patched || !got[21] || len(got) != 1 {
			t.Errorf("patched: %v, acknowledged: %v", patched, got)
		}
		wait(10 * time.Minute)
		mu.Lock()
		if most > maxEventWrites {
			t.Errorf("%d requests at once, at most %d", most, maxEventWrites)
		}
		// An attempt takes writeTimeout, and there are maxEventWrites at once.
		if want := maxEventWrites * int(10*time.Minute/writeTimeout); attempts < want/2 || attempts > want+maxEventWrites {
			t.Errorf("%d attempts in ten minutes, want about %d", attempts, want)
		}
		mu.Unlock()
		stop()
	})
}

// TestRetryAfter has the API server ask for time, as priority and fairness does.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = 8 * time.Second
		var mu sync.Mutex
		var times []time.Time
		api := func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet {
				return answer(r, http.StatusOK, nil, throttledPod)
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			if len(times) < 8 {
				status := apierrors.NewTooManyRequests("slow down", int(after.Seconds())).Status()
				return answer(r, http.StatusTooManyRequests, http.Header{"Retry-After": {fmt.Sprint(after.Seconds())}}, status)
			}
			return answer(r, http.StatusOK, nil, throttledPod)
		}
		acked, stop := serveReports(t, api, statusReport(t, 1))
		wait(10 * time.Minute)
		mu.Lock()
		for i := 1; i < len(times); i++ {
			if d := times[i].Sub(times[i-1]); d < after {
				t.Errorf("attempt %d came after %v, the API server asked for %v", i, d, after)
			}
		}
		if len(times) != 8 || !acked()[1] {
			t.Errorf("%d attempts, acknowledged: %v", len(times), acked())
		}
		mu.Unlock()
		stop()
	})
}

func TestPause(t *testing.T) {
	for _, tt := range []struct {
		name        string
		wait        time.Duration
		err         error
		least, most time.Duration
	}{
		{"plain", 4 * time.Second, errors.New("no"), 2 * time.Second, 6 * time.Second},
		{"asked for", 4 * time.Second, apierrors.NewTooManyRequests("", 60), 62 * time.Second, 66 * time.Second},
		{"asked for, wrapped", time.Second, fmt.Errorf("x: %w", apierrors.NewTooManyRequests("", 60)), 60 * time.Second, 62 * time.Second},
		{"asked for too much", time.Second, apierrors.NewTooManyRequests("", 86400), maxSuggested, maxSuggested + 2*time.Second},
	} {
		for range 100 {
			if d := pause(tt.wait, tt.err); d < tt.least || d > tt.most {
				t.Errorf("%s: %v, want %v to %v", tt.name, d, tt.least, tt.most)
			}
		}
	}
}

// TestNodeIsAskedFor: a stream that is opened while the Node lacks something, and
// one that is open when it comes to.
func TestNodeIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wanted := true
		r, err := New(Config{Client: fake.NewClientset(), NodeWanted: func(node string) bool { return node == "e1" && wanted }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := make(chan uint64, 10)
		open := func() (end func()) {
			edge, cloud := net.Pipe()
			done := make(chan struct{})
			go func() { defer close(done); _ = r.Serve(ctx, "e1", cloud) }()
			go func() {
				frames := wire.NewReader(bufio.NewReader(edge), maxFrame)
				for {
					f, err := frames.Next()
					if err != nil {
						return
					}
					if ack, ok := f.(*wire.ReportAck); ok {
						asked <- ack.Seq
					}
				}
			}()
			return func() { edge.Close(); <-done }
		}
		end := open()
		synctest.Wait()
		if len(asked) != 1 || <-asked != 0 {
			t.Error("the edge was not asked at the start")
		}
		r.AskNode("e2")
		r.AskNode("e1")
		synctest.Wait()
		if len(asked) != 1 || <-asked != 0 {
			t.Error("the edge was not asked later")
		}
		end()
		r.AskNode("e1") // nobody is there
		wanted = false
		end = open()
		synctest.Wait()
		if len(asked) != 0 {
			t.Error("the edge was asked for what the Node has")
		}
		end()
		if len(r.streams) != 0 {
			t.Errorf("streams of %d nodes are remembered", len(r.streams))
		}
	})
}
