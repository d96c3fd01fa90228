package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodSandboxStatus answers for sandboxes by their ids: "host", "stopped", or the
// path of a network namespace.
func (s *server) PodSandboxStatus(_ context.Context, r *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error) {
	st := &runtimev1.PodSandboxStatus{Id: r.GetPodSandboxId(), Linux: &runtimev1.LinuxPodSandboxStatus{
		Namespaces: &runtimev1.Namespace{Options: &runtimev1.NamespaceOption{}},
	}}
	switch r.GetPodSandboxId() {
	case "gone":
		return nil, status.Error(codes.NotFound, "no such sandbox")
	case "stopped":
		st.State = runtimev1.PodSandboxState_SANDBOX_NOTREADY
	case "host":
		st.Linux.Namespaces.Options.Network = runtimev1.NamespaceMode_NODE
	}
	info := fmt.Sprintf(`{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":%q}]}}}`, r.GetPodSandboxId())
	return &runtimev1.PodSandboxStatusResponse{Status: st, Info: map[string]string{"info": info}}, nil
}

func TestNetworkPath(t *testing.T) {
	for _, tt := range []struct{ name, info, want string }{
		{"containerd", `{"pid":5,"netNSClosed":false,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/cni-1"}]}}}`, "/run/netns/cni-1"},
		{"only a process", `{"pid":5,"runtimeSpec":{"linux":{"namespaces":[{"type":"network"}]}}}`, "/proc/5/ns/net"},
		{"nothing", `{}`, ""},
		{"not verbose", ``, ""},
		{"not JSON", `pid: 5`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := networkPath(tt.info); got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// inNamespace makes a network namespace and a listener inside it.
func inNamespace(t *testing.T, host string) (path string, ln net.Listener) {
	t.Helper()
	path = newNamespace(t, func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
		return err
	})
	t.Cleanup(func() { _ = ln.Close() })
	return path, ln
}

// newNamespace makes a network namespace and calls set on a thread inside it.
func newNamespace(t *testing.T, set func() error) (path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a network namespace takes root")
	}
	made, leave := make(chan error), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // for good: the thread ends with the namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
			err = loopbackUp()
		}
		if err == nil {
			err = set()
		}
		made <- err
		<-leave
	})
	t.Cleanup(func() { close(leave); wg.Wait() })
	if err := <-made; errors.Is(err, unix.EPERM) {
		t.Skip("a network namespace takes CAP_SYS_ADMIN")
	} else if err != nil {
		t.Fatal(err)
	}
	return path
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr)
}

func TestDialPod(t *testing.T) {
	c, _ := start(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			path, ln := inNamespace(t, host)
			port := uint16(ln.Addr().(*net.TCPAddr).Port)
			go say(ln, "inside")
			before := namespace(t)
			for range 50 { // some of them on threads that have been inside before
				conn, err := c.DialPod(t.Context(), path, port)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(conn)
				_ = conn.Close()
				if string(got) != "inside" || err != nil {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			if conn, err := c.DialPod(t.Context(), "host", port); err == nil {
				_ = conn.Close()
				t.Error("the port is open in the node's own namespace")
			}
			if after := namespace(t); after != before {
				t.Errorf("the process is in %s, was in %s", after, before)
			}
			_ = ln.Close()
			if _, err := c.DialPod(t.Context(), path, port); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), fmt.Sprintf("127.0.0.1:%d", port)) {
				t.Errorf("nobody listens: got %v", err)
			}
		})
	}
}

// TestDialPodNothingListens: whatever becomes of a connection that nobody takes in
// the pod, it never gets to the node's own ports of that number.
func TestDialPodNothingListens(t *testing.T) {
	c, _ := start(t)
	for _, tt := range []struct {
		name string
		set  map[string]string // under /proc/sys/net; %d is the port
	}{
		{"no IPv6", map[string]string{"ipv6/conf/all/disable_ipv6": "1"}},
		{"no IPv6, connects to itself", map[string]string{"ipv6/conf/all/disable_ipv6": "1", "ipv4/ip_local_port_range": "%[1]d %[1]d"}},
		{"connects to itself", map[string]string{"ipv4/ip_local_port_range": "%[1]d %[1]d"}},
		{"plain", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port := nodeListens(t)
			path := newNamespace(t, func() error {
				for name, v := range tt.set {
					if strings.Contains(v, "%") {
						v = fmt.Sprintf(v, port)
					}
					if err := os.WriteFile("/proc/sys/net/"+name, []byte(v), 0); err != nil {
						return err
					}
				}
				return nil
			})
			for range 5 {
				conn, err := c.DialPod(t.Context(), path, port)
				if err == nil {
					got, _ := io.ReadAll(conn)
					_ = conn.Close()
					t.Fatalf("connected to %v, which says %q", conn.RemoteAddr(), got)
				}
				if !strings.Contains(err.Error(), fmt.Sprintf("127.0.0.1:%d", port)) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// nodeListens gives a port of the node on which somebody listens at both loopback
// addresses.
func nodeListens(t *testing.T) uint16 {
	t.Helper()
	four, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = four.Close() })
	port := four.Addr().(*net.TCPAddr).Port
	six, err := net.Listen("tcp", fmt.Sprintf("[::1]:%d", port))
	if err != nil {
		t.Skip("no IPv6 here, or the port is taken: ", err)
	}
	t.Cleanup(func() { _ = six.Close() })
	go say(four, "node")
	go say(six, "node")
	return uint16(port)
}

// say tells text to whoever connects.
func say(ln net.Listener, text string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

// namespace is the network namespace of a new thread.
func namespace(t *testing.T) string {
	t.Helper()
	out := make(chan string)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		s, _ := os.Readlink("/proc/thread-self/ns/net")
		out <- s
	}()
	return <-out
}

func TestDialPodRefused(t *testing.T) {
	c, _ := start(t)
	if _, err := c.DialPod(t.Context(), "stopped", 80); !errors.Is(err, ErrSandboxNotReady) {
		t.Errorf("stopped: got %v", err)
	}
	if _, err := c.DialPod(t.Context(), "gone", 80); !errors.Is(err, ErrNotFound) {
		t.Errorf("gone: got %v", err)
	}
	if _, err := c.DialPod(t.Context(), "/no/such/namespace", 80); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no namespace: got %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := c.DialPod(t.Context(), "host", uint16(ln.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
