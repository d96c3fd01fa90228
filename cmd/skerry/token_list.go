package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

func newTokenList(c *cluster) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List join tokens, without their secrets",
		Long: `List join tokens. A token's secret is shown once, when it is made, and never
again. Used-up and expired tokens stay listed for a day.`,
		Example: "  skerry token list\n  skerry token list -o json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return badUsage(cmd, "--output %q is not json", output)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			grants, err := listGrants(cmd.Context(), client)
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(grants)
			}
			return printGrants(cmd.OutOrStdout(), grants, time.Now())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or a table when empty")
	return cmd
}

// listGrants gives all join tokens, the ones that end first on top.
func listGrants(ctx context.Context, client kubernetes.Interface) ([]jointoken.Grant, error) {
	list, err := client.CoreV1().Secrets(jointoken.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("type", string(jointoken.SecretType)).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	grants := []jointoken.Grant{} // JSON wants [], not null
	for i := range list.Items {
		if g, ok := jointoken.ReadGrant(&list.Items[i]); ok {
			grants = append(grants, g)
		}
	}
	slices.SortFunc(grants, func(a, b jointoken.Grant) int {
		if c := a.Expires.Compare(b.Expires); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return grants, nil
}

func printGrants(w io.Writer, grants []jointoken.Grant, now time.Time) error {
	const minWidth, tabWidth, padding = 0, 8, 3
	tw := tabwriter.NewWriter(w, minWidth, tabWidth, padding, ' ', 0)
	fmt.Fprintln(tw, "ID\tTTL\tNODE\tUSES LEFT\tDESCRIPTION")
	for _, g := range grants {
		ttl := "never ends"
		switch {
		case g.Expired(now):
			ttl = "expired"
		case !g.Expires.IsZero():
			ttl = duration.HumanDuration(g.Expires.Sub(now))
		}
		node := g.Node
		if node == "" {
			node = "any"
		}
		uses := "no limit"
		if g.Limited {
			uses = strconv.Itoa(g.UsesLeft)
		}
		if n := len(g.Used); g.Limited && g.UsesLeft == 0 && n > 0 {
			uses += " (last: " + g.Used[n-1].Node + ")"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", g.ID, ttl, node, uses, oneLine(g.Description))
	}
	return tw.Flush()
}

// oneLine keeps a description from breaking the table or driving the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
