package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/certs"
)

// watchInterval is how often --watch looks.
const watchInterval = 2 * time.Second

func newStatus() *cobra.Command { return statusCommand(&cluster{}) }

func statusCommand(c *cluster) *cobra.Command {
	var output string
	var watch bool
	cmd := &cobra.Command{
		Use:   "status [EDGE]",
		Short: "Show which edges are connected, and how well",
		Long: `Show the session of one edge, or of all.

SENT and RECEIVED are bytes to and from the edge, LOSS is the share of packets to
it that were lost, RESUMES is how often its session went on over a new link after
one was lost. All count from the session's begin. BEHIND is how many objects of its
desired state (pods, ConfigMaps, Secrets ...) are not yet as they should be on the
edge, and for how long the oldest of them has not been: it is to be sent, stored,
acted upon, or a pod's containers do not run or are not ready. -o wide adds how long
the edge has been connected and how old its session is, its links so far, changes of
its address, bytes sent again and received twice, bytes held in buffers, how many
objects the edge holds, those that it has not stored and not acted upon, when the
edge's certificate expires, and when the CA that signed it. What expires soon, and
should have been renewed, is warned of.

The cloud proxy is asked by way of kube-apiserver, so a kubeconfig is all this
needs. Its user must be allowed to list nodes and to get nodes/proxy; without the
second only what the Node objects say is shown.`,
		Example: `  # all edges
  skerry status

  # one edge, with all columns
  skerry status press-07 -o wide

  # a line for each edge that comes, goes, or changes its link or its address
  skerry status --watch

  # names of edges that are not connected
  skerry status -o json | jq -r '.[] | select(.state != "connected") | .node'`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "wide", "json", "yaml"}, output) {
				return badUsage(cmd, "--output %q is not wide, json or yaml", output)
			}
			q := query{namespace: c.namespace}
			if len(args) > 0 {
				q.name = args[0]
				if err := certs.ValidateNodeName(q.name); err != nil {
					return fmt.Errorf("%q can't be an edge: %w", q.name, err)
				}
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			q.client = client
			p := newPrinter(cmd.OutOrStdout(), output, q.name != "")
			if watch {
				return q.watch(cmd, p)
			}
			return q.once(cmd, p)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "wide, json or yaml; a table when empty")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "then print a line for each change, until Ctrl-C")
	c.addFlags(cmd.Flags())
	return cmd
}

// query is what is asked for.
type query struct {
	client    kubernetes.Interface
	namespace string
	name      string // empty for all edges
	bundle    []*x509.Certificate
}

// once prints what there is.
func (q *query) once(cmd *cobra.Command, p *printer) error {
	edges, err := q.edges(cmd.Context())
	if err != nil {
		return err
	}
	if len(edges) == 0 && p.output != "json" && p.output != "yaml" {
		fmt.Fprintln(cmd.ErrOrStderr(), "no edges have joined; 'skerry token create' prints the command that joins one")
		return nil
	}
	now := time.Now()
	if err := p.all(edges, now); err != nil {
		return err
	}
	q.warn(cmd.ErrOrStderr(), edges, now)
	return unanswered(edges)
}

// unanswered is the error of edges whose proxy did not tell about them.
func unanswered(edges []edge) error {
	var first error
	n := 0
	for i := range edges {
		if err := edges[i].err; err != nil {
			first = err
			n++
		}
	}
	if n < 2 {
		return first
	}
	return fmt.Errorf("%d of %d edges can't be asked for: %w", n, len(edges), first)
}

// watch prints what there is, and then what changes, until ctx ends. Troubles are
// told and waited for: they may be what the watch is for.
func (q *query) watch(cmd *cobra.Command, p *printer) error {
	ctx := cmd.Context()
	edges, err := q.edges(ctx)
	if err != nil {
		return err
	}
	shown := make(map[string]edge)
	trouble := ""
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if err == nil {
			if perr := p.some(changes(shown, edges), time.Now()); perr != nil {
				return perr
			}
			err = unanswered(edges)
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != trouble && text != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "Warning: "+text)
		}
		trouble = text
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if edges, err = q.edges(ctx); errors.Is(err, context.Canceled) {
			return nil
		}
	}
}

// changes gives the edges that differ from those shown, and notes them as shown.
func changes(shown map[string]edge, edges []edge) []edge {
	var list []edge
	there := make(map[string]bool)
	for i := range edges {
		e := &edges[i]
		there[e.Node] = true
		if last, ok := shown[e.Node]; !ok || !last.alike(e) {
			list = append(list, *e)
		}
		shown[e.Node] = *e
	}
	for node := range shown {
		if !there[node] {
			list = append(list, edge{Node: node, State: stateRemoved})
			delete(shown, node)
		}
	}
	return list
}
