package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/edgeagent/config"
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

	unit systemdUnit
	root bool // whether preflight wants root; tests run without
}

func newJoin() *cobra.Command { return joinCommand(&join{unit: newSystemdUnit(), root: true}) }

func joinCommand(o *join) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "join HOST:PORT",
		Short: "Join this machine to a cluster",
		Long: `Join this machine to a cluster. 'skerry token create' prints the command to run here.

It checks this machine, gets a certificate over TCP from the cloud proxy at HOST:PORT,
whose CA must have the given hash, writes edgeagent.yaml and pki/ under --config-dir,
and installs and starts a systemd unit. Nothing stays behind when it fails before the
last step. Afterwards the agent talks to the same port over UDP.

An argument list can be read by every user of a machine while the command runs: give
the token by --token-file where that matters ("-" reads standard input).`,
		Example: `  skerry join proxy.example.com:7443 --token abcdef.0123456789abcdef --ca-hash sha256:...

  # the token from standard input, a name of your choice, no systemd
  skerry join proxy.example.com:7443 --token-file - --ca-hash sha256:... \
    --node-name press-07 --no-service`,
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
	f.StringVar(&o.agent, "agent", "", "the edgeagent binary; default the one beside skerry, then the one in PATH")
	f.BoolVar(&o.noService, "no-service", false, "write files only, install and start no systemd unit")
	f.BoolVar(&o.force, "force", false, "join again, replacing the certificate and edgeagent.yaml of an earlier join")
	return cmd
}

func (o *join) run(cmd *cobra.Command) error {
	cfg, err := o.config(cmd)
	if err != nil {
		return err
	}
	say := func(line string) { fmt.Fprintln(cmd.OutOrStdout(), line) }
	if err := preflight(cmd.Context(), o.checks(), say); err != nil {
		return err
	}
	cfg.Progress = say
	undo, err := claimStateDir(o.stateDir)
	if err != nil {
		return err
	}
	res, err := bootstrap.Join(cmd.Context(), cfg)
	if err != nil {
		return errors.Join(err, undo())
	}
	for _, name := range res.Files {
		say("wrote " + name)
	}
	if !o.noService {
		if err := o.startService(cmd.Context(), say); err != nil {
			return fmt.Errorf("the machine has joined, but its service does not run: %w", err)
		}
	} else {
		say("start the agent with: edgeagent --config " + o.configFile())
	}
	say("node " + res.Identity.Node + " has joined; 'kubectl get node " + res.Identity.Node + "' shows it when the agent is connected")
	return nil
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
	text, err := o.agentConfig()
	if err != nil {
		return cfg, badUsage(cmd, "%w", err)
	}
	return bootstrap.Config{
		Server: o.server, Token: o.token, CAHash: hash, NodeName: o.nodeName,
		Dir: o.configDir, AgentConfig: text,
		AgentVersion: version, Replace: o.force,
	}, nil
}

// agentConfig gives the text of edgeagent.yaml.
func (o *join) agentConfig() ([]byte, error) {
	c := config.Default()
	c.Server, c.NodeName = o.server, o.nodeName
	c.StateDir, c.CRISocket = o.stateDir, o.criSocket
	c.CertDir = filepath.Join(o.configDir, "pki")
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c.Marshal()
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
