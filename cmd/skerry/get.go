package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/local"
)

// get is what the commands below `skerry get` have in common.
type get struct {
	agent
	output    string
	namespace string
	all       bool
}

func newGet() *cobra.Command {
	return group("get", "Show what runs on this edge, with or without a cloud", getPods(&get{}), getNodes(&get{}), getConfigMaps(&get{}))
}

const getLong = `

It asks the agent on this machine, not the cluster, so it works while the cloud can't
be reached. Only root may.`

func (g *get) command(cmd *cobra.Command, namespaced bool, show func(cmd *cobra.Command, names []string) error) *cobra.Command {
	cmd.Long += getLong
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains([]string{"", "wide", "json", "yaml"}, g.output) {
			return badUsage(cmd, "--output %q is not wide, json or yaml", g.output)
		}
		if g.all && g.namespace != "" {
			return badUsage(cmd, "--namespace and --all-namespaces exclude each other")
		}
		return explainLocal(cmd.Context(), show(cmd, args))
	}
	f := cmd.Flags()
	f.StringVarP(&g.output, "output", "o", "", "wide, json or yaml; a table when empty")
	if namespaced {
		f.StringVarP(&g.namespace, "namespace", "n", "", "only this namespace; all when empty")
		f.BoolVarP(&g.all, "all-namespaces", "A", false, "all namespaces, which is the default: an edge has few pods")
	}
	g.addFlags(f)
	return cmd
}

func getPods(g *get) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "pods [NAME...]",
		Aliases: []string{"pod", "po"},
		Short:   "List the pods of this edge",
		Long: `List the pods of this edge with their status as it is now, static pods among them.
A file in the folder of static pods that can't be used is told below the table.`,
		Example: `  # all pods of this edge
  skerry get pods

  # with addresses, priorities and where they come from
  skerry get pods -o wide

  # one of them, whole
  skerry get pods web-0 -n shop -o yaml`,
	}
	cmd.ValidArgsFunction = g.completePods(&g.namespace)
	return g.command(cmd, true, g.pods)
}

func (g *get) pods(cmd *cobra.Command, names []string) error {
	got, err := g.client().Pods(cmd.Context())
	if err != nil {
		return err
	}
	for _, p := range got.Problems {
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning: "+oneLine(p))
	}
	list := slices.DeleteFunc(got.Pods, func(p corev1.Pod) bool { return g.namespace != "" && p.Namespace != g.namespace })
	list, missing := named(list, names, func(p *corev1.Pod) string { return p.Name })
	err = show(cmd, g, list, names, func(w io.Writer) error { return podTable(w, list, g.output == "wide", time.Now()) })
	return errors.Join(err, absent("pod", missing))
}

func getNodes(g *get) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "nodes",
		Aliases: []string{"node", "no"},
		Short:   "Show this edge, and whether there is a cloud",
		Long:    `Show this edge: its conditions, whether the cloud is connected, and since when.`,
		Example: "  skerry get nodes\n  skerry get nodes -o yaml",
		Args:    usageArgs(cobra.NoArgs),
	}
	return g.command(cmd, false, g.node)
}

func (g *get) node(cmd *cobra.Command, _ []string) error {
	node, err := g.client().Node(cmd.Context())
	if err != nil {
		return err
	}
	return show(cmd, g, []corev1.Node{*node}, nil, func(w io.Writer) error { return nodeTable(w, node, g.output == "wide", time.Now()) })
}

func getConfigMaps(g *get) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "configmaps [NAME...]",
		Aliases: []string{"configmap", "cm"},
		Short:   "List the ConfigMaps that this edge has",
		Long: `List the ConfigMaps that pods of this edge use; -o yaml and -o json show their
content. Secrets are never shown.`,
		Example: "  skerry get configmaps\n  skerry get configmaps settings -n shop -o yaml",
	}
	return g.command(cmd, true, g.configMaps)
}

func (g *get) configMaps(cmd *cobra.Command, names []string) error {
	name := ""
	if len(names) == 1 {
		name = names[0]
	}
	list, err := g.client().ConfigMaps(cmd.Context(), g.namespace, name)
	if err != nil {
		return err
	}
	list, missing := named(list, names, func(c *corev1.ConfigMap) string { return c.Name })
	err = show(cmd, g, list, names, func(w io.Writer) error {
		rows := [][]string{{"NAMESPACE", "NAME", "DATA", "AGE"}}
		for i := range list {
			c := &list[i]
			rows = append(rows, []string{c.Namespace, c.Name, strconv.Itoa(len(c.Data) + len(c.BinaryData)), since(c.CreationTimestamp.Time, time.Now())})
		}
		return table(w, rows)
	})
	return errors.Join(err, absent("configmap", missing))
}

// named keeps the objects that were asked for by name, and tells which were not
// found.
func named[T any](list []T, names []string, name func(*T) string) (kept []T, missing []string) {
	if len(names) == 0 {
		return list, nil
	}
	found := map[string]bool{}
	for i := range list {
		if n := name(&list[i]); slices.Contains(names, n) {
			found[n] = true
			kept = append(kept, list[i])
		}
	}
	for _, n := range names {
		if !found[n] {
			missing = append(missing, n)
		}
	}
	return kept, missing
}

func absent(kind string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("no %s %s on this edge; 'skerry get %ss' lists all", kind, strings.Join(names, ", "), kind)
}

// list is how kubectl shows several objects.
type list[T any] struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Items      []T    `json:"items"`
}

// show writes objects in the form that was asked for.
func show[T any](cmd *cobra.Command, g *get, items []T, names []string, asTable func(io.Writer) error) error {
	out := cmd.OutOrStdout()
	if g.output == "json" || g.output == "yaml" {
		p := newPrinter(out, g.output, false)
		if len(names) == 1 && len(items) == 1 {
			return p.document(items[0])
		}
		if len(names) > 0 && len(items) == 0 {
			return nil
		}
		if items == nil {
			items = []T{} // JSON wants [], not null
		}
		return p.document(list[T]{"v1", "List", items})
	}
	if len(items) == 0 {
		if len(names) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "none on this edge")
		}
		return nil
	}
	return asTable(out)
}

// table writes rows, the first of which is the head.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = oneLine(cell); row[i] == "" {
				row[i] = "<none>"
			}
		}
		if _, err := io.WriteString(tw, strings.Join(row, "\t")+"\n"); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func since(t, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return age(t, now)
}

func nodeTable(w io.Writer, n *corev1.Node, wide bool, now time.Time) error {
	status, cloud, lasting, why := "Unknown", "unknown", "", ""
	var pressures []string
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		is := c.Status == corev1.ConditionTrue
		switch {
		case c.Type == corev1.NodeReady && is:
			status = "Ready"
		case c.Type == corev1.NodeReady:
			status, why = "NotReady", c.Message
		case c.Type == local.ConditionCloudConnected:
			cloud, lasting = "connected", since(c.LastTransitionTime.Time, now)
			if !is {
				cloud = "offline"
				why = strings.TrimPrefix(why+"; "+c.Message, "; ")
			}
		case is:
			pressures = append(pressures, string(c.Type))
		}
	}
	status = strings.Join(append([]string{status}, pressures...), ",")
	head := []string{"NAME", "STATUS", "CLOUD", "FOR", "VERSION"}
	row := []string{n.Name, status, cloud, lasting, n.Status.NodeInfo.KubeletVersion}
	if wide {
		info := &n.Status.NodeInfo
		ip := ""
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && ip == "" {
				ip = a.Address
			}
		}
		head = append(head, "INTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME", "WHY")
		row = append(row, ip, info.OSImage, info.KernelVersion, info.ContainerRuntimeVersion, why)
	}
	return table(w, [][]string{head, row})
}
