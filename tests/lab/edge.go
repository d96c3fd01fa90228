package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// Edge is one edge machine of a lab: a network namespace behind a link, a
// containerd and an agent.
type Edge struct {
	Name string // of the edge, its Node and its folder
	lab  *Lab
	n    int

	agentCgroup string // where the agent is started; empty is where the lab is
}

// Edge is the edge with a number from 1 to 54, which decides its addresses. It
// starts nothing.
func (l *Lab) Edge(name string, number int) (*Edge, error) {
	if name == "" || strings.ContainsAny(name, "/ ") {
		return nil, fmt.Errorf("edge name %q", name)
	}
	if number < 1 || number > 54 {
		return nil, fmt.Errorf("edge %s: number %d is not between 1 and 54", name, number)
	}
	return &Edge{Name: name, lab: l, n: number}, nil
}

// Path names a file below the edge's directory.
func (e *Edge) Path(elem ...string) string {
	return e.lab.Path(append([]string{"edges", e.Name}, elem...)...)
}

func (e *Edge) daemon(kind string) string { return kind + "-" + e.Name }

// ConfigDir is where join writes and the agent reads.
func (e *Edge) ConfigDir() string { return e.Path("etc") }

// ConfigFile is the agent's configuration.
func (e *Edge) ConfigFile() string { return e.Path("etc", "edgeagent.yaml") }

// StateDir is where the agent keeps its database and pods' volumes.
func (e *Edge) StateDir() string { return e.Path("state") }

// AgentLog is the log file of the agent.
func (e *Edge) AgentLog() string { return e.lab.LogFile(e.daemon("edgeagent")) }

// Up brings up the whole edge: machine, join, agent.
func (e *Edge) Up(ctx context.Context, profile string) error {
	if err := e.StartMachine(ctx, profile); err != nil {
		return err
	}
	if !exists(e.ConfigFile()) {
		token, err := e.lab.CreateToken(ctx)
		if err != nil {
			return err
		}
		if err := e.Join(ctx, token); err != nil {
			return err
		}
	}
	return e.StartAgent(ctx)
}

// StartMachine brings up the edge without Skerry: network, link, runtime.
func (e *Edge) StartMachine(ctx context.Context, profile string) error {
	if err := e.StartNetwork(ctx, profile); err != nil {
		return err
	}
	return e.StartRuntime(ctx)
}

// StartNetwork brings up the edge without Skerry and without a runtime.
func (e *Edge) StartNetwork(ctx context.Context, profile string) error {
	if err := os.MkdirAll(e.Path(), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(e.Path("number"), []byte(strconv.Itoa(e.n)), 0o600); err != nil {
		return err
	}
	if err := e.addShortcut(); err != nil {
		return err
	}
	if err := e.addNetwork(ctx); err != nil {
		return err
	}
	return e.StartLink(ctx, profile)
}

// Token is what `skerry token create` gives out.
type Token struct{ Server, Token, CAHash string }

// CreateToken makes a bootstrap token with the CLI.
func (l *Lab) CreateToken(ctx context.Context, flags ...string) (Token, error) {
	out, err := l.CLI(ctx, append([]string{"token", "create"}, flags...)...)
	if err != nil {
		return Token{}, err
	}
	return parseToken(out, l.Server())
}

// parseToken finds the parts of the join command in what the CLI prints.
func parseToken(out, server string) (Token, error) {
	t := Token{Server: server}
	words := strings.Fields(strings.ReplaceAll(out, "\\\n", " "))
	for i, w := range words[:max(len(words)-1, 0)] {
		switch w {
		case "join":
			if _, err := netip.ParseAddrPort(words[i+1]); err == nil {
				t.Server = words[i+1]
			}
		case "--token":
			t.Token = words[i+1]
		case "--ca-hash":
			t.CAHash = words[i+1]
		}
	}
	if t.Token == "" || t.CAHash == "" {
		return Token{}, fmt.Errorf("no --token and --ca-hash in %q", out)
	}
	return t, nil
}

// CLI runs the skerry command as the cluster's administrator.
func (l *Lab) CLI(ctx context.Context, args ...string) (string, error) {
	return l.run(ctx, append([]string{"env", "KUBECONFIG=" + l.Kubeconfig(), l.Bin("skerry")}, args...)...)
}

// JoinArgs is the join command of this edge, to be run in its namespace.
func (e *Edge) JoinArgs(t Token) []string {
	return []string{
		e.lab.Bin("skerry"), "join", t.Server, "--token", t.Token, "--ca-hash", t.CAHash, "--node-name", e.Name,
		"--config-dir", e.ConfigDir(), "--state-dir", e.StateDir(), "--cri-socket", "unix://" + e.socket(), "--no-service",
	}
}

// Join joins the edge to the cluster and adds what only a lab needs to the
// agent's configuration: folders of its own for logs and cgroups, and no concern for
// how full the disk is, which is whoever's machine it runs on.
func (e *Edge) Join(ctx context.Context, t Token, flags ...string) error {
	if _, err := e.Run(ctx, append(e.JoinArgs(t), flags...)...); err != nil {
		return err
	}
	return e.Configure(map[string]string{
		"podLogsDir": e.Path("podlogs"), "cgroupRoot": e.cgroupRoot(),
		"imageGCHighThresholdPercent": "100", "evictionHard": "{memory.available: 50Mi}",
	})
}

// Configure sets top-level keys of the agent's configuration to values in YAML.
func (e *Edge) Configure(keys map[string]string) error {
	b, err := os.ReadFile(e.ConfigFile())
	if err != nil {
		return err
	}
	return os.WriteFile(e.ConfigFile(), []byte(setKeys(string(b), keys)), 0o600)
}

// setKeys replaces or adds lines "key: value" at the top level of a YAML text.
func setKeys(yaml string, keys map[string]string) string {
	var lines []string
	for line := range strings.Lines(yaml) {
		key, _, _ := strings.Cut(line, ":")
		if _, ok := keys[key]; !ok {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	for k, v := range keys {
		lines = append(lines, fmt.Sprintf("%s: %s", k, v))
	}
	return strings.Join(lines, "\n") + "\n"
}

// Run runs a command in the edge's network namespace.
func (e *Edge) Run(ctx context.Context, args ...string) (string, error) {
	return e.lab.run(ctx, inNetns(e.netns(), args)...)
}

// StartAgent starts the agent; whether the Node gets Ready is for others to ask.
func (e *Edge) StartAgent(ctx context.Context) error {
	name := e.daemon("edgeagent")
	if err := makeCgroups(e.cgroupRoot()); err != nil {
		return err
	}
	err := e.start(ctx, daemon{name: name, netns: e.netns(), args: e.agentCommand()})
	if err != nil {
		return err
	}
	// A bad configuration ends it within moments; a good one keeps it.
	return e.lab.ready(ctx, name, 10*time.Second, func() error {
		if !exists(e.Path("state", "db")) {
			return errors.New("its database is not open yet")
		}
		return nil
	})
}

// start runs a daemon that belongs to the edge.
func (e *Edge) start(ctx context.Context, d daemon) error {
	d.env = append(d.env, e.mark())
	return e.lab.start(ctx, d)
}

// StopAgent asks the agent to end; pods go on.
func (e *Edge) StopAgent(ctx context.Context) error {
	return e.lab.stop(ctx, e.daemon("edgeagent"), 20*time.Second)
}

// KillAgent kills it as a power cut does; pods go on.
func (e *Edge) KillAgent(ctx context.Context) error { return e.lab.kill(ctx, e.daemon("edgeagent")) }

// AgentPID is the agent's process, if it runs.
func (e *Edge) AgentPID() (int, bool) { return e.lab.PID(e.daemon("edgeagent")) }

// WaitReady waits until the Node of the edge is Ready.
func (e *Edge) WaitReady(ctx context.Context, timeout time.Duration) error {
	err := Until(ctx, timeout, "node "+e.Name+" to be Ready", func() error {
		if _, ok := e.AgentPID(); !ok {
			return Final(fmt.Errorf("edgeagent ended: %s", lastLine(e.AgentLog())))
		}
		out, err := e.lab.Kubectl(ctx, "get", "node", e.Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err != nil {
			return err
		}
		if out != "True" {
			return fmt.Errorf("condition Ready is %q", out)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w (logs: %s, %s)", err, e.AgentLog(), e.lab.LogFile(proxyDaemon))
	}
	return nil
}

// Down stops the edge and removes all it has made but its logs.
func (e *Edge) Down(ctx context.Context) error {
	err := errors.Join(
		e.StopAgent(ctx),
		e.removePods(ctx),
		e.lab.stop(ctx, e.daemon("containerd"), 20*time.Second),
		e.clear(ctx),
		e.removeShortcut(),
	)
	if err != nil {
		return fmt.Errorf("edge %s: %w", e.Name, err)
	}
	return os.RemoveAll(e.Path())
}

// clear ends what is left of pods, and takes away all that is not files.
func (e *Edge) clear(ctx context.Context) error {
	return errors.Join(
		killCgroup(ctx, e.cgroupRoot()),
		killStrays(ctx, e.mark()),
		e.removeShimSockets(),
		unmountBelow(ctx, e.Path()),
		e.StopLink(ctx),
		e.removeNetwork(ctx),
		removeCgroups(ctx, e.cgroupRoot()),
	)
}
