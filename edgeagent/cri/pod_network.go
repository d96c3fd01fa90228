package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// dialTimeout bounds a connection to a port of a pod, which is on this machine.
	dialTimeout = 10 * time.Second
	// maxInside is how many threads may be in network namespaces of pods at once. They
	// stay there for microseconds; without a bound a burst of connections would leave
	// as many threads, which Go never gives back.
	maxInside = 4
)

// ErrSandboxNotReady says that a sandbox has stopped.
var ErrSandboxNotReady = errors.New("the pod's sandbox is not ready")

// errSecondSocket ends an attempt for which net.Dialer would make another socket,
// as it does when one has connected to itself or got no address. The thread is in
// the node's namespace then: the socket would reach a port of the node.
var errSecondSocket = errors.New("connect: nothing listens there, or no address to connect from is left")

// DialPod connects to a TCP port of a pod as a process inside it would: at
// 127.0.0.1, or at ::1 when nothing listens there.
func (c *Client) DialPod(ctx context.Context, sandboxID string, port uint16) (net.Conn, error) {
	path, err := c.podNetwork(ctx, sandboxID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := c.dialIn(ctx, path, "127.0.0.1", port)
	if err == nil || !errors.Is(err, unix.ECONNREFUSED) {
		return conn, err
	}
	if conn, err6 := c.dialIn(ctx, path, "::1", port); err6 == nil {
		return conn, nil
	}
	return nil, err // what is wrong with IPv6 would only distract
}

// podNetwork finds the network namespace of a sandbox; empty means the node's.
func (c *Client) podNetwork(ctx context.Context, sandboxID string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.runtime.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: sandboxID, Verbose: true})
	if err != nil {
		return "", c.wrap("get pod sandbox status", err)
	}
	s := r.GetStatus()
	switch {
	case s.GetState() != runtimev1.PodSandboxState_SANDBOX_READY:
		return "", ErrSandboxNotReady
	case s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtimev1.NamespaceMode_NODE:
		return "", nil
	}
	return networkPath(r.GetInfo()["info"])
}

// networkPath takes the network namespace out of what containerd and CRI-O tell
// of a sandbox beyond the standard.
func networkPath(info string) (string, error) {
	var v struct {
		PID         int `json:"pid"`
		RuntimeSpec struct {
			Linux struct {
				Namespaces []struct {
					Type string `json:"type"`
					Path string `json:"path"`
				} `json:"namespaces"`
			} `json:"linux"`
		} `json:"runtimeSpec"`
	}
	if err := json.Unmarshal([]byte(info), &v); err != nil {
		return "", fmt.Errorf("read what the runtime tells of the pod's network: %w", err)
	}
	for _, ns := range v.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" && ns.Path != "" {
			return ns.Path, nil
		}
	}
	if v.PID > 0 {
		return fmt.Sprintf("/proc/%d/ns/net", v.PID), nil
	}
	return "", errors.New("the runtime does not tell the network namespace of the pod")
}

// dialIn connects from inside a network namespace; an empty path is our own. A
// socket stays in the namespace in which it was made.
func (c *Client) dialIn(ctx context.Context, path, host string, port uint16) (net.Conn, error) {
	addr := net.JoinHostPort(host, strconv.Itoa(int(port)))
	if path == "" {
		return dial(ctx, addr, nil)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	c.inside <- struct{}{} // whoever has a place gives it back without waiting for anybody
	go func() {
		conn, err := dialFrom(ctx, path, addr, func() { <-c.inside })
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// dialFrom takes its thread into a namespace, makes the socket, takes the thread
// back and calls left, and only then connects. A thread that does not get back ends
// with the goroutine, which must not be used for anything else.
func dialFrom(ctx context.Context, path, addr string, left func()) (net.Conn, error) {
	left = sync.OnceFunc(left)
	defer left()
	own, err := os.Open("/proc/thread-self/ns/net") // not self: that is the main thread, perhaps in a pod now
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	defer func() { _ = own.Close() }()
	ns, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the pod's network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	runtime.LockOSThread()
	leave := sync.OnceFunc(func() {
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		left()
	})
	defer leave()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the pod's network namespace: %w", err)
	}
	return dial(ctx, addr, leave)
}

// dial makes its socket in the goroutine that calls it, since it has one address to
// try, and calls made before it connects. With made it connects no second socket.
func dial(ctx context.Context, addr string, made func()) (net.Conn, error) {
	d := net.Dialer{FallbackDelay: -1}
	if made != nil {
		d.SetMultipathTCP(false) // whose fallback is a second socket, too
		first := true
		d.Control = func(string, string, syscall.RawConn) error {
			if !first {
				return errSecondSocket
			}
			first = false
			made()
			return nil
		}
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to a port of the pod: %w", err)
	}
	return conn, nil
}
