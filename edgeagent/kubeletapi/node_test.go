package kubeletapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
)

// nodePods are n pods.
func nodePods(n int) iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for i := range n {
			p := &corev1.Pod{
				TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%d", i)},
			}
			if !yield(p) {
				return
			}
		}
	}
}

func nodeConfig() kubeletapi.NodeConfig {
	return kubeletapi.NodeConfig{
		Pods:        func() iter.Seq[*corev1.Pod] { return nodePods(2) },
		RunningPods: func(context.Context) ([]*corev1.Pod, error) { return nil, errors.New("no runtime") },
		Summary:     func(_ context.Context, only bool) (any, error) { return map[string]bool{"only": only}, nil },
		Metrics: map[string]func(context.Context, io.Writer) error{
			"/metrics/resource": func(_ context.Context, w io.Writer) error {
				_, err := io.WriteString(w, "a 1\n")
				return err
			},
			"/metrics/probes": func(context.Context, io.Writer) error { return nil },
			"/metrics/cadvisor": func(context.Context, io.Writer) error {
				return errors.New("nothing to measure")
			},
			"/metrics": func(_ context.Context, w io.Writer) error {
				_, _ = w.Write(make([]byte, 100<<10))
				return errors.New("breaks off")
			},
		},
		Configz: func() any { return map[string]int{"kubeletconfig": 1} },
	}
}

func TestNode(t *testing.T) {
	e := startEdge(t, kubeletapi.Config{Node: nodeConfig()})
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"/healthz/syncloop", 200, "ok"},
		{"/runningpods/", 500, "no runtime"},
		{"/stats/summary?only_cpu_and_memory=true", 200, `"only": true`},
		{"/stats/summary?only_cpu_and_memory=1", 200, `"only": false`},
		{"/metrics/resource", 200, "a 1\n"},
		{"/metrics/probes", 200, ""},
		{"/metrics/cadvisor", 500, "nothing to measure"},
		{"/metrics/slis", 404, "404 page not found"},
		{"/configz", 200, `{"kubeletconfig":1}`},
		{"/logs/", 404, "404 page not found"},       // there is no LogDir
		{"/stats/summary/../../pods", 307, "/pods"}, // never from the cloud, which refuses such a path
	} {
		status, got := e.get(t, tt.path)
		if status != tt.status || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %d %q, want %d %q", tt.path, status, got, tt.status, tt.want)
		}
	}
	for _, path := range []string{"/pods", "/pods/"} {
		status, got := e.get(t, path)
		var list corev1.PodList
		if err := json.Unmarshal([]byte(got), &list); err != nil || status != 200 || len(list.Items) != 2 || list.Kind != "PodList" || list.Items[1].Name != "p1" || list.Items[1].Kind != "" {
			t.Errorf("%s: %d %v %s", path, status, err, got)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+e.kubelet.Addr().String()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("metrics that broke off look whole")
	}
}

// logFolder is a /var/log beside which there is a secret.
func logFolder(tb testing.TB) string {
	tb.Helper()
	top := tb.TempDir()
	dir := filepath.Join(top, "log")
	for _, step := range []error{
		os.MkdirAll(filepath.Join(dir, "pods", "ns_p_u"), 0o755),
		os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o600),
		os.WriteFile(filepath.Join(dir, "messages"), []byte("<b>one\ntwo\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "a&b c?.log"), []byte("odd\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "old.gz"), []byte{0x1f, 0x8b}, 0o600),
		os.Symlink("../secret", filepath.Join(dir, "up")),
		os.Symlink(filepath.Join(top, "secret"), filepath.Join(dir, "absolute")),
		os.Symlink("messages", filepath.Join(dir, "syslog")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Symlink("../..", filepath.Join(dir, "pods", "ns_p_u", "out")),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	} {
		if step != nil {
			tb.Fatal(step)
		}
	}
	return dir
}

func TestLogFiles(t *testing.T) {
	e := startEdge(t, kubeletapi.Config{Node: kubeletapi.NodeConfig{LogDir: logFolder(t)}})
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"/logs/messages", 200, "<b>one\ntwo\n"},
		{"/logs/syslog", 200, "<b>one\ntwo\n"},
		{"/logs/a&b%20c%3F.log", 200, "odd\n"},
		{"/logs/old.gz", 200, "\x1f\x8b"},
		{"/logs", 200, `<a href="a&amp;b%20c%3F.log">a&amp;b c?.log</a>`},
		{"/logs/pods/", 200, `<a href="ns_p_u/">ns_p_u/</a>`},
		{"/logs/pods", 200, `<a href="ns_p_u/">ns_p_u/</a>`},
		{"/logs/none", 404, "404 page not found"},
		{"/logs/messages/x", 404, "404 page not found"},
		{"/logs/" + strings.Repeat("x", 300), 404, "404 page not found"},
		{"/logs/pipe", 400, "pipe is not a file"},
		{"/logs/a%00b", 400, "can't be opened"},
		{"/logs/loop", 400, "loop can't be opened"},
	} {
		status, got := e.get(t, tt.path)
		if status != tt.status || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %d %q, want %d %q", tt.path, status, got, tt.status, tt.want)
		}
	}
	for _, path := range []string{"up", "absolute", "pods/ns_p_u/out/secret", "..%2fsecret", "%2e%2e/secret", "pods/..%2f..%2fsecret", "/secret", "//etc/passwd"} {
		if status, got := e.get(t, "/logs/"+path); status == http.StatusOK || got == "secret" {
			t.Errorf("%s: got %d %q", path, status, got)
		}
	}
}

// FuzzLogFiles never gets at what is beside the folder.
func FuzzLogFiles(f *testing.F) {
	for _, p := range []string{"messages", "../secret", "pods/ns_p_u/out/secret", "./up", "\x00", "absolute/", "pods//..//..//secret"} {
		f.Add(p)
	}
	s, err := kubeletapi.New(kubeletapi.Config{
		Pods: &kubeletapitest.Pods{}, Runtime: kubeletapitest.Runtime{}, Node: kubeletapi.NodeConfig{LogDir: logFolder(f)},
	})
	if err != nil {
		f.Fatal(err)
	}
	h := s.Handler()
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/logs/", nil)
		r.URL.Path = "/logs/" + path
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusOK && w.Body.String() == "secret" {
			t.Errorf("%q leads out of the folder", path)
		}
	})
}

func TestCheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	var asked struct {
		id, file string
		timeout  time.Duration
	}
	answer := error(nil)
	e := startEdge(t, kubeletapi.Config{Node: kubeletapi.NodeConfig{CheckpointDir: dir, Checkpoint: func(_ context.Context, id, file string, timeout time.Duration) error {
		asked.id, asked.file, asked.timeout = id, file, timeout
		return answer
	}}})
	e.pods.Set(kubeletapi.Pod{Namespace: "default", Name: "p", UID: "u", Containers: []kubeletapi.Container{
		{Name: "c", State: kubeletapi.Running, Current: kubeletapi.Attempt{ID: "id"}},
		{Name: "waits", State: kubeletapi.Waiting},
	}})
	post := func(path, uid string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+e.kubelet.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Skerry-Pod-Uid", uid)
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	status, got := post("/checkpoint/default/p/c?timeout=5&timeout=7", "u")
	if want := fmt.Sprintf("{\"items\":[%q]}\n", asked.file); status != 200 || got != want || asked.id != "id" || asked.timeout != 7*time.Second ||
		!strings.HasPrefix(asked.file, filepath.Join(dir, "checkpoint-p_default-c-")) || !strings.HasSuffix(asked.file, ".tar") {
		t.Errorf("got %d %q for %+v", status, got, asked)
	}
	answer = fmt.Errorf("checkpoint container: %w", cri.ErrUnsupported)
	for _, tt := range []struct {
		path, uid string
		status    int
		want      string
	}{
		{"/checkpoint/default/p/c", "u", 500, "checkpointing of default/p/c failed (checkpoint container: not supported by the container runtime)"},
		{"/checkpoint/default/p/c", "other", 404, "pod does not exist"},
		{"/checkpoint/default/q/c", "", 404, "pod does not exist"},
		{"/checkpoint/default/p/x", "u", 404, "container x does not exist"},
		{"/checkpoint/default/p/waits", "u", 500, "checkpointing of default/p/waits failed (container waits not found)"},
		{"/checkpoint/default/p/c?timeout=x", "u", 404, "cannot parse value of timeout parameter"},
		{"/checkpoint/default/p/c?timeout=99999999999999", "u", 404, "cannot parse value of timeout parameter"},
	} {
		if status, got := post(tt.path, tt.uid); status != tt.status || got != tt.want {
			t.Errorf("%s: got %d %q, want %d %q", tt.path, status, got, tt.status, tt.want)
		}
	}
	if status, _ := e.get(t, "/checkpoint/default/p/c"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", status)
	}
}

// TestNodeIsBounded has as many requests under way as there may be.
func TestNodeIsBounded(t *testing.T) {
	const most = 16
	begun, end := make(chan struct{}, most), make(chan struct{})
	e := startEdge(t, kubeletapi.Config{Node: kubeletapi.NodeConfig{Metrics: map[string]func(context.Context, io.Writer) error{
		"/metrics": func(ctx context.Context, _ io.Writer) error {
			begun <- struct{}{}
			select {
			case <-end:
			case <-ctx.Done():
			}
			return nil
		},
	}}})
	done := make(chan int, most)
	for range most {
		go func() {
			status, _ := e.get(t, "/metrics")
			done <- status
		}()
		<-begun
	}
	if status, got := e.get(t, "/metrics"); status != http.StatusTooManyRequests {
		t.Errorf("one more: %d %q", status, got)
	}
	close(end)
	for range most {
		if status := <-done; status != 200 {
			t.Errorf("one of those: %d", status)
		}
	}
}
