package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func deviceGet(d *devices) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get [DEVICE]",
		Short: "Show Devices, or the values of one as the cluster has them",
		Long: `List the Devices of a namespace, or show one: its conditions, and its values as the
cluster was told last. The device is not asked; 'skerry device read' does that.`,
		Example: `  skerry device get
  skerry device get press-1
  skerry device get press-1 -o json`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			if len(args) == 0 {
				return d.all(cmd)
			}
			dev, err := d.device(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if d.output != "" {
				return newPrinter(cmd.OutOrStdout(), d.output, false).document(dev)
			}
			return d.one(cmd, dev)
		},
	}
	d.addFlags(cmd.Flags(), "json or yaml; a table when empty")
	return cmd
}

func (d *devices) all(cmd *cobra.Command) error {
	all, err := listOf[v1alpha1.Device](cmd.Context(), d, v1alpha1.Devices, "")
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if d.output != "" {
		return newPrinter(out, d.output, false).document(list[v1alpha1.Device]{"v1", "List", all})
	}
	if len(all) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "no Devices in namespace %s; 'skerry device onboard --help' makes some\n", d.namespace)
		return nil
	}
	rows := [][]string{{"NAME", "NODE", "MODEL", "CONNECTED", "SYNCED", "VALUES", "REASON"}}
	for i := range all {
		dev := &all[i]
		connected, why := conditionOf(dev, v1alpha1.ConditionConnected)
		synced, _ := conditionOf(dev, v1alpha1.ConditionSynced)
		if degraded, reason := conditionOf(dev, v1alpha1.ConditionDegraded); degraded == string(metav1.ConditionTrue) {
			why = reason
		}
		rows = append(rows, []string{dev.Name, dev.Spec.NodeName, dev.Spec.ModelRef.Name, connected, synced, dev.Status.Summary, why})
	}
	return table(out, rows)
}

func conditionOf(dev *v1alpha1.Device, kind string) (status, reason string) {
	for _, c := range dev.Status.Conditions {
		if c.Type == kind {
			return string(c.Status), c.Reason
		}
	}
	return "Unknown", ""
}

func (d *devices) one(cmd *cobra.Command, dev *v1alpha1.Device) error {
	out, now := cmd.OutOrStdout(), time.Now()
	rows := [][]string{{"CONDITION", "STATUS", "REASON", "FOR", "MESSAGE"}}
	for _, c := range dev.Status.Conditions {
		rows = append(rows, []string{c.Type, string(c.Status), c.Reason, since(c.LastTransitionTime.Time, now), c.Message})
	}
	if len(rows) > 1 {
		if err := table(out, rows); err != nil {
			return err
		}
		fmt.Fprintln(out)
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "edge %s has told nothing of this Device yet; next: 'skerry status %s'\n", dev.Spec.NodeName, dev.Spec.NodeName)
	}
	if r := dev.Status.RejectedCertificate; r != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "the server's certificate is not trusted, SHA-256 %s; next: compare it with the server's own, then 'skerry device trust %s --fingerprint %s'\n", r.Fingerprint, dev.Name, r.Fingerprint)
	}
	rows = [][]string{{"PROPERTY", "VALUE", "QUALITY", "DESIRED", "AGE", "ERROR"}}
	for i := range dev.Status.Twins {
		t := &dev.Status.Twins[i]
		value, desired, when := "", "", ""
		if t.Value != nil {
			value = t.Value.String()
		}
		if t.Desired != nil {
			desired = t.Desired.String()
		}
		switch {
		case t.SourceTime != nil:
			when = since(t.SourceTime.Time, now)
		case t.ServerTime != nil:
			when = since(t.ServerTime.Time, now)
		}
		rows = append(rows, []string{t.Name, value, t.Quality, desired, when, t.LastError})
	}
	if n := dev.Status.OmittedTwins; n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d values do not fit into the status; 'skerry device read %s PROPERTY' shows them\n", n, dev.Name)
	}
	return table(out, rows)
}
