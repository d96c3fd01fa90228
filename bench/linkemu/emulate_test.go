package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEmulate runs the whole emulator between this namespace and a new one. It
// asserts what holds on the slowest machine: a lower bound of the round trip.
func TestEmulate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for TUN devices and a network namespace")
	}
	ns := fmt.Sprintf("linkemu-%d", os.Getpid())
	dev := fmt.Sprintf("lk%dc", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", ns)
	t.Cleanup(func() { _ = exec.CommandContext(context.WithoutCancel(t.Context()), "ip", "netns", "del", ns).Run() })

	sock := filepath.Join(t.TempDir(), "ctl")
	ctx, cancel := context.WithCancel(t.Context())
	ready, started := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := emulate(ctx, options{a: dev, b: "uplink@" + ns, ctl: sock, seed: 1}, started)
		done <- errors.Join(err, started.Close())
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if _, err := ready.Read(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	const cloud, edge = "10.201.253.1", "10.201.253.2"
	ip("addr", "add", cloud+"/24", "dev", dev)
	ip("link", "set", dev, "up")
	ip("-n", ns, "addr", "add", edge+"/24", "dev", "uplink")
	ip("-n", ns, "link", "set", "uplink", "up")

	server := listenUDP(t, cloud+":0")
	var client net.PacketConn
	if err := inNetns(ns, func() error { client = listenUDP(t, edge+":0"); return nil }); err != nil {
		t.Fatal(err)
	}
	tell := func(words string) {
		t.Helper()
		var out bytes.Buffer
		if err := control(t.Context(), append([]string{sock}, strings.Fields(words)...), &out); err != nil {
			t.Fatal(err)
		}
	}
	for prof, atLeast := range map[string]time.Duration{"none": 0, "B": 60 * time.Millisecond, "D": 300 * time.Millisecond} {
		tell("profile " + prof)
		tell("set loss=0")
		if got := roundTrip(t, client, server); got < atLeast {
			t.Errorf("profile %s: round trip of %v, want at least %v", prof, got, atLeast)
		}
	}
	tell("profile none")
	ports := map[string]bool{}
	for _, words := range []string{"nat 0", "nat 100", "nat 200"} {
		tell(words)
		roundTrip(t, client, server)
		ports[lastPeer(t, client, server)] = true
	}
	if len(ports) != 3 {
		t.Errorf("the server saw %v, want three ports", ports)
	}
}

func listenUDP(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp4", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// roundTrip sends a packet from client to server and back.
func roundTrip(t *testing.T, client, server net.PacketConn) time.Duration {
	t.Helper()
	begin := time.Now()
	from := send(t, client, server, server.LocalAddr())
	send(t, server, client, from)
	return time.Since(begin)
}

func lastPeer(t *testing.T, client, server net.PacketConn) string {
	t.Helper()
	return send(t, client, server, server.LocalAddr()).String()
}

// send carries one packet and returns the address it came from.
func send(t *testing.T, from, to net.PacketConn, addr net.Addr) net.Addr {
	t.Helper()
	if _, err := from.WriteTo([]byte("x"), addr); err != nil {
		t.Fatal(err)
	}
	if err := to.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, peer, err := to.ReadFrom(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	return peer
}
