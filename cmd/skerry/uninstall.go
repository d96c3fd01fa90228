package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/cmd/skerry/install"
	"github.com/skerry-io/skerry/manifests"
)

func newUninstall() *cobra.Command { return uninstallCommand(&cluster{}) }

func uninstallCommand(c *cluster) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Undo 'skerry init' in a cluster",
		Long: `Remove from a cluster what 'skerry init' and the cloud proxy have made: the proxy, its
Services and rights, its namespace if init has made it, join tokens, and the Nodes of
edges with the pods bound to them. It lists everything and asks.

What is not labelled as made by init stays, such as what Helm or kubectl has installed.

With the namespace goes the CA: edges do not get in again, even into a new
installation, and have to join anew. Their pods run on until 'skerry reset' there.`,
		Example: "  skerry uninstall\n  skerry uninstall --yes",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return uninstall(cmd, c, yes) },
	}
	c.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func uninstall(cmd *cobra.Command, cl *cluster, yes bool) error {
	out := cmd.OutOrStdout()
	c, err := cl.installer(func(line string) { fmt.Fprintln(out, line) })
	if err != nil {
		return err
	}
	v, err := manifests.DefaultValues()
	if err != nil {
		return err
	}
	objs, err := render(c.Namespace, v)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	other, err := c.Other(ctx)
	if err != nil {
		return err
	}
	if other != "" {
		return fmt.Errorf("the cloud proxy of this cluster is in namespace %s; next: skerry uninstall --namespace %s", other, other)
	}
	plan, notes, err := c.Plan(ctx, objs)
	if err != nil {
		return err
	}
	var steps []step
	for _, r := range plan {
		steps = append(steps, step{r.What, r.Run})
	}
	return carryOut(cmd, steps, notes, yes, func(s *step, err error) error {
		return &install.StepError{Step: s.what, Err: err, Next: "skerry uninstall again, when the cause is gone: it goes on where it stopped"}
	})
}
