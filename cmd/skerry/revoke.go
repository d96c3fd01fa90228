package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

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
			return revoke(cmd, client, c.namespace, node)
		},
	}
	c.addFlags(cmd.Flags())
	return cmd
}

func revoke(cmd *cobra.Command, client kubernetes.Interface, namespace, node string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	// In another namespace no proxy would ever read it.
	if _, err := enroll.ReadInfo(ctx, client, namespace); err != nil {
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("no cloud proxy has run in namespace %s, and nothing was revoked; is --namespace right?", namespace)
		}
		return err
	}
	// Tokens first: else whoever holds one could come back in between. One that
	// can't be deleted is no reason to let the machine in.
	tokens := deleteTokensOf(cmd, client, node)
	until, err := enroll.Revoke(ctx, client, namespace, node)
	if err != nil {
		return errors.Join(tokens, fmt.Errorf("revoke %s: %w", node, err))
	}
	fmt.Fprintf(out, "node %s revoked: certificates issued until %s are refused\n", node, until.UTC().Format(time.RFC3339))
	if _, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		fmt.Fprintf(cmd.ErrOrStderr(), "the cluster has no Node %s: check the name\n", node)
	}
	return tokens
}

func deleteTokensOf(cmd *cobra.Command, client kubernetes.Interface, node string) error {
	grants, err := listGrants(cmd.Context(), client)
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range grants {
		if g.Node != node {
			continue
		}
		if err := deleteToken(cmd.Context(), client, g.ID); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(cmd.OutOrStdout(), "token "+g.ID+" deleted")
	}
	return errors.Join(errs...)
}
