package probe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

type execFunc func() (cri.ExecResult, error)

func (f execFunc) ExecSync(context.Context, string, []string, time.Duration) (cri.ExecResult, error) {
	return f()
}

func hostPort(t *testing.T, addr string) (host string, port int) {
	t.Helper()
	h, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err = strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return h, port
}

func TestHTTP(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/header":
			if r.Host != "virtual" || r.Header.Get("X-A") != "b" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/away":
			http.Redirect(w, r, "http://192.0.2.1/never", http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/broken", http.StatusFound)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/query":
			if r.URL.RawQuery != "a=b" {
				w.WriteHeader(http.StatusBadRequest)
			}
		}
	}))
	defer srv.Close()
	host, port := hostPort(t, srv.Listener.Addr().String())
	target := Target{PodIP: host, Container: &corev1.Container{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(port)}}}}
	p := New(nil)
	for _, tt := range []struct {
		path string
		port intstr.IntOrString
		want Result
	}{
		{"/", intstr.FromInt32(int32(port)), Success},
		{"/", intstr.FromString("web"), Success},
		{"/", intstr.FromString("absent"), Failure},
		{"/query?a=b", intstr.FromString("web"), Success},
		{"/header", intstr.FromString("web"), Success},
		{"/away", intstr.FromString("web"), Success},
		{"/near", intstr.FromString("web"), Failure},
		{"/broken", intstr.FromString("web"), Failure},
	} {
		spec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: tt.path, Port: tt.port, HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "virtual"}, {Name: "X-A", Value: "b"}},
		}}}
		if got, msg := p.Run(t.Context(), spec, target); got != tt.want {
			t.Errorf("%s %s: %v (%s), want %v", tt.path, tt.port.String(), got, msg, tt.want)
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port := hostPort(t, l.Addr().String())
	spec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(int32(port))}}}
	p := New(nil)
	if got, msg := p.Run(t.Context(), spec, Target{PodIP: host}); got != Success {
		t.Errorf("open port: %v (%s)", got, msg)
	}
	_ = l.Close()
	if got, _ := p.Run(t.Context(), spec, Target{PodIP: host}); got != Failure {
		t.Errorf("closed port: %v", got)
	}
}

func TestExec(t *testing.T) {
	spec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
	for name, tt := range map[string]struct {
		f    execFunc
		want Result
	}{
		"zero":    {func() (cri.ExecResult, error) { return cri.ExecResult{}, nil }, Success},
		"nonzero": {func() (cri.ExecResult, error) { return cri.ExecResult{ExitCode: 3}, nil }, Failure},
		"timeout": {func() (cri.ExecResult, error) { return cri.ExecResult{}, context.DeadlineExceeded }, Failure},
		"runtime": {func() (cri.ExecResult, error) { return cri.ExecResult{}, errors.New("no shim") }, Unknown},
	} {
		if got, _ := New(tt.f).Run(t.Context(), spec, Target{}); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

func TestGRPC(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		body := make([]byte, 64)
		n, _ := r.Body.Read(body)
		switch {
		case strings.Contains(string(body[:n]), "sick"):
			_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, 2})
			w.Header().Set("Grpc-Status", "0")
		case strings.Contains(string(body[:n]), "unknown"):
			w.Header().Set("Grpc-Status", "5")
		default:
			_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, 1})
			w.Header().Set("Grpc-Status", "0")
		}
	}))
	srv.Config.Protocols = &protocols
	srv.Start()
	defer srv.Close()
	host, port := hostPort(t, srv.Listener.Addr().String())
	for service, want := range map[string]Result{"": Success, "well": Success, "sick": Failure, "unknown": Failure} {
		spec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(port), Service: &service}}}
		if got, msg := New(nil).Run(t.Context(), spec, Target{PodIP: host}); got != want {
			t.Errorf("service %q: %v (%s), want %v", service, got, msg, want)
		}
	}
}

func FuzzHealthStatus(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 6, 18, 2, 'a', 'b', 8, 2})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = healthStatus(b) })
}
