package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/cmd/skerry/reach"
	"github.com/skerry-io/skerry/edgeagent/config"
)

// newHost is a machine on which all is as it should be.
func newHost(t *testing.T) hostFacts {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n")
	write("cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n")
	for _, plugin := range cniPlugins() {
		write("bin/"+plugin, "")
	}
	return hostFacts{
		proc: filepath.Join(dir, "proc"), cgroup: filepath.Join(dir, "cgroup"),
		cniConf: filepath.Join(dir, "cni/net.d"), cniBin: []string{filepath.Join(dir, "bin")},
		kubelet: closedPort(t),
		runtime: func(ctx context.Context, socket string) (string, runtimeState, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(socket, "unix://"))
			if err != nil {
				return "", runtimeState{}, err
			}
			return "containerd 1.7.0", runtimeState{networkReady: true, cgroupDriver: config.Cgroupfs}, conn.Close()
		},
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(tb testing.TB, name, text string) {
	tb.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// TestBrokenPreconditions breaks one thing at a time. The list says which, the join
// fails, the machine is as before, and the token is still good.
func TestBrokenPreconditions(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create", "--node", "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	noNetwork := func(m *machine) {
		m.host.runtime = func(context.Context, string) (string, runtimeState, error) {
			return "containerd 1.7.0", runtimeState{reason: "cni config uninitialized"}, nil
		}
	}
	tests := []struct {
		name, want string
		breaks     func(tb testing.TB, m *machine) []string // further arguments
	}{
		{"joined", "FAIL  this machine has not joined yet", func(tb testing.TB, m *machine) []string {
			tb.Helper()
			if err := os.MkdirAll(m.configDir, 0o755); err != nil {
				tb.Fatal(err)
			}
			write(tb, filepath.Join(m.configDir, "edgeagent.yaml"), "")
			return nil
		}},
		{"kubelet", "FAIL  no kubelet runs here", func(tb testing.TB, m *machine) []string {
			tb.Helper()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { l.Close() })
			m.host.kubelet = l.Addr().String()
			return nil
		}},
		{"old kernel", "FAIL  the kernel is 4.19 or later: it is 4.9.0", func(tb testing.TB, m *machine) []string {
			tb.Helper()
			write(tb, filepath.Join(m.host.proc, "sys/kernel/osrelease"), "4.9.0-rpi")
			return nil
		}},
		{"no memory cgroup", "FAIL  cgroups hold cpu, memory and pids: controller memory is missing", func(tb testing.TB, m *machine) []string {
			tb.Helper()
			write(tb, filepath.Join(m.host.cgroup, "cgroup.controllers"), "cpu pids")
			return nil
		}},
		{"no cgroups", "FAIL  cgroups hold cpu, memory and pids: controller cpu is not mounted", func(_ testing.TB, m *machine) []string {
			m.host.cgroup = filepath.Join(m.dir, "none")
			return nil
		}},
		{"systemd without systemd", "FAIL  the runtime's cgroup driver is one that works here: it is systemd, which does not run here", func(_ testing.TB, m *machine) []string {
			m.host.systemd = filepath.Join(m.dir, "none")
			m.host.runtime = func(context.Context, string) (string, runtimeState, error) {
				return "containerd 2.1.0", runtimeState{networkReady: true, cgroupDriver: config.Systemd}, nil
			}
			return nil
		}},
		{"no runtime", "FAIL  the container runtime answers at unix:///no/such.sock", func(testing.TB, *machine) []string {
			return []string{"--cri-socket", "unix:///no/such.sock"}
		}},
		{"runtime without CRI", "FAIL  the container runtime answers", func(_ testing.TB, m *machine) []string {
			m.host.runtime = askRuntime
			l, err := net.Listen("unix", filepath.Join(m.dir, "silent.sock"))
			if err != nil {
				panic(err)
			}
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
					conn.Close()
				}
			}()
			return []string{"--cri-socket", "unix://" + filepath.Join(m.dir, "silent.sock")}
		}},
		{"no CNI plugins", "FAIL  pods have a network (CNI): there is none, and the CNI plugins bridge", func(_ testing.TB, m *machine) []string {
			noNetwork(m)
			m.host.cniBin = []string{filepath.Join(m.dir, "none")}
			return nil
		}},
		{"configuration not writable", "FAIL  /proc/skerry can be written", func(testing.TB, *machine) []string {
			return []string{"--config-dir", "/proc/skerry"}
		}},
		{"state of others", "is empty or Skerry's: it holds precious", func(tb testing.TB, m *machine) []string {
			tb.Helper()
			if err := os.Mkdir(m.stateDir, 0o755); err != nil {
				tb.Fatal(err)
			}
			write(tb, filepath.Join(m.stateDir, "precious"), "")
			return nil
		}},
		{"no agent", "FAIL  the agent's binary is there", func(_ testing.TB, m *machine) []string {
			return []string{"--agent", filepath.Join(m.dir, "none")}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			args := tt.breaks(t, m)
			before := tree(t, m.dir) + tree(t, filepath.Dir(m.host.proc))
			out, err := m.join(t, line, args...)
			if err == nil || !strings.Contains(out, tt.want) || !strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("%v\n%s\nwant %q", err, out, tt.want)
			}
			if got := tree(t, m.dir) + tree(t, filepath.Dir(m.host.proc)); got != before || len(m.calls) > 0 {
				t.Errorf("left: %s; before: %s; systemctl %v", got, before, m.calls)
			}
		})
	}
	for name, server := range map[string]string{"no proxy": closedPort(t), "no name": "no.such.host.invalid:7443"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			_, rest, _ := strings.Cut(line, "--token")
			out, err := m.join(t, "skerry join "+server+" --token"+rest)
			if err == nil || !strings.Contains(out, "FAIL  TCP reaches the cloud proxy at "+server) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	t.Run("other CA", func(t *testing.T) {
		other, _ := newCluster(t)
		theirs, err := execute(t, tokenCommand(other), "create")
		if err != nil {
			t.Fatal(err)
		}
		_, hash, _ := strings.Cut(strings.TrimSpace(theirs), "--ca-hash ")
		before, _, _ := strings.Cut(line, "--ca-hash")
		out, err := newMachine(t).join(t, before+"--ca-hash "+hash, "--node-name", "edge-1")
		if err == nil || !strings.Contains(out, "no CA with the hash that is trusted") {
			t.Errorf("%v\n%s", err, out)
		}
	})
	// None of them has spent the token; that UDP does not answer keeps nobody.
	m := newMachine(t)
	out, err := m.join(t, line)
	if err != nil || !strings.Contains(out, "warn  UDP reaches it") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestJoinWritesNetwork: pods have none, so join gives them a bridge, and reset takes
// that away.
func TestJoinWritesNetwork(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create", "--uses", "0")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.host.runtime = func(context.Context, string) (string, runtimeState, error) {
		return "containerd 1.7.0", runtimeState{reason: "cni config uninitialized"}, nil
	}
	before := tree(t, m.dir) + tree(t, filepath.Dir(m.host.proc))
	base := filepath.Join(t.TempDir(), "base.yaml")
	if err := os.WriteFile(base, []byte("apiVersion: skerry.io/v1alpha1\nkind: EdgeAgentConfig\nlogLevel: debug\nlabels: {a: b, hall: '1'}\ntaints: ['a=b:NoExecute', 'a=b:NoSchedule']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := m.join(t, line, "--node-name", "edge-1", "--labels", "hall=3,line=b", "--taints", "a=c:NoExecute,line:NoSchedule", "--config", base)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	name, ours := m.host.ownNetwork(m.stateDir)
	if !ours || !strings.Contains(out, "wrote "+name) {
		t.Errorf("no network:\n%s", out)
	}
	cfg, err := config.Load(filepath.Join(m.configDir, "edgeagent.yaml"))
	if err != nil || cfg.LogLevel != "debug" || cfg.NodeName != "edge-1" || fmt.Sprint(cfg.Labels) != "map[a:b hall:3 line:b]" ||
		fmt.Sprint(cfg.Taints) != "[a=b:NoSchedule a=c:NoExecute line:NoSchedule]" {
		t.Errorf("configuration %+v, %v", cfg, err)
	}
	if out, err := m.reset(t, "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	after := tree(t, m.dir) + tree(t, filepath.Dir(m.host.proc))
	if want := strings.ReplaceAll(before, "cgroup/", "cni cni/net.d cgroup/"); len(after) > len(want) {
		t.Errorf("left: %s; before: %s", after, before)
	}
	// One that somebody else has written is neither replaced nor removed.
	other := filepath.Join(m.host.cniConf, "05-other.conflist")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err = m.join(t, line, "--node-name", "edge-1"); err != nil || !strings.Contains(out, "warn  pods have a network (CNI): "+other) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, ours := m.host.ownNetwork(m.stateDir); ours {
		t.Error("a second network was written")
	}
}

// TestJoinAsksWhereTheNetworkGoes: the runtime looks elsewhere than most, for plugins as
// well, and a reset finds what was written though the runtime is gone by then.
func TestJoinAsksWhereTheNetworkGoes(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create", "--uses", "0")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	conf := filepath.Join(t.TempDir(), "srv/net.d")
	bin := m.host.cniBin
	m.host.cniBin = nil
	m.host.runtime = func(context.Context, string) (string, runtimeState, error) {
		return "containerd 1.7.0", runtimeState{reason: "cni config uninitialized", cniConf: conf, cniBin: bin}, nil
	}
	out, err := m.join(t, line, "--node-name", "edge-1")
	name := filepath.Join(conf, cniFile)
	if _, statErr := os.Stat(name); err != nil || statErr != nil || !strings.Contains(out, "wrote "+name) {
		t.Fatalf("%v, %v\n%s", err, statErr, out)
	}
	if _, err := os.Stat(m.host.cniConf); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was made: %v", m.host.cniConf, err)
	}
	m.host.runtime = askRuntime
	if out, err := m.reset(t, "--yes"); err != nil || !strings.Contains(out, "remove "+name) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", name, err)
	}
}

// TestJoinRefusesClaims: what the proxy would leave out without a word here is an error,
// before anything is asked or changed.
func TestJoinRefusesClaims(t *testing.T) {
	const line = "skerry join proxy.example:7443 --token abcdef.0123456789abcdef --ca-hash sha256:" +
		"0000000000000000000000000000000000000000000000000000000000000000"
	base := filepath.Join(t.TempDir(), "base.yaml")
	write(t, base, "apiVersion: skerry.io/v1alpha1\nkind: EdgeAgentConfig\ntaints: ['node.kubernetes.io/not-ready:NoExecute']\n")
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--labels", "node-role.kubernetes.io/control-plane="}, "may not give its Node this label"},
		{[]string{"--taints", "node-role.kubernetes.io/control-plane:NoSchedule"}, "may not give its Node this taint"},
		{[]string{"--config", base}, "may not give its Node this taint"},
		{[]string{"--taints", "hall=3"}, "KEY=VALUE:EFFECT"},
		{[]string{"--taints", "hall=3:Never"}, "NoSchedule, PreferNoSchedule, NoExecute"},
		{[]string{"--taints", "hall=3:NoExecute,hall=4:NoExecute"}, "another of this key and effect"},
	} {
		m := newMachine(t)
		before := tree(t, m.dir)
		out, err := m.join(t, line, append(tt.flags, "--node-name", "edge-1")...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(out, "ok ") || tree(t, m.dir) != before {
			t.Errorf("%v: %v\n%s\nwant %q", tt.flags, err, out, tt.want)
		}
	}
}

// TestFailedServiceLeavesNothing: the last step fails, and all before it is undone.
func TestFailedServiceLeavesNothing(t *testing.T) {
	c, _ := newCluster(t)
	line, err := execute(t, tokenCommand(c), "create", "--uses", "0")
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"daemon-reload", "enable", "restart"} {
		t.Run(broken, func(t *testing.T) {
			m := newMachine(t)
			run := m.unit.run
			m.unit.run = func(ctx context.Context, args ...string) error {
				if args[0] == "restart" { // the agent has run for a moment
					if err := os.MkdirAll(filepath.Join(m.stateDir, "db"), 0o700); err != nil {
						t.Error(err)
					}
				}
				if args[0] == broken {
					return errors.New("systemd says no")
				}
				return run(ctx, args...)
			}
			before := tree(t, m.dir)
			_, err := m.join(t, line, "--node-name", "edge-1")
			if err == nil || !strings.Contains(err.Error(), "systemd says no") || !strings.Contains(err.Error(), "next: ") {
				t.Errorf("got %v", err)
			}
			if got := tree(t, m.dir); got != before {
				t.Errorf("left: %s; before: %s", got, before)
			}
		})
	}
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for off, want := range map[time.Duration]string{
			0: "", 20 * time.Second: "", -40 * time.Second: "40s behind", 4 * time.Minute: "4m0s ahead",
			6 * time.Minute: "6m0s ahead", -24 * time.Hour: "24h0m0s behind",
		} {
			_, err := clock(reach.Server{Date: now, Now: now.Add(off)})
			_, soft := errors.AsType[*warning](err)
			if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) || err != nil && soft != (off.Abs() <= worstClock) {
				t.Errorf("%s off: %v", off, err)
			}
		}
	})
}
