package main

import (
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

type logs struct {
	agent
	namespace, container string
	follow, previous     bool
	timestamps           bool
	tail                 int64
	since                time.Duration
}

func newLogs() *cobra.Command {
	var o logs
	cmd := &cobra.Command{
		Use:   "logs POD",
		Short: "Print the log of a container on this edge, with or without a cloud",
		Long: `Print the log of a container of a pod that runs on this machine.

It asks the agent on this machine, not the cluster, so it works while the cloud can't
be reached. Only root may.`,
		Example: `  # all that the pod's container has logged
  skerry logs web-0

  # the last lines, and then what comes
  skerry logs web-0 --tail 20 -f

  # how the container ended that ran before this one
  skerry logs web-0 -c server --previous`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "the pod's namespace; not needed when one pod of this edge has the name")
	f.StringVarP(&o.container, "container", "c", "", "the container; default the pod's first")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with what is logged from now, until Ctrl-C")
	f.BoolVarP(&o.previous, "previous", "p", false, "of the run of the container before this one")
	f.BoolVar(&o.timestamps, "timestamps", false, "put the time before each line")
	f.Int64Var(&o.tail, "tail", -1, "only this many of the last lines; -1 means all")
	f.DurationVar(&o.since, "since", 0, "only what is younger, such as 90s or 3h")
	o.addFlags(f)
	cmd.ValidArgsFunction = o.completePods(&o.namespace)
	return cmd
}

func (o *logs) run(cmd *cobra.Command, name string) error {
	if o.tail < -1 {
		return badUsage(cmd, "--tail %d is less than -1", o.tail)
	}
	if o.since < 0 {
		return badUsage(cmd, "--since %s is negative", o.since)
	}
	ctx, c := cmd.Context(), o.client()
	pod, in, err := findContainer(cmd, c, o.namespace, name, o.container)
	if err != nil {
		return err
	}
	q := url.Values{}
	for name, set := range map[string]bool{"follow": o.follow, "previous": o.previous, "timestamps": o.timestamps} {
		if set {
			q.Set(name, "true")
		}
	}
	if o.tail >= 0 {
		q.Set("tailLines", strconv.FormatInt(o.tail, 10))
	}
	if o.since > 0 {
		q.Set("sinceSeconds", strconv.FormatInt(max(int64(o.since.Round(time.Second)/time.Second), 1), 10))
	}
	err = c.Logs(ctx, pod.Namespace, pod.Name, in, q, cmd.OutOrStdout())
	if o.follow && ctx.Err() != nil {
		err = nil // Ctrl-C is how one leaves it
	} else {
		err = explainLocal(ctx, err)
	}
	return err
}
