package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/local"
)

// Where things are on a machine, unless flags say otherwise.
const (
	defaultConfigDir = "/etc/skerry"
	defaultStateDir  = "/var/lib/skerry"
	defaultCRISocket = "unix:///run/containerd/containerd.sock"
)

type join struct {
	server    string
	token     string
	tokenFile string
	caHash    string
	nodeName  string
	configDir string
	stateDir  string
	criSocket string
	agent     string
	noService bool
	force     bool
	labels    map[string]string
	taints    []string
	base      string
	timeout   time.Duration

	unit   systemdUnit
	host   hostFacts
	root   bool   // whether preflight wants root; tests run without
	cniDir string // where preflight found that pods lack a network, else empty
}

func newJoin() *cobra.Command {
	return joinCommand(&join{unit: newSystemdUnit(), host: newHostFacts(), root: true})
}

func joinCommand(o *join) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "join HOST:PORT",
		Short: "Join this machine to a cluster",
		Long: `Join this machine to a cluster. 'skerry token create' prints the command to run here.

It checks this machine and the way to the cloud proxy at HOST:PORT, gets a certificate
from it over TCP, whose CA must have the given hash, writes edgeagent.yaml and pki/
under --config-dir, a bridge for pods where the runtime looks for it if they have no
network, and installs and starts a systemd unit. Then it waits until the edge is connected and Ready.
Afterwards the agent talks to the same port over UDP, or TCP where UDP is blocked.
Nothing else is asked of the network, the internet least of all.

A join that fails leaves nothing behind, but a token that the proxy has taken is spent.
One that only does not get Ready in time stays: the agent tries on.

An argument list can be read by every user of a machine while the command runs: give
the token by --token-file where that matters ("-" reads standard input).`,
		Example: `  skerry join proxy.example.com:7443 --token abcdef.0123456789abcdef --ca-hash sha256:...

  # the token from standard input, a name of your choice, no systemd
  skerry join proxy.example.com:7443 --token-file - --ca-hash sha256:... \
    --node-name press-07 --no-service

  # labels, and settings of your own
  skerry join proxy.example.com:7443 --token-file token --ca-hash sha256:... \
    --labels hall=3,line=b --config ./edgeagent.yaml

  # only pods that tolerate it are to run here
  skerry join proxy.example.com:7443 --token-file token --ca-hash sha256:... \
    --taints dedicated=press:NoSchedule`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.server = args[0]
			return o.run(cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.token, "token", "", "the join token")
	f.StringVar(&o.tokenFile, "token-file", "", "read the token from this `file`, \"-\" is standard input")
	f.StringVar(&o.caHash, "ca-hash", "", "`sha256:HEX` of the cluster's CA")
	f.StringVar(&o.nodeName, "node-name", "", "name of the Node; default this machine's host name")
	f.StringVar(&o.configDir, "config-dir", defaultConfigDir, "where edgeagent.yaml and pki/ go")
	f.StringVar(&o.stateDir, "state-dir", defaultStateDir, "where the agent keeps its database and volumes")
	f.StringVar(&o.criSocket, "cri-socket", defaultCRISocket, "the container runtime's socket")
	f.StringToStringVar(&o.labels, "labels", nil, "labels of the Node, `KEY=VALUE,...`")
	f.StringSliceVar(&o.taints, "taints", nil, "taints of the Node when it is made, `KEY=VALUE:EFFECT,...`; like labels, none of Kubernetes' own but node-role.kubernetes.io/edge")
	f.StringVar(&o.base, "config", "", "an edgeagent.yaml whose settings are taken over, but for the server and what flags say")
	f.StringVar(&o.agent, "agent", "", "the edgeagent binary; default the one beside skerry, then the one in PATH")
	f.BoolVar(&o.noService, "no-service", false, "write files only, install and start no systemd unit")
	f.BoolVar(&o.force, "force", false, "join again, replacing the certificate and edgeagent.yaml of an earlier join")
	f.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long to wait until the edge is connected and Ready; 0 does not wait")
	return cmd
}

func (o *join) run(cmd *cobra.Command) error {
	cfg, err := o.config(cmd)
	if err != nil {
		return err
	}
	say := func(line string) { fmt.Fprintln(cmd.OutOrStdout(), line) }
	if err := preflight(cmd.Context(), o.checks(cfg.CAHash), say); err != nil {
		return err
	}
	cfg.Progress = say
	node, err := o.install(cmd.Context(), cfg, say)
	if err != nil {
		return err
	}
	if o.noService || !o.unit.runs() || o.timeout == 0 {
		say("node " + node + " has joined; 'kubectl get node " + node + "' shows it when the agent is connected")
		return nil
	}
	return o.waitReady(cmd.Context(), node, say)
}

// install changes this machine. After an error it is as it was.
func (o *join) install(ctx context.Context, cfg bootstrap.Config, say func(string)) (node string, err error) {
	again := bootstrap.Joined(o.configDir) // with --force: the old files are gone for good once there are new ones
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for _, u := range slices.Backward(undo) {
			err = errors.Join(err, u())
		}
	}()
	old := hasMarker(o.stateDir)
	forget, err := claimStateDir(o.stateDir)
	if err != nil {
		return "", err
	}
	undo = append(undo, forget)
	if !old { // an agent that has run for a moment has left a database there
		undo = append(undo, func() error { return clearState(o.stateDir) })
	}
	if o.cniDir != "" {
		name, remove, err := writeNetwork(o.cniDir, o.stateDir)
		if err != nil {
			return "", err
		}
		undo = append(undo, remove)
		say("wrote " + name)
	}
	res, err := bootstrap.Join(ctx, cfg)
	if err != nil {
		return "", err
	}
	if again {
		undo = nil
	} else {
		undo = append(undo, func() error { return removeJoin(o.configDir) })
	}
	for _, name := range res.Files {
		say("wrote " + name)
	}
	if o.noService {
		say("start the agent with: edgeagent --config " + o.configFile())
		return res.Identity.Node, nil
	}
	if !again {
		undo = append(undo, func() error { return o.unit.discard(context.WithoutCancel(ctx)) })
	}
	if err := o.startService(ctx, say); err != nil {
		if again {
			return "", fmt.Errorf("the machine has joined, but its service does not run: %w", err)
		}
		return "", fmt.Errorf("start the service: %w; what the join had made is removed again, and its token is spent; next: repair that, then join with a new token of 'skerry token create'", err)
	}
	return res.Identity.Node, nil
}

// removeJoin removes what a join has just written.
func removeJoin(configDir string) error {
	var errs []error
	for _, name := range bootstrap.Files(configDir) {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	removeIfEmpty(filepath.Join(configDir, "pki"))
	removeIfEmpty(configDir)
	return errors.Join(errs...)
}

// waitReady asks the agent until it is connected and its Node Ready.
func (o *join) waitReady(ctx context.Context, node string, say func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	client := &local.Client{Socket: local.SocketPath(o.stateDir)}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := ""
	for {
		why := notReady(ctx, client)
		if why == "" {
			say("ready: node " + node + " is connected; 'kubectl get node " + node + "' shows it")
			return nil
		}
		if ctx.Err() == nil && why != told {
			say("waiting: " + why)
			told = why
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until the edge is Ready: not after %s: %s; the agent is installed and tries on; next: 'skerry doctor' here, 'journalctl -u %s', or 'skerry reset' to undo the join",
				o.timeout, told, unitName)
		}
	}
}

// notReady says what is missing, or nothing.
func notReady(ctx context.Context, client *local.Client) string {
	node, err := client.Node(ctx)
	if err != nil {
		return err.Error()
	}
	for _, want := range []corev1.NodeConditionType{local.ConditionCloudConnected, corev1.NodeReady} {
		found := false
		for _, c := range node.Status.Conditions {
			if c.Type != want {
				continue
			}
			found = true
			if c.Status != corev1.ConditionTrue {
				return fmt.Sprintf("%s is %s: %s", c.Type, c.Status, c.Message)
			}
		}
		if !found {
			return fmt.Sprintf("the agent does not say %s yet", want)
		}
	}
	return ""
}

func (o *join) configFile() string {
	return filepath.Join(o.configDir, filepath.Base(config.DefaultFile))
}

// config turns flags into what bootstrap wants; all that is wrong here is usage.
func (o *join) config(cmd *cobra.Command) (bootstrap.Config, error) {
	var cfg bootstrap.Config
	if o.caHash == "" {
		return cfg, badUsage(cmd, "--ca-hash is missing; 'skerry token create' prints the whole command")
	}
	hash, err := certs.ParseCAHash(o.caHash)
	if err != nil {
		return cfg, badUsage(cmd, "--ca-hash: %w", err)
	}
	if o.token != "" && o.tokenFile != "" {
		return cfg, badUsage(cmd, "--token and --token-file are both given")
	}
	if o.tokenFile != "" {
		read := func() (string, error) { return readToken(cmd.InOrStdin(), o.tokenFile) }
		if o.token, err = interruptible(cmd.Context(), read); err != nil {
			return cfg, err
		}
	}
	if o.token == "" {
		return cfg, badUsage(cmd, "--token or --token-file is missing")
	}
	base, err := o.baseConfig(cmd)
	if err != nil {
		return cfg, err
	}
	if o.nodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return cfg, fmt.Errorf("read the host name: %w; say --node-name", err)
		}
		o.nodeName = strings.ToLower(host)
	}
	if err := certs.ValidateNodeName(o.nodeName); err != nil {
		return cfg, badUsage(cmd, "--node-name: %w", err)
	}
	for _, dir := range []*string{&o.configDir, &o.stateDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return cfg, err
		}
	}
	text, err := o.agentConfig(base)
	if err != nil {
		return cfg, badUsage(cmd, "%w", err)
	}
	return bootstrap.Config{
		Server: o.server, Token: o.token, CAHash: hash, NodeName: o.nodeName,
		Dir: o.configDir, AgentConfig: text,
		AgentVersion: version, Replace: o.force,
	}, nil
}

// readToken reads a token from a file or standard input.
func readToken(stdin io.Reader, name string) (string, error) {
	const limit = 4096 // a token has 23 bytes
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limit))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("read token: %s is empty", name)
	}
	return token, nil
}

func (o *join) startService(ctx context.Context, say func(string)) error {
	agent, err := o.findAgent()
	if err != nil {
		return err
	}
	return o.unit.install(ctx, agent, o.configFile(), say)
}

// findAgent looks beside this binary first: the two are released together.
func (o *join) findAgent() (string, error) {
	const name = "edgeagent"
	if o.agent != "" {
		return filepath.Abs(o.agent)
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := lookPath(name)
	if err != nil {
		return "", errors.New("there is no edgeagent beside skerry or in PATH; say --agent FILE, or --no-service")
	}
	return path, nil
}
