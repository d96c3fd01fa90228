package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/cmd/skerry/reach"
	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// What a machine must have. The disk takes a database and one small image; the clock
// must agree with certificates, which begin some minutes before they are made.
const (
	oldestKernelMajor, oldestKernelMinor = 4, 19

	leastDisk, goodDisk = 256 << 20, 1 << 30

	worstClock, goodClock = 5 * time.Minute, 30 * time.Second

	// kubeletPort is that of a kubelet; Skerry's agent listens on none.
	kubeletPort = 10250
)

// hostFacts is what is looked at of this machine; tests put theirs in its place.
type hostFacts struct {
	proc, cgroup string // /proc, /sys/fs/cgroup
	cniConf      string // /etc/cni/net.d, for a runtime that does not tell
	cniBin       []string
	systemd      string // where it listens for root
	kubelet      string // where a kubelet would listen
	runtime      func(ctx context.Context, socket string) (string, runtimeState, error)
}

func newHostFacts() hostFacts {
	return hostFacts{
		proc: "/proc", cgroup: "/sys/fs/cgroup", cniConf: "/etc/cni/net.d", cniBin: []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"},
		systemd: cgroups.SystemdSocket,
		kubelet: net.JoinHostPort("127.0.0.1", strconv.Itoa(kubeletPort)),
		runtime: askRuntime,
	}
}

// kernel wants one with what pods need: overlayfs, and pid limits.
func (h hostFacts) kernel() (string, error) {
	data, err := os.ReadFile(filepath.Join(h.proc, "sys/kernel/osrelease"))
	if err != nil {
		return "", fmt.Errorf("this is no Linux with /proc: %w", err)
	}
	release := strings.TrimSpace(string(data))
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return "", warn("its release %q can't be read", release)
	}
	if major < oldestKernelMajor || major == oldestKernelMajor && minor < oldestKernelMinor {
		return "", fmt.Errorf("it is %s; install a newer one", release)
	}
	return release, nil
}

// cgroups wants the controllers by which pods are held to their limits.
func (h hostFacts) cgroups() (string, error) {
	const advice = "; on a Raspberry Pi add 'cgroup_enable=memory cgroup_memory=1' to the kernel's command line and reboot"
	wanted := []string{"cpu", "memory", "pids"}
	data, err := os.ReadFile(filepath.Join(h.cgroup, "cgroup.controllers"))
	if err == nil {
		have := strings.Fields(string(data))
		for _, c := range wanted {
			if !slices.Contains(have, c) {
				return "", fmt.Errorf("controller %s is missing%s", c, advice)
			}
		}
		return "version 2", nil
	}
	for _, c := range wanted {
		if _, err := os.Stat(filepath.Join(h.cgroup, c)); err != nil {
			return "", fmt.Errorf("controller %s is not mounted below %s%s", c, h.cgroup, advice)
		}
	}
	return "version 1", nil
}

// noKubelet: two that look after one runtime's pods take each other's away.
func (h hostFacts) noKubelet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.kubelet)
	if err != nil {
		return nil
	}
	return errors.Join(fmt.Errorf("something listens on %s, as a kubelet does; this machine is a node already: stop that kubelet (or k3s, rke2) first", h.kubelet), conn.Close())
}

// runtimeState is what the container runtime says of itself.
type runtimeState struct {
	networkReady bool
	reason       string
	cgroupDriver string   // empty where it does not tell
	cniConf      string   // where it looks for the pods' network, empty if it does not tell
	cniBin       []string // and for what makes that
}

// cgroupDriver wants the one that the runtime has, and the configuration if it says so.
func (h hostFacts) cgroupDriver(configured string, s runtimeState) (string, error) {
	if s.cgroupDriver == "" && configured == config.Auto {
		return "", warn("the runtime does not tell; if it is not cgroupfs, write cgroupDriver: systemd into edgeagent.yaml")
	}
	if s.cgroupDriver != "" && configured != config.Auto && configured != s.cgroupDriver {
		return "", fmt.Errorf("edgeagent.yaml says %s and the runtime %s, so no pod can start: take cgroupDriver out of edgeagent.yaml and 'systemctl restart %s'", configured, s.cgroupDriver, unitName)
	}
	driver := s.cgroupDriver
	if configured != config.Auto {
		driver = configured
	}
	if driver != config.Systemd {
		return driver, nil
	}
	if _, err := os.Stat(h.systemd); err != nil {
		return "", fmt.Errorf("it is systemd, which does not run here (%w): set SystemdCgroup = false for runc in /etc/containerd/config.toml, or cgroup_manager = \"cgroupfs\" in CRI-O's, and restart the runtime", err)
	}
	return driver, nil
}

// free tells how much room there is where dir is or will be.
func free(dir string) (string, error) {
	room, err := freeBytes(existing(dir))
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%d MiB free", room>>20)
	switch {
	case room < leastDisk:
		return "", fmt.Errorf("%s; it takes %d MiB at least (--state-dir names another disk)", text, leastDisk>>20)
	case room < goodDisk:
		return "", warn("%s: that is little for images", text)
	}
	return text, nil
}

// existing is dir, or the nearest directory above it that is there.
func existing(dir string) string {
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// proxyChecks look at the way to the proxy. They spend no token and tell no secret.
func proxyChecks(server string, trusted func(*x509.Certificate) bool) []check {
	var answer reach.Server
	return []check{
		{"TCP reaches the cloud proxy at " + server, func(ctx context.Context) (note string, err error) {
			if answer, err = reach.TLS(ctx, server); err != nil {
				return "", fmt.Errorf("%w; check the address, and that TCP to this port is open on the way", err)
			}
			if !shows(answer, trusted) {
				return "", errors.New("what answers has no CA with the hash that is trusted here (--ca-hash of a join, ca.crt of an edge): it is another cluster's, the CA was rotated since ('skerry token create' prints a new command), or something on the way pretends to be the proxy")
			}
			return fmt.Sprintf("%s away", answer.RTT.Round(time.Millisecond)), nil
		}},
		{"the clock is right", func(context.Context) (string, error) { return clock(answer) }},
		{"UDP reaches it, in packets of 1200 bytes and more", func(ctx context.Context) (string, error) {
			path, err := reach.UDP(ctx, server)
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			if err != nil {
				return "", warn("%v; the agent will use TCP, which is slower over bad links: open UDP to this port on the way, and see that the MTU is 1280 or more", err)
			}
			return fmt.Sprintf("%s away, up to %d bytes", path.RTT.Round(time.Millisecond), path.Payload), nil
		}},
	}
}

// clock compares this machine's with the proxy's.
func clock(s reach.Server) (string, error) {
	if s.Date.IsZero() {
		return "", warn("there was no answer to compare it with")
	}
	off := s.Now.Sub(s.Date).Truncate(time.Second)
	text := fmt.Sprintf("it is %s ahead of the proxy's", off)
	if off < 0 {
		text = fmt.Sprintf("it is %s behind the proxy's", -off)
	}
	switch {
	case off.Abs() > worstClock:
		return "", fmt.Errorf("%s; set it ('timedatectl set-ntp true')", text)
	case off.Abs() > goodClock:
		return "", warn("%s; set it ('timedatectl set-ntp true')", text)
	}
	return "", nil
}
