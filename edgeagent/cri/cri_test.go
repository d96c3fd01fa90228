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
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
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
	deleted string // id of the container whose task was deleted
	config  string // what a verbose status tells, JSON
	verbose int    // how often it was asked for
	// driver says who makes control groups; nil is a runtime without that call.
	driver *runtimev1.LinuxRuntimeConfiguration
}

func (s *server) Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return &runtimev1.VersionResponse{RuntimeName: "test", RuntimeVersion: "1.2", RuntimeApiVersion: "v1"}, nil
}

func (s *server) Status(_ context.Context, r *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	resp := &runtimev1.StatusResponse{Status: &runtimev1.RuntimeStatus{Conditions: []*runtimev1.RuntimeCondition{
		{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Reason: "NoCNI", Message: "no network config"},
	}}}
	if r.GetVerbose() {
		s.verbose++
		resp.Info = map[string]string{"config": s.config}
	}
	return resp, nil
}

func (s *server) RuntimeConfig(ctx context.Context, r *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error) {
	if s.driver == nil {
		return s.UnimplementedRuntimeServiceServer.RuntimeConfig(ctx, r)
	}
	return &runtimev1.RuntimeConfigResponse{Linux: s.driver}, nil
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

	return listen(t, s, grpc.UnknownServiceHandler(s.tasks)), s
}

// listen gives a client of a runtime on a socket of its own.
func listen(t *testing.T, runtime runtimev1.RuntimeServiceServer, opts ...grpc.ServerOption) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "cri.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(opts...)
	runtimev1.RegisterRuntimeServiceServer(g, runtime)
	if images, ok := runtime.(runtimev1.ImageServiceServer); ok {
		runtimev1.RegisterImageServiceServer(g, images)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	c, err := New(Config{Endpoint: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
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

// beginning is a runtime that answers before it is initialized.
type beginning struct {
	server

	asked atomic.Int32
}

func (s *beginning) Version(ctx context.Context, r *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	if s.asked.Add(1) < 3 {
		return nil, errors.New("server is not initialized yet")
	}
	return s.server.Version(ctx, r)
}

func TestReady(t *testing.T) {
	s := &beginning{}
	if v, err := listen(t, s).Ready(t.Context()); err != nil || v.Name != "test" || s.asked.Load() != 3 {
		t.Errorf("%+v, %v after %d questions", v, err, s.asked.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), readyPause/2)
	defer cancel()
	if _, err := listen(t, &beginning{}).Ready(ctx); err == nil || !strings.Contains(err.Error(), "not initialized") {
		t.Errorf("error %v of one that does not begin", err)
	}
}

func TestSocketOfRoot(t *testing.T) {
	err := &UnavailableError{
		Endpoint: "unix:///run/c.sock", Err: errors.New(`connection error: desc = "transport: Error while dialing: dial unix /run/c.sock: connect: permission denied"`),
	}
	if !strings.Contains(err.Error(), "run this as root") {
		t.Errorf("error %v", err)
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

// A pod's own users are told for the sandbox, for the container, and for each mount:
// the owners of files are users inside. For the machine's users nothing is told.
func TestUsers(t *testing.T) {
	c, s := start(t)
	for _, users := range []*Users{nil, {First: 131072, Count: 65536}} {
		ns := Namespaces{Users: users}
		_, err := c.CreateContainer(t.Context(), "s1", &ContainerConfig{
			Mounts: []Mount{{ContainerPath: "/m", HostPath: "/h"}, {ContainerPath: "/i", UserImage: "x:1"}}, Security: Security{Namespaces: ns},
		}, &SandboxConfig{Namespaces: ns})
		if err != nil {
			t.Fatal(err)
		}
		var want []*runtimev1.IDMapping
		var options *runtimev1.UserNamespace
		if users != nil {
			want = []*runtimev1.IDMapping{{HostId: 131072, ContainerId: 0, Length: 65536}}
			options = &runtimev1.UserNamespace{Mode: runtimev1.NamespaceMode_POD, Uids: want, Gids: want}
		}
		s.mu.Lock()
		got := s.created
		s.mu.Unlock()
		for _, have := range []*runtimev1.NamespaceOption{
			got.GetConfig().GetLinux().GetSecurityContext().GetNamespaceOptions(), got.GetSandboxConfig().GetLinux().GetSecurityContext().GetNamespaceOptions(),
		} {
			if d := cmp.Diff(options, have.GetUsernsOptions(), protocmp.Transform()); d != "" {
				t.Error(d)
			}
		}
		for _, m := range got.GetConfig().GetMounts() {
			if d := cmp.Diff(want, m.GetUidMappings(), protocmp.Transform()) + cmp.Diff(want, m.GetGidMappings(), protocmp.Transform()); d != "" {
				t.Error(m.GetContainerPath(), d)
			}
		}
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

func TestExitCode(t *testing.T) {
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
		code, err := exitCode([]byte(in))
		if code != want.code || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: %d %v", in, code, err)
		}
	}
}

func FuzzExitCode(f *testing.F) {
	f.Add([]byte(`{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = exitCode(b) })
}
