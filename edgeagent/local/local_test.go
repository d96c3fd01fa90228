package local_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi/kubeletapitest"
	"github.com/skerry-io/skerry/edgeagent/local"
)

// connectVar makes the test's binary a program that connects to a socket.
const connectVar = "SKERRY_TEST_CONNECT"

func TestMain(m *testing.M) {
	if socket := os.Getenv(connectVar); socket != "" {
		_, err := (&local.Client{Socket: socket}).Node(context.Background()) //nolint:forbidigo // this process is the test's other user
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type source struct{}

func (source) Pods() local.Pods {
	return local.Pods{
		Pods:     []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}}},
		Problems: []string{"x.yaml: no pod"},
	}
}

func (source) Node(context.Context) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "edge"}}
}

func (source) ConfigMaps(namespace, name string) ([]corev1.ConfigMap, error) {
	if namespace == "broken" {
		return nil, errors.New("the store is broken")
	}
	return []corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string]string{"k": "v"}}}, nil
}

// serve runs a server with the real handlers of the kubelet API.
func serve(t *testing.T, runtime kubeletapitest.Runtime) (*local.Client, context.CancelFunc) {
	t.Helper()
	var pods kubeletapitest.Pods
	logFile := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(logFile, []byte("2026-11-23T00:00:00Z stdout F one\n2026-11-23T00:00:01Z stdout F two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pods.Set(kubeletapi.Pod{Namespace: "ns", Name: "web", UID: "1", Containers: []kubeletapi.Container{
		{Name: "main", State: kubeletapi.Running, Current: kubeletapi.Attempt{ID: "c1", LogPath: logFile}},
	}})
	api, err := kubeletapi.New(kubeletapi.Config{Pods: &pods, Runtime: runtime})
	if err != nil {
		t.Fatal(err)
	}
	socket := local.SocketPath(t.TempDir())
	srv, err := local.New(local.Config{Socket: socket, Source: source{}, Kubelet: api.Handler(), Exec: api.ServeCommand})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop := func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	c := &local.Client{Socket: socket}
	for {
		_, err := c.Node(ctx)
		if err == nil {
			return c, stop
		}
		if !errors.Is(err, local.ErrNoAgent) {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatal("the server never listened")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestAnswers(t *testing.T) {
	c, _ := serve(t, kubeletapitest.Runtime{})
	pods, err := c.Pods(t.Context())
	if d := cmp.Diff(source{}.Pods(), pods); err != nil || d != "" {
		t.Errorf("pods: %v (-want +got):\n%s", err, d)
	}
	maps, err := c.ConfigMaps(t.Context(), "ns", "cm")
	if err != nil || len(maps) != 1 || maps[0].Name != "cm" || maps[0].Namespace != "ns" || maps[0].Data["k"] != "v" {
		t.Errorf("ConfigMaps: %+v, %v", maps, err)
	}
	if _, err := c.ConfigMaps(t.Context(), "broken", ""); err == nil || err.Error() != "the store is broken" {
		t.Errorf("the agent's own words are lost: %v", err)
	}
	var log bytes.Buffer
	if err := c.Logs(t.Context(), "ns", "web", "main", url.Values{"tailLines": {"1"}}, &log); err != nil || log.String() != "two\n" {
		t.Errorf("log %q, %v", log.String(), err)
	}
	if err := c.Logs(t.Context(), "ns", "nobody", "main", nil, io.Discard); err == nil || !strings.Contains(err.Error(), `pod "nobody" not found`) {
		t.Errorf("log of no pod: %v", err)
	}
}

func TestExec(t *testing.T) {
	c, _ := serve(t, kubeletapitest.Runtime{})
	var out, errOut bytes.Buffer
	run := func(container string, command ...string) (int, error) {
		out.Reset()
		errOut.Reset()
		return c.Exec(t.Context(), local.Command{
			Namespace: "ns", Pod: "web", Container: container, Command: command,
			In: strings.NewReader("input"), Out: &out, Err: &errOut,
		})
	}
	if code, err := run("main", "sh", "-c", "cat; echo oops >&2; exit 7"); code != 7 || err != nil || out.String() != "input" || errOut.String() != "oops\n" {
		t.Errorf("code %d, %v, output %q and %q", code, err, out.String(), errOut.String())
	}
	if _, err := run("other", "true"); err == nil || !strings.Contains(err.Error(), `container "other" not found`) {
		t.Errorf("command in no container: %v", err)
	}
}

// A terminal's size gets to the command, also one that it takes on later.
func TestExecResize(t *testing.T) {
	got := make(chan cri.Size, 2)
	c, _ := serve(t, kubeletapitest.Runtime{Override: func(_ context.Context, o cri.ExecOptions) (int, error) {
		if !o.TTY || o.Stderr != nil {
			t.Errorf("options %+v", o)
		}
		for range 2 {
			got <- <-o.Resize
		}
		return 0, nil
	}})
	sizes := make(chan local.Size, 2)
	sizes <- local.Size{Width: 80, Height: 24}
	sizes <- local.Size{Width: 100, Height: 50}
	_, err := c.Exec(t.Context(), local.Command{
		Namespace: "ns", Pod: "web", Container: "main", Command: []string{"sh"}, TTY: true, Out: io.Discard, Sizes: sizes,
	})
	if a, b := <-got, <-got; err != nil || a != (cri.Size{Width: 80, Height: 24}) || b != (cri.Size{Width: 100, Height: 50}) {
		t.Errorf("sizes %v and %v, %v", a, b, err)
	}
}

// A caller that goes away ends its command, and so does the end of the agent.
func TestExecCanceled(t *testing.T) {
	for _, who := range []string{"caller", "agent"} {
		t.Run(who, func(t *testing.T) {
			began, ended := make(chan struct{}), make(chan struct{})
			c, stop := serve(t, kubeletapitest.Runtime{Override: func(ctx context.Context, _ cri.ExecOptions) (int, error) {
				close(began)
				<-ctx.Done()
				close(ended)
				return 0, ctx.Err()
			}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if who == "agent" {
				cancel = stop
			}
			go func() { <-began; cancel() }()
			if _, err := c.Exec(ctx, local.Command{Namespace: "ns", Pod: "web", Container: "main", Command: []string{"x"}, Out: io.Discard}); err == nil {
				t.Error("no error")
			}
			<-ended
		})
	}
}

func TestNoAgent(t *testing.T) {
	c := &local.Client{Socket: local.SocketPath(t.TempDir())}
	if _, err := c.Pods(t.Context()); !errors.Is(err, local.ErrNoAgent) {
		t.Errorf("pods: %v", err)
	}
	if _, err := c.Exec(t.Context(), local.Command{}); !errors.Is(err, local.ErrNoAgent) {
		t.Errorf("exec: %v", err)
	}
	live, stop := serve(t, kubeletapitest.Runtime{})
	stop()
	if _, err := live.Pods(t.Context()); !errors.Is(err, local.ErrNoAgent) {
		t.Errorf("after the agent's end: %v", err)
	}
}

// Only root gets in, even where modes would let others through.
func TestOnlyRoot(t *testing.T) {
	c, _ := serve(t, kubeletapitest.Runtime{})
	dir := filepath.Dir(c.Socket)
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, c.Socket: 0o600 | os.ModeSocket} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can connect as somebody else")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.MkdirTemp("/tmp", "skerry-local-test") //nolint:usetesting // t.TempDir is below a private folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(public) })
	program := filepath.Join(public, "connect")
	b, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(program, b, 0o755)
	}
	for _, path := range []string{public, filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir), dir, c.Socket} {
		err = errors.Join(err, os.Chmod(path, 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		uid  uint32
		want bool
	}{{0, true}, {65534, false}} {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), connectVar+"="+c.Socket)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: tt.uid, Gid: tt.uid}}
		out, err := cmd.CombinedOutput()
		if (err == nil) != tt.want {
			t.Errorf("uid %d: %v, output %q", tt.uid, err, out)
		}
	}
}
