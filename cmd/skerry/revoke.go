package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
)

func newRevoke() *cobra.Command { return revokeCommand(&cluster{}) }

func revokeCommand(c *cluster) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke NODE",
		Short: "Take a machine's access away, within seconds",
		Long: `Refuse every certificate that was issued to the node so far, close its session,
and delete the join tokens bound to its name. The machine keeps running what it
runs; it can no longer talk to the cluster. A new join with a new token makes the
name good again.

The Node object and its pods stay: 'kubectl delete node NODE' removes them. Tokens
that are good for any name are not touched: see 'skerry token list'.`,
		Example: "  skerry revoke press-07",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			node := args[0]
			if err := certs.ValidateNodeName(node); err != nil {
				return badUsage(cmd, "%w", err)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			// Tokens first: else whoever holds one could come back in between.
			grants, err := listGrants(cmd.Context(), client)
			if err != nil {
				return err
			}
			for _, g := range grants {
				if g.Node != node {
					continue
				}
				if err := deleteToken(cmd.Context(), client, g.ID); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "token "+g.ID+" deleted")
			}
			until, err := enroll.Revoke(cmd.Context(), client, c.namespace, node)
			if err != nil {
				return fmt.Errorf("revoke %s: %w", node, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "node %s revoked: certificates issued until %s are refused\n",
				node, until.UTC().Format(time.RFC3339))
			return err
		},
	}
	c.addFlags(cmd.Flags())
	return cmd
}
