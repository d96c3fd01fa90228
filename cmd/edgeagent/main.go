// Edgeagent is the edge half of Skerry: it keeps one session to the cloud
// proxy, stores what the cluster wants of this machine, runs its pods through
// the container runtime, and goes on when there is no cloud.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/cmd/daemon"
	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus"
	"github.com/skerry-io/skerry/devices/opcua"
	"github.com/skerry-io/skerry/devices/sim"
	"github.com/skerry-io/skerry/edgeagent"
	"github.com/skerry-io/skerry/edgeagent/config"
)

var version = "dev" // set by the linker

func main() { os.Exit(daemon.Run(run)) }

func run(ctx context.Context) error { return command().ExecuteContext(ctx) }

// drivers are those of devices, by the block of spec.protocol that each is for.
func drivers(cfg *config.Config) (map[string]devices.Driver, error) {
	ua, err := opcua.New(opcua.Config{Dir: filepath.Join(cfg.StateDir, "opcua"), Name: cfg.NodeName})
	if err != nil {
		return nil, err
	}
	return map[string]devices.Driver{"modbus": &modbus.Driver{}, "opcua": ua, "sim": sim.Driver{}}, nil
}

func command() *cobra.Command {
	file := config.DefaultFile
	var flags config.Config
	cmd := &cobra.Command{
		Use:   "edgeagent",
		Short: "Run this machine as an edge of a Kubernetes cluster",
		Long: `Run this machine as an edge of a Kubernetes cluster.

The configuration is written by "skerry join". Flags win over the file. An edge
that has joined needs no cloud: after a restart the agent carries on with what
its store holds.`,
		Example: `  edgeagent
  edgeagent --config /etc/skerry/edgeagent.yaml --log-level debug`,
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			override(&cfg, &flags)
			if err := cfg.Validate(); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			log, err := daemon.NewLogger(os.Stderr, cfg.LogLevel, cfg.LogFormat)
			if err != nil {
				return err
			}
			boundMemory(log)
			field, err := drivers(&cfg)
			if err != nil {
				return err
			}
			agent, err := edgeagent.New(edgeagent.Config{Config: cfg, Drivers: field, Version: version, Log: log})
			if err != nil {
				return err
			}
			return agent.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", file, "configuration file")
	f.StringVar(&flags.Server, "server", "", "cloud proxy, HOST:PORT")
	f.StringVar(&flags.NodeName, "node-name", "", "name of this edge; the certificate must agree")
	f.StringVar(&flags.OtherUplinks, "other-uplinks", "", "auto: other devices carry the session while the routing table's choice seems dead; or never")
	f.StringVar(&flags.StateDir, "state-dir", "", "folder of the store and the pods' volumes")
	f.StringVar(&flags.CRISocket, "cri-socket", "", "container runtime, unix:///path")
	f.StringVar(&flags.LogLevel, "log-level", "", "debug, info, warn or error")
	f.StringVar(&flags.LogFormat, "log-format", "", "text or json")
	return cmd
}

// override puts flags that were given over the file's values.
func override(cfg, flags *config.Config) {
	for _, f := range []struct{ to, from *string }{
		{&cfg.Server, &flags.Server},
		{&cfg.NodeName, &flags.NodeName},
		{&cfg.OtherUplinks, &flags.OtherUplinks},
		{&cfg.StateDir, &flags.StateDir},
		{&cfg.CRISocket, &flags.CRISocket},
		{&cfg.LogLevel, &flags.LogLevel},
		{&cfg.LogFormat, &flags.LogFormat},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
}
