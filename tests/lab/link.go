package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// uplink is the edge's end of its link.
const uplink = "uplink"

func (e *Edge) netns() string       { return "skerry-" + e.lab.cfg.Name + "-" + e.Name }
func (e *Edge) cloudDevice() string { return fmt.Sprintf("%s%d", e.lab.cloudDevice(), e.n) }
func (e *Edge) network() int        { return e.lab.cfg.Net + e.n }

// Netns is the file of the edge's network namespace.
func (e *Edge) Netns() string { return netnsFile(e.netns()) }

// Addr is the edge's own address on its link, unless Readdress has changed it.
func (e *Edge) Addr() netip.Addr { return address(e.network(), 2) }

// podCIDR is what the edge's pods get their addresses from.
func (e *Edge) podCIDR() string { return fmt.Sprintf("10.202.%d.0/24", e.network()) }

// LinkSocket is where the edge's link takes its orders.
func (e *Edge) LinkSocket() string { return e.socketPath("link.sock") }

// addNetwork makes the namespace and both ends of the link, as far as they are
// missing. The devices outlive linkemu, so that a link can die and come back.
func (e *Edge) addNetwork(ctx context.Context) error {
	if err := e.lab.claim(ctx, e.Path("network"), e.thing(), device(e.cloudDevice())); err != nil {
		return err
	}
	if !exists(e.Netns()) {
		if _, err := e.lab.run(ctx, "ip", "netns", "add", e.netns()); err != nil {
			return err
		}
	}
	if !deviceExists(e.cloudDevice()) {
		dev := e.cloudDevice()
		if err := e.lab.runAll(
			ctx,
			[]string{"ip", "tuntap", "add", "mode", "tun", "name", dev},
			[]string{"ip", "addr", "add", address(e.network(), 1).String() + "/24", "dev", dev},
			[]string{"ip", "link", "set", dev, "mtu", "1500", "txqueuelen", "1000", "up"},
		); err != nil {
			return err
		}
	}
	if _, err := e.Run(ctx, "ip", "link", "show", uplink); err == nil {
		return nil
	}
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "tuntap", "add", "mode", "tun", "name", uplink},
		{"ip", "addr", "add", e.Addr().String() + "/24", "dev", uplink},
		{"ip", "link", "set", uplink, "mtu", "1500", "txqueuelen", "1000", "up"},
		{"ip", "route", "add", "default", "via", address(e.network(), 1).String(), "dev", uplink},
		// What pods on a bridge need; both are the namespace's own.
		{"sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"},
		{"sh", "-c", "f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 1 >$f"},
	} {
		if _, err := e.Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

func (e *Edge) removeNetwork(ctx context.Context) error {
	if !exists(e.Path("network")) {
		return nil
	}
	if deviceExists(e.cloudDevice()) {
		if _, err := e.lab.run(ctx, "ip", "link", "del", e.cloudDevice()); err != nil {
			return err
		}
	}
	if !exists(e.Netns()) {
		return nil
	}
	_, err := e.lab.run(ctx, "ip", "netns", "del", e.netns())
	return err
}

// StartLink starts the emulator with a profile. On a link that runs already an
// empty profile changes nothing; on a new one it is B.
func (e *Edge) StartLink(ctx context.Context, profile string) error {
	name := e.daemon("linkemu")
	if _, ok := e.lab.PID(name); ok {
		if profile == "" {
			return nil
		}
		return e.SetLink(ctx, "profile", profile)
	}
	if profile == "" {
		profile = "B"
	}
	err := e.start(ctx, daemon{name: name, args: []string{
		e.lab.Bin("linkemu"), "-a", e.cloudDevice(), "-b", uplink + "@" + e.netns(), "-ctl", e.LinkSocket(), "-profile", profile,
	}})
	if err != nil {
		return err
	}
	if err := e.lab.ready(ctx, name, 10*time.Second, func() error { return e.SetLink(ctx, "stats") }); err != nil {
		return err
	}
	return os.WriteFile(e.Path("profile"), []byte(profile), 0o600)
}

// SetLink says words to the emulator, for instance "set", "outage=1".
func (e *Edge) SetLink(ctx context.Context, words ...string) error {
	_, err := e.lab.run(ctx, append([]string{e.lab.Bin("linkemu"), "ctl", e.LinkSocket()}, words...)...)
	if err == nil && words[0] == "profile" {
		err = os.WriteFile(e.Path("profile"), []byte(words[1]), 0o600)
	}
	return err
}

// Profile is the profile that the link was set to last.
func (e *Edge) Profile() string {
	b, err := os.ReadFile(e.Path("profile"))
	if err != nil {
		return "none"
	}
	return strings.TrimSpace(string(b))
}

// StopLink ends the emulator: nothing gets through any more.
func (e *Edge) StopLink(ctx context.Context) error {
	return e.lab.stop(ctx, e.daemon("linkemu"), 5*time.Second)
}

// Traffic counts the bytes that have crossed the edge's end of its link both
// ways, as its kernel counts them: with the headers of IP, and so also what was
// lost after it was sent.
func (e *Edge) Traffic(ctx context.Context) (int64, error) {
	out, err := e.Run(ctx, "cat", "/proc/net/dev")
	if err != nil {
		return 0, err
	}
	return parseTraffic(out, uplink)
}

// parseTraffic finds a device in /proc/net/dev: its name, and among 16 counters
// bytes received as the first and bytes sent as the ninth.
func parseTraffic(dev, name string) (int64, error) {
	for line := range strings.Lines(dev) {
		counters, ok := strings.CutPrefix(strings.TrimSpace(line), name+":")
		f := strings.Fields(counters)
		if !ok || len(f) < 9 {
			continue
		}
		received, err := strconv.ParseInt(f[0], 10, 64)
		sent, sentErr := strconv.ParseInt(f[8], 10, 64)
		if err := errors.Join(err, sentErr); err != nil {
			return 0, fmt.Errorf("device %s: %w", name, err)
		}
		return received + sent, nil
	}
	return 0, fmt.Errorf("/proc/net/dev has no device %s", name)
}

// Readdress gives the edge another address on its link, 10.201.NET.host, as a
// machine gets that comes into another network. For a moment it has none.
func (e *Edge) Readdress(ctx context.Context, host int) error {
	for _, args := range [][]string{
		{"ip", "addr", "flush", "dev", uplink},
		{"ip", "addr", "add", address(e.network(), host).String() + "/24", "dev", uplink},
		{"ip", "route", "add", "default", "via", address(e.network(), 1).String(), "dev", uplink},
	} {
		if _, err := e.Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// KillLink kills the emulator.
func (e *Edge) KillLink(ctx context.Context) error { return e.lab.kill(ctx, e.daemon("linkemu")) }

// Listen listens on a TCP address in the edge's network namespace. A socket stays
// in the namespace in which it was made, whoever serves it.
func (e *Edge) Listen(address string) (net.Listener, error) {
	netns, err := os.Open(e.Netns())
	if err != nil {
		return nil, fmt.Errorf("edge %s: %w", e.Name, err)
	}
	defer func() { _ = netns.Close() }()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		// The thread ends with this goroutine, since it stays locked to it: no other
		// goroutine ever runs in the wrong namespace.
		runtime.LockOSThread()
		var r result
		if r.err = unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); r.err == nil {
			r.l, r.err = net.Listen("tcp", address)
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("listen on %s of edge %s: %w", address, e.Name, r.err)
	}
	return r.l, nil
}
