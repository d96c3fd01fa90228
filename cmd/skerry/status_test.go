package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/cloudproxy/status"
)

// statusAPI is kube-apiserver and the proxy behind it.
type statusAPI struct {
	mu       sync.Mutex // guards the following fields
	nodes    map[string]*corev1.Node
	sessions map[string]status.Session
	fail     int // status of answers about sessions; 0 for none
	asked    int
}

func newStatusAPI(t *testing.T) (*statusAPI, *cluster) {
	t.Helper()
	a := &statusAPI{nodes: make(map[string]*corev1.Node), sessions: make(map[string]status.Session)}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	return a, &cluster{connect: func(cluster) (kubernetes.Interface, error) {
		return kubernetes.NewForConfig(&rest.Config{Host: srv.URL, QPS: -1})
	}}
}

func (a *statusAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	name, rest, proxied := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/nodes/"), "/proxy")
	switch node := a.nodes[name]; {
	case r.URL.Path == "/api/v1/nodes":
		list := corev1.NodeList{TypeMeta: metav1.TypeMeta{Kind: "NodeList", APIVersion: "v1"}}
		for _, n := range a.nodes {
			if r.URL.Query().Get("labelSelector") == "skerry.io/edge=true" && n.Labels[report.LabelEdge] == "true" {
				list.Items = append(list.Items, *n)
			}
		}
		_ = json.NewEncoder(w).Encode(&list)
	case node == nil:
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(&metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound, Message: "not found",
		})
	case !proxied:
		_ = json.NewEncoder(w).Encode(node)
	case a.fail == http.StatusServiceUnavailable: // kube-apiserver's own word
		a.asked++
		w.WriteHeader(a.fail)
		_ = json.NewEncoder(w).Encode(&metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure, Reason: metav1.StatusReasonServiceUnavailable, Code: int32(a.fail), Message: "some trouble",
		})
	case a.fail != 0:
		a.asked++
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(a.fail)
		_, _ = w.Write([]byte("some trouble"))
	case rest == "/edge/v1/session":
		a.asked++
		_ = json.NewEncoder(w).Encode(a.sessions[name])
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (a *statusAPI) add(name string, ready corev1.ConditionStatus, message string, s status.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Node = name
	a.sessions[name] = s
	a.nodes[name] = &corev1.Node{
		TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{report.LabelEdge: "true"}, Annotations: map[string]string{report.AnnotationOwner: "cloudproxy"},
		},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.37.2-skerry.0.2.0"},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Message: message}},
		},
	}
}

// fill makes an edge that is connected, one that has lost its link, and one that
// the proxy has never seen.
func (a *statusAPI) fill() {
	now := time.Now()
	a.add("press-07", corev1.ConditionTrue, "", status.Session{
		Connected: true, Since: now.Add(-3 * time.Hour), SessionSince: now.Add(-50 * time.Hour), AgentVersion: "0.3.0",
		Link: "quic", Remote: "203.0.113.7:4711", RTT: 61.7, BytesSent: 123_456_789, BytesReceived: 4_321, PacketsSent: 1000, PacketsLost: 12,
		Streams: 3, Links: 5, Resumes: 4, Migrations: 2, ReplayedBytes: 16384, BufferedBytes: 100,
		Desired: &status.Desired{Synced: true, Objects: 12, Unapplied: status.Behind{Objects: 1, LagSeconds: 2.5}, Unrunning: status.Behind{Objects: 2, LagSeconds: 75}},
	})
	a.nodes["press-07"].Annotations["skerry.io/edge-addresses"] = "192.168.7.4,fd00::4"
	a.add("pump-1", corev1.ConditionTrue, "", status.Session{
		Since: now.Add(-30 * time.Second), SessionSince: now.Add(-time.Hour), AgentVersion: "0.3.0", Streams: 2, Links: 1,
	})
	a.add("quarry", corev1.ConditionUnknown, "no session since "+now.Add(-5*time.Minute).UTC().Format(time.RFC3339), status.Session{})
}

func TestStatusTable(t *testing.T) {
	a, c := newStatusAPI(t)
	a.fill()
	a.nodes["worker"] = &corev1.Node{TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "worker"}}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, `
NAME       STATE               LINK   RTT    LOSS   SENT    RECEIVED   STREAMS   RESUMES   BEHIND      REMOTE             AGENT
press-07   connected           quic   62ms   1.2%   123MB   4.3kB      3         4         2 for 75s   203.0.113.7:4711   0.3.0
pump-1     offline since 30s   -      -      -      0B      0B         2         0         -           -                  0.3.0
quarry     offline since 5m    -      -      -      -       -          -         -         -           -                  0.2.0
`},
		{[]string{"press-07", "-o", "wide"}, `
NAME       STATE       LINK   RTT    LOSS   SENT    RECEIVED   STREAMS   RESUMES   BEHIND      REMOTE             AGENT   FOR   SESSION   LINKS   MIGRATIONS   REPLAYED   DUPLICATE   BUFFERED   OBJECTS   UNSTORED   UNAPPLIED   EXPIRES   CA EXPIRES   ADDRESSES
press-07   connected   quic   62ms   1.2%   123MB   4.3kB      3         4         2 for 75s   203.0.113.7:4711   0.3.0   3h    2d2h      5       2            16kB       0B          100B       12        0          1 for 2s    -         -            192.168.7.4,fd00::4
`},
	} {
		got, err := execute(t, statusCommand(c), tt.args...)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.args, diff)
		}
	}
}

func TestStatusJSON(t *testing.T) {
	a, c := newStatusAPI(t)
	if out, err := execute(t, statusCommand(c), "-o", "json"); err != nil || out != "[]\n" {
		t.Errorf("no edges: %q, %v", out, err)
	}
	a.fill()
	out, err := execute(t, statusCommand(c), "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var all []edge
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 || all[0].Node != "press-07" || all[0].State != stateConnected || all[0].BytesSent != 123_456_789 || all[2].State != stateOffline {
		t.Errorf("got %+v", all)
	}
	if out, err = execute(t, statusCommand(c), "quarry", "-o", "yaml"); err != nil || !strings.Contains(out, "\nstate: offline\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStatusErrors(t *testing.T) {
	a, c := newStatusAPI(t)
	if out, err := execute(t, statusCommand(c)); err != nil || !strings.Contains(out, "skerry token create") {
		t.Errorf("no edges: %v\n%s", err, out)
	}
	a.fill()
	a.nodes["worker"] = &corev1.Node{TypeMeta: metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "worker"}}
	for _, tt := range []struct {
		name string
		fail int
		want string // of the error
		out  string
	}{
		{"nosuch", 0, "there is no edge nosuch; 'skerry status' lists all", ""},
		{"No_Name", 0, `"No_Name" can't be an edge`, ""},
		{"worker", 0, "node worker is not an edge of Skerry", ""},
		{"press-07", http.StatusForbidden, "some trouble; its figures need the right to get nodes/proxy", "press-07   connected   -"},
		{"press-07", http.StatusNotFound, "older than this command", "press-07   unknown   -"},
		{"press-07", http.StatusServiceUnavailable, "kube-apiserver can't reach the cloud proxy of press-07: some trouble; does it run", "press-07   unknown"},
		{"quarry", http.StatusServiceUnavailable, "does it run", "quarry   offline since 5m"},
	} {
		a.mu.Lock()
		a.fail = tt.fail
		a.mu.Unlock()
		out, err := execute(t, statusCommand(c), tt.name)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || !strings.Contains(out, tt.out) {
			t.Errorf("%s with %d: got %v\n%s", tt.name, tt.fail, err, out)
		}
	}
	// A proxy that is down is asked about few edges, not about all.
	a.mu.Lock()
	a.asked = 0
	a.mu.Unlock()
	for n := range strings.FieldsSeq("a b c d e f g h i j k l m n o p q r s t u v w x y z") {
		a.add(n, corev1.ConditionTrue, "", status.Session{})
	}
	_, err := execute(t, statusCommand(c))
	if err == nil || !strings.Contains(err.Error(), "29 of 29 edges") || a.asked > maxAsked {
		t.Errorf("asked %d times: %v", a.asked, err)
	}
}

// TestStatusWatch prints what is there, and then only what changes.
func TestStatusWatch(t *testing.T) {
	a, c := newStatusAPI(t)
	a.fill()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out watched
	cmd := statusCommand(c)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{"--watch"})
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	out.wait(t, "quarry")
	s := a.sessions["press-07"]
	s.Link = "tls"
	a.add("press-07", corev1.ConditionTrue, "", s)
	out.wait(t, "tls")
	a.mu.Lock()
	delete(a.nodes, "pump-1")
	a.mu.Unlock()
	out.wait(t, "removed")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 6 {
		t.Errorf("%d lines, want the head, three edges and two changes:\n%s", n, out.String())
	}
}

// watched is output that a test waits for.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w *watched) wait(t *testing.T, text string) {
	t.Helper()
	bound := time.After(30 * time.Second)
	for !strings.Contains(w.String(), text) {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-bound:
			t.Fatalf("%q does not come:\n%s", text, w.String())
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0B", 999: "999B", 1000: "1.0kB", 9_949: "9.9kB", 9_950: "10kB", 999_499: "999kB", 999_500: "1.0MB", 12_345_678_901: "12GB", 5e15: "5000TB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
