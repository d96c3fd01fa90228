package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a command line that can't be run; it exits with 2.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func badUsage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Errorf(format, args...)}
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "skerry",
		Short: "Join machines to a Kubernetes cluster over QUIC, and manage them",
		Long: `Skerry runs Kubernetes workloads on machines behind NAT and bad links.

On a machine with access to the cluster:
  skerry init                put the cloud proxy into the cluster, or upgrade it
  skerry token create        print the command that joins a machine
  skerry token list          what tokens are out there
  skerry status [EDGE]       which edges are connected, and how well
  skerry device ...          find, onboard, read and write field devices
  skerry revoke NODE         take a machine's access away
  skerry ca status|rotate    the CA, and a new one in its place
  skerry uninstall           take the cloud proxy out again
  skerry doctor              what is wrong, and what to do about it
  skerry support-bundle      what others need to help, without secrets

On the machine itself:
  skerry join SERVER ...     join it
  skerry reset               undo that
  skerry doctor              what is wrong, and what to do about it
  skerry get pods|nodes      what runs here, with or without a cloud
  skerry logs POD            a container's log
  skerry exec POD -- COMMAND a command in a container`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	// The flag has two spellings out there: kubectl's, and that of other installers.
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "kube-config" {
			name = "kubeconfig"
		}
		return pflag.NormalizedName(name)
	})
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd.CommandPath(), err} })
	root.AddCommand(newInit(), newUninstall(), newToken(), newRevoke(), newCA(), newStatus(), newDevice(), newJoin(), newReset(), newDoctor(), newSupportBundle(), newGet(), newLogs(), newExec(), newVersion())
	return root
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil:
			return nil
		case !cmd.HasSubCommands():
			err = fmt.Errorf("%w; it is used so: %s", err, cmd.UseLine())
		default:
			cmd.SuggestionsMinimumDistance = 2 // as cobra has it by itself
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				err = fmt.Errorf("%w; is it %s?", err, strings.Join(like, " or "))
			}
		}
		return &usageError{cmd.CommandPath(), err}
	}
}

// group is a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}
