package passthrough

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/skerry-io/skerry/bench/tunnel/system"
	"github.com/skerry-io/skerry/tunnel"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Argument is what makes a program that calls RunEdge an edge.
const Argument = "passthrough-edge"

// EdgeConfig is what an edge reads from its standard input, as JSON.
type EdgeConfig struct {
	// Tunnel is the cloud's address, HOST:PORT.
	Tunnel string `json:"tunnel"`
	// Runtime is the CRI socket, unix:///...
	Runtime string `json:"runtime"`
	// Authority is the cloud's.
	Authority system.Authority `json:"authority"`
}

// RunEdge is the edge's end: a kubelet that knows exec and portForward and hands them
// to the streaming server of the runtime. It ends with its input.
func RunEdge(ctx context.Context, in io.Reader) error {
	dec := json.NewDecoder(in)
	var cfg EdgeConfig
	if err := dec.Decode(&cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	certificates, err := cfg.Authority.Issuer()
	if err != nil {
		return err
	}
	config, err := certificates.Client("passthrough", nil)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(cfg.Runtime, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to be done
	k := &kubelet{runtime: runtimev1.NewRuntimeServiceClient(conn)}
	for ctx.Err() == nil {
		hello := wire.Hello{Seq: 1, AgentVersion: "bench", OS: runtime.GOOS, Arch: runtime.GOARCH}
		_, _ = rand.Read(hello.Incarnation[:]) // never fails
		s, err := tunnel.New(ctx, tunnel.DialConfig{Address: cfg.Tunnel, TLS: config, Hello: hello})
		if err == nil {
			err = s.Dial(ctx)
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		k.serve(ctx, s)
		_ = s.Close(wire.CodeOK, "done") // never fails
	}
	return nil
}

// kubelet serves the streams of a session.
type kubelet struct {
	runtime runtimev1.RuntimeServiceClient
}

func (k *kubelet) serve(ctx context.Context, s *tunnel.Session) {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", k.exec)
	mux.HandleFunc("/portForward/{namespace}/{pod}", k.portForward)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	ln := &listener{ctx: ctx, session: s}
	_ = server.Serve(ln) // ends with the session
	_ = server.Close()
}

// listener makes a session's streams connections of a server.
type listener struct {
	ctx     context.Context //nolint:containedctx // net.Listener has none
	session *tunnel.Session
}

func (l *listener) Accept() (net.Conn, error) {
	st, err := l.session.Accept(l.ctx)
	if err != nil {
		return nil, err // no typed nil
	}
	return st, nil
}

func (l *listener) Close() error   { return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }

// named is what the pod is called at the runtime. The API's pod is a name only: it
// stands for the one of the bench, of which it has the name behind the first dash.
func named(r *http.Request) map[string]string {
	_, name, _ := strings.Cut(r.PathValue("pod"), "-")
	return map[string]string{"io.kubernetes.pod.namespace": r.PathValue("namespace"), "io.kubernetes.pod.name": name}
}

func (k *kubelet) exec(w http.ResponseWriter, r *http.Request) {
	labels := named(r)
	labels["io.kubernetes.container.name"] = r.PathValue("container")
	list, err := k.runtime.ListContainers(r.Context(), &runtimev1.ListContainersRequest{Filter: &runtimev1.ContainerFilter{
		LabelSelector: labels, State: &runtimev1.ContainerStateValue{State: runtimev1.ContainerState_CONTAINER_RUNNING},
	}})
	if err == nil && len(list.Containers) != 1 {
		err = fmt.Errorf("%d containers of %v", len(list.Containers), labels)
	}
	var to *runtimev1.ExecResponse
	if err == nil {
		q := r.URL.Query()
		to, err = k.runtime.Exec(r.Context(), &runtimev1.ExecRequest{
			ContainerId: list.Containers[0].Id, Cmd: q["command"], Tty: q.Get("tty") == "1",
			Stdin: q.Get("input") == "1", Stdout: q.Get("output") == "1", Stderr: q.Get("error") == "1",
		})
	}
	pass(w, r, to.GetUrl(), err)
}

func (k *kubelet) portForward(w http.ResponseWriter, r *http.Request) {
	labels := named(r)
	list, err := k.runtime.ListPodSandbox(r.Context(), &runtimev1.ListPodSandboxRequest{Filter: &runtimev1.PodSandboxFilter{
		LabelSelector: labels, State: &runtimev1.PodSandboxStateValue{State: runtimev1.PodSandboxState_SANDBOX_READY},
	}})
	if err == nil && len(list.Items) != 1 {
		err = fmt.Errorf("%d sandboxes of %v", len(list.Items), labels)
	}
	var to *runtimev1.PortForwardResponse
	if err == nil {
		to, err = k.runtime.PortForward(r.Context(), &runtimev1.PortForwardRequest{PodSandboxId: list.Items[0].Id})
	}
	pass(w, r, to.GetUrl(), err)
}

// pass hands a request with its connection to the runtime's streaming server.
func pass(w http.ResponseWriter, r *http.Request, to string, err error) {
	var u *url.URL
	if err == nil {
		u, err = url.Parse(to)
	}
	if err == nil {
		err = hand(w, r, u)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

// hand fails before it has taken the connection, or not at all.
func hand(w http.ResponseWriter, r *http.Request, to *url.URL) error {
	backend, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", to.Host)
	if err != nil {
		return err
	}
	request := r.Clone(r.Context())
	request.URL = &url.URL{Path: to.Path}
	request.Host = to.Host
	if err := request.Write(backend); err != nil {
		return errors.Join(err, backend.Close())
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return errors.Join(errors.New("no connection to take"), backend.Close())
	}
	conn, early, err := hijacker.Hijack()
	if err != nil {
		return errors.Join(err, backend.Close())
	}
	join(buffered{conn, early.Reader}, backend)
	return nil
}

// buffered is a connection of which some was read already.
type buffered struct {
	net.Conn

	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
