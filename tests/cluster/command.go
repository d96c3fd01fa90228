package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/skerry-io/skerry/tests/cluster/controlplane"
)

const usage = `usage: devcluster up|down|status --dir DIR [flags]
       devcluster etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl [args]`

// errNotReady makes status end with a code that scripts can test.
var errNotReady = errors.New("not everything is ready")

// command runs up, down or status.
func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cfg := controlplane.Config{Program: program, Out: os.Stdout, Extra: map[string][]string{}}
	flags := flag.NewFlagSet("devcluster "+args[0], flag.ContinueOnError)
	flags.StringVar(&cfg.Dir, "dir", "", "directory of the control plane")
	purge := false
	switch args[0] {
	case "up":
		upFlags(flags, &cfg)
	case "down":
		flags.BoolVar(&purge, "purge", false, "remove data, certificates and logs too")
	case "status":
	default:
		return errors.New(usage)
	}
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	plane, err := controlplane.New(cfg)
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return plane.Up(ctx)
	case "down":
		return plane.Down(ctx, purge)
	default:
		return printStatus(ctx, plane)
	}
}

func upFlags(flags *flag.FlagSet, cfg *controlplane.Config) {
	flags.IntVar(&cfg.PortBase, "port-base", 0, "kube-apiserver's port; the four after it are used too (default 16443)")
	flags.TextVar(&cfg.Address, "address", netip.Addr{}, "address kube-apiserver listens on (default 127.0.0.1)")
	flags.TextVar(&cfg.ServiceCIDR, "service-cidr", netip.Prefix{}, "range of Service addresses (default 10.96.0.0/16)")
	flags.DurationVar(&cfg.Timeout, "timeout", 0, "how long to wait until it serves (default 3m)")
	flags.Func("name", "further host name or address of kube-apiserver's certificate; repeatable", func(s string) error {
		cfg.Names = append(cfg.Names, s)
		return nil
	})
	flags.Func("extra", "COMPONENT=--flag=value: further flag of a component; repeatable", func(s string) error {
		component, arg, ok := strings.Cut(s, "=")
		if !ok || !strings.HasPrefix(arg, "--") {
			return errors.New("want COMPONENT=--flag=value")
		}
		cfg.Extra[component] = append(cfg.Extra[component], arg)
		return nil
	})
}

func printStatus(ctx context.Context, plane *controlplane.Plane) error {
	states, err := plane.Status(ctx)
	if err != nil {
		return err
	}
	allReady := true
	for _, st := range states {
		state := "ready"
		if !st.Ready {
			state, allReady = st.Reason, false
		}
		fmt.Printf("%-24s %7d  %s\n", st.Component, st.PID, state)
	}
	if !allReady {
		return errNotReady
	}
	return nil
}
