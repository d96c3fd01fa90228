package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/edgeagent/config"
)

// ends are the two places that a doctor can look at.
type ends struct {
	cluster *cluster
	agent   *agent
	unit    systemdUnit
	host    hostFacts
	edge    bool // say so when both could be meant
	cloud   bool
}

func newEnds() *ends {
	return &ends{cluster: &cluster{}, agent: &agent{}, unit: newSystemdUnit(), host: newHostFacts()}
}

func (e *ends) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	e.cluster.addFlags(f)
	e.agent.addFlags(f)
	f.BoolVar(&e.edge, "edge", false, "look at this machine as an edge; the default where edgeagent.yaml is")
	f.BoolVar(&e.cloud, "cloud", false, "look at the cluster of the kubeconfig; the default elsewhere")
	cmd.MarkFlagsMutuallyExclusive("edge", "cloud")
}

// onEdge reports whether the edge is meant.
func (e *ends) onEdge() bool {
	if e.edge || e.cloud {
		return e.edge
	}
	_, err := os.Stat(e.configFile())
	return err == nil || !os.IsNotExist(err)
}

func (e *ends) configFile() string {
	return filepath.Join(e.agent.configDir, filepath.Base(config.DefaultFile))
}

func newDoctor() *cobra.Command { return doctorCommand(newEnds()) }

func doctorCommand(e *ends) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check an edge, or the cloud half, and say what to do about what is wrong",
		Long: `Check one end and say, for each thing that is not as it should be, what to do about it.

On an edge (root needed): the configuration, the certificate, the agent, its session, the
container runtime and pods' network, the machine, the clock, and the way to the cloud
proxy by TCP and by UDP. Elsewhere, with a kubeconfig: the proxy's Deployment, its
certificates, whether kube-apiserver reaches it, whether its address answers from here,
and which edges are not Ready.

It changes nothing. It exits with 1 if a check fails.`,
		Example: "  # on an edge\n  sudo skerry doctor\n\n  # with a kubeconfig\n  skerry doctor\n  skerry doctor --cloud",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, err := e.checks()
			if err != nil {
				return err
			}
			say := func(line string) { fmt.Fprintln(cmd.OutOrStdout(), line) }
			failed := examine(cmd.Context(), checks, say)
			switch {
			case cmd.Context().Err() != nil:
				return errInterrupted
			case failed > 0:
				return fmt.Errorf("%d of %d checks failed; 'skerry support-bundle' collects what others need to help", failed, len(checks))
			}
			return nil
		},
	}
	e.addFlags(cmd)
	return cmd
}

func (e *ends) checks() ([]check, error) {
	if e.onEdge() {
		return e.edgeChecks(), nil
	}
	return e.cloudChecks()
}
