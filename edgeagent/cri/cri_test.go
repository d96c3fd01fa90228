package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// server is a runtime of a few calls on a unix socket.
type server struct {
	runtimev1.UnimplementedRuntimeServiceServer
	runtimev1.UnimplementedImageServiceServer
	streams streaming.Server
	mu      sync.Mutex
	created *runtimev1.CreateContainerRequest
}

func (s *server) Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return &runtimev1.VersionResponse{RuntimeName: "test", RuntimeVersion: "1.2", RuntimeApiVersion: "v1"}, nil
}

func (s *server) Status(context.Context, *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	return &runtimev1.StatusResponse{Status: &runtimev1.RuntimeStatus{Conditions: []*runtimev1.RuntimeCondition{
		{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Reason: "NoCNI", Message: "no network config"},
	}}}, nil
}

func (s *server) StopContainer(_ context.Context, r *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error) {
	switch r.GetContainerId() {
	case "gone":
		return nil, status.Error(codes.NotFound, "no such container")
	case "stuck":
		return nil, status.Error(codes.Unknown, "context deadline exceeded: shim does not answer")
	}
	return &runtimev1.StopContainerResponse{}, nil
}

func (s *server) ContainerStatus(_ context.Context, _ *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "no such container")
}

func (s *server) CreateContainer(_ context.Context, r *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.created = r
	return &runtimev1.CreateContainerResponse{ContainerId: "c1"}, nil
}

func (s *server) ImageStatus(context.Context, *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error) {
	return &runtimev1.ImageStatusResponse{}, nil // the CRI's way to say "no such image"
}

func (s *server) Exec(_ context.Context, r *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error) {
	return s.streams.GetExec(r)
}

func (s *server) Attach(_ context.Context, r *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error) {
	return s.streams.GetAttach(r)
}

// exitError is what the streaming server takes for an exit code.
type exitError int

func (e exitError) Error() string   { return fmt.Sprintf("exit %d", int(e)) }
func (e exitError) String() string  { return e.Error() }
func (e exitError) Exited() bool    { return true }
func (e exitError) ExitStatus() int { return int(e) }

// commands are the programs of the streaming server.
type commands struct{}

func (commands) Exec(ctx context.Context, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	switch cmd[0] {
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "both":
		_, _ = io.WriteString(out, "out")
		_, _ = io.WriteString(errOut, "err")
		return exitError(42)
	case "size":
		s := <-resize
		_, _ = fmt.Fprintf(out, "%dx%d", s.Width, s.Height)
		return nil
	case "broken":
		return errors.New("no such file")
	case "sleep":
		<-ctx.Done()
		return ctx.Err()
	case "early": // ends without reading its input
		_, _ = io.WriteString(out, "bye")
		return exitError(1)
	}
	return nil
}

func (c commands) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return c.Exec(ctx, id, []string{"cat"}, in, out, errOut, tty, resize)
}

func (commands) PortForward(context.Context, string, int32, io.ReadWriteCloser) error { return nil }

func start(t *testing.T) (*Client, *server) {
	t.Helper()
	s := &server{}
	handler := httptest.NewUnstartedServer(nil)
	base, err := url.Parse("http://" + handler.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cfg := streaming.DefaultConfig
	cfg.BaseURL = base
	if s.streams, err = streaming.NewServer(cfg, commands{}); err != nil {
		t.Fatal(err)
	}
	handler.Config.Handler = s.streams
	handler.Start()
	t.Cleanup(handler.Close)

	socket := filepath.Join(t.TempDir(), "cri.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	runtimev1.RegisterRuntimeServiceServer(g, s)
	runtimev1.RegisterImageServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	c, err := New(Config{Endpoint: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, s
}

func TestNoRuntime(t *testing.T) {
	endpoint := "unix://" + filepath.Join(t.TempDir(), "absent.sock")
	c, err := New(Config{Endpoint: endpoint})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, err = c.Version(t.Context())
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "no container runtime answers at "+endpoint+": is containerd running?") {
		t.Errorf("error %v", err)
	}
	if _, err := New(Config{Endpoint: "tcp://1.2.3.4:5"}); err == nil {
		t.Error("took a tcp endpoint")
	}
}

func TestCalls(t *testing.T) {
	c, s := start(t)
	if v, err := c.Version(t.Context()); err != nil || v.Name != "test" {
		t.Errorf("version %+v, %v", v, err)
	}
	if h, err := c.Health(t.Context()); err != nil || !h.RuntimeReady || h.NetworkReady || h.Reason != "NetworkReady: NoCNI no network config" {
		t.Errorf("health %+v, %v", h, err)
	}
	if err := c.StopContainer(t.Context(), "gone", time.Second); err != nil {
		t.Errorf("stopping what is gone: %v", err)
	}
	var rt *RuntimeError
	if err := c.StopContainer(t.Context(), "stuck", time.Second); !errors.As(err, &rt) || !strings.HasPrefix(rt.Text, "context deadline exceeded: shim") {
		t.Errorf("runtime's own error: %v", err)
	}
	if _, err := c.ContainerStatus(t.Context(), "gone"); !errors.Is(err, ErrNotFound) {
		t.Errorf("status of what is gone: %v", err)
	}
	if _, err := c.ImageStatus(t.Context(), "absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent image: %v", err)
	}
	if err := c.Events(t.Context(), func(string) {}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no event stream: %v", err)
	}
	uid := int64(5)
	_, err := c.CreateContainer(t.Context(), "s1", &ContainerConfig{
		Name: "c", Attempt: 2, Image: "sha256:x", UserImage: "x:1", Env: []EnvVar{{Name: "A", Value: "b"}},
		Mounts:    []Mount{{ContainerPath: "/m", HostPath: "/h", ReadOnly: true, Propagation: PropagationBidirectional}},
		Resources: Resources{CPUShares: 2, MemoryLimit: 7},
		Security:  Security{RunAsUser: &uid, DropCapabilities: []string{"ALL"}, Seccomp: &Profile{Type: ProfileLocalhost, Localhost: "/p"}, NoNewPrivs: true},
	}, &SandboxConfig{Name: "p", Namespaces: Namespaces{Network: NamespaceNode, PID: NamespaceContainer}})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.created.GetConfig()
	sc := got.GetLinux().GetSecurityContext()
	if s.created.GetPodSandboxId() != "s1" || got.GetMetadata().GetAttempt() != 2 || string(got.GetEnvs()[0].GetValue()) != "b" ||
		!got.GetMounts()[0].GetReadonly() || got.GetMounts()[0].GetPropagation() != runtimev1.MountPropagation_PROPAGATION_BIDIRECTIONAL ||
		got.GetLinux().GetResources().GetMemoryLimitInBytes() != 7 || sc.GetRunAsUser().GetValue() != 5 || !sc.GetNoNewPrivs() ||
		sc.GetSeccomp().GetProfileType() != runtimev1.SecurityProfile_Localhost ||
		s.created.GetSandboxConfig().GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() != runtimev1.NamespaceMode_NODE {
		t.Errorf("created %v", s.created)
	}
}

func TestExec(t *testing.T) {
	// A proxy in the environment is for far things, not for loopback.
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	c, _ := start(t)
	exec := func(o ExecOptions) (code int, out, errOut string, err error) {
		var stdout, stderr bytes.Buffer
		o.Container, o.Stdout = "c1", &stdout
		if !o.TTY {
			o.Stderr = &stderr
		}
		code, err = c.Exec(t.Context(), o)
		return code, stdout.String(), stderr.String(), err
	}
	if code, out, errs, err := exec(ExecOptions{Cmd: []string{"both"}}); code != 42 || out != "out" || errs != "err" || err != nil {
		t.Errorf("both: %d %q %q %v", code, out, errs, err)
	}
	big := strings.Repeat("0123456789", 200<<10)
	if code, out, _, err := exec(ExecOptions{Cmd: []string{"cat"}, Stdin: strings.NewReader(big)}); code != 0 || out != big || err != nil {
		t.Errorf("cat: %d, %d of %d bytes, %v", code, len(out), len(big), err)
	}
	sizes := make(chan Size, 1)
	sizes <- Size{Width: 80, Height: 24}
	if _, out, _, err := exec(ExecOptions{Cmd: []string{"size"}, TTY: true, Resize: sizes}); out != "80x24" || err != nil {
		t.Errorf("size: %q %v", out, err)
	}
	var rt *RuntimeError
	if _, _, _, err := exec(ExecOptions{Cmd: []string{"broken"}}); !errors.As(err, &rt) || !strings.Contains(rt.Text, "no such file") {
		t.Errorf("broken: %v", err)
	}
	in, w := io.Pipe() // input that never ends
	defer func() { _ = w.Close() }()
	if code, out, _, err := exec(ExecOptions{Cmd: []string{"early"}, Stdin: in}); code != 1 || out != "bye" || err != nil {
		t.Errorf("early: %d %q %v", code, out, err)
	}
	if _, _, _, err := exec(ExecOptions{}); err == nil {
		t.Error("no error without a command")
	}
	var attached bytes.Buffer
	if err := c.Attach(t.Context(), AttachOptions{Container: "c1", Stdin: strings.NewReader("echo"), Stdout: &attached}); err != nil || attached.String() != "echo" {
		t.Errorf("attach: %q %v", attached.String(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Exec(ctx, ExecOptions{Container: "c1", Cmd: []string{"sleep"}, Stdout: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestReadExit(t *testing.T) {
	for in, want := range map[string]struct {
		code int
		err  string
	}{
		`{"status":"Success"}`: {0, ""},
		`{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}`:  {7, ""},
		`{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"no"}]}}`: {0, "exit code"},
		`{"status":"Failure","reason":"InternalError","message":"boom"}`:                                              {0, "boom"},
		``:       {0, "without an exit status"},
		`{"stat`: {0, "exit status"},
	} {
		code, err := readExit(strings.NewReader(in))
		if code != want.code || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %d %v", in, code, err)
		}
	}
}

func FuzzReadExit(f *testing.F) {
	f.Add([]byte(`{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = readExit(bytes.NewReader(b)) })
}
