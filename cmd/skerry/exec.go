package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/skerry-io/skerry/edgeagent/local"
)

// exitError is a command that ended with a code of its own, which becomes ours.
type exitError struct{ code int }

func (e *exitError) Error() string {
	return fmt.Sprintf("command terminated with exit code %d", e.code)
}

type execution struct {
	agent
	namespace, container string
	stdin, tty           bool
}

func newExec() *cobra.Command {
	var o execution
	cmd := &cobra.Command{
		Use:   "exec POD [-it] -- COMMAND [ARGUMENT...]",
		Short: "Run a command in a container on this edge, with or without a cloud",
		Long: `Run a command in a container of a pod that runs on this machine. Its exit code
becomes that of this command.

It asks the agent on this machine, not the cluster, so it works while the cloud can't
be reached. Only root may.`,
		Example: `  # a command
  skerry exec web-0 -- cat /etc/hostname

  # a shell
  skerry exec -it web-0 -- sh

  # input from a file, another container than the first
  skerry exec -i db-0 -c tools -- psql < fix.sql`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0 || dash == 0:
				return badUsage(cmd, "which pod? It comes before --")
			case dash < 0 || len(args) == dash:
				return badUsage(cmd, "which command? It comes after --, as in: skerry exec %s -- ls", args[0])
			case dash > 1:
				return badUsage(cmd, "one pod, then --, then the command; there is %q before --", strings.Join(args[:dash], " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1:]) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "the pod's namespace; not needed when one pod of this edge has the name")
	f.StringVarP(&o.container, "container", "c", "", "the container; default the pod's first")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "pass standard input on")
	f.BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal")
	o.addFlags(f)
	cmd.ValidArgsFunction = o.completePods(&o.namespace)
	return cmd
}

func (o *execution) run(cmd *cobra.Command, name string, command []string) error {
	ctx, c := cmd.Context(), o.client()
	pod, in, err := findContainer(cmd, c, o.namespace, name, o.container)
	if err != nil {
		return err
	}
	do := local.Command{
		Namespace: pod.Namespace, Pod: pod.Name, Container: in, Command: command,
		Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr(),
	}
	if o.stdin {
		do.In = cmd.InOrStdin()
	}
	if o.tty {
		restore, err := o.terminal(ctx, cmd, &do)
		if err != nil {
			return err
		}
		defer restore()
	}
	code, err := c.Exec(ctx, do)
	if err != nil {
		return explainLocal(ctx, err)
	}
	if code != 0 {
		return &exitError{code}
	}
	return nil
}

// terminal gives the command a terminal, and with -i makes this one raw until
// restore, so that Ctrl-C and all else is the command's.
func (o *execution) terminal(ctx context.Context, cmd *cobra.Command, do *local.Command) (restore func(), err error) {
	restore = func() {}
	file, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		if o.stdin {
			fmt.Fprintln(cmd.ErrOrStderr(), "Warning: no terminal for the command: standard input is none")
			return restore, nil
		}
		do.TTY = true
		return restore, nil
	}
	do.TTY = true
	fd := int(file.Fd())
	ctx, stop := context.WithCancel(ctx)
	do.Sizes = terminalSizes(ctx, fd)
	if !o.stdin {
		return stop, nil
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		stop()
		return nil, fmt.Errorf("make the terminal raw: %w", err)
	}
	return func() {
		stop()
		_ = term.Restore(fd, before) // what else could be done with it
	}, nil
}
