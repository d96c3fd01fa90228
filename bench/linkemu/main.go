// Linkemu joins two TUN devices by an emulated bad link, so that the kernel's
// TCP and a QUIC stack in user space cross the very same delay, loss, rate
// limit and outage. It stands in for the netem queue discipline where the
// kernel has none, and does what netem cannot: it blocks UDP alone and rebinds
// UDP source ports as a NAT that restarted does.
//
//	linkemu -a NAME[@NETNS] -b NAME[@NETNS] -ctl SOCKET [-profile B] [-set "k=v ..."] [-seed N]
//	linkemu ctl SOCKET WORD...
//
// End b is the edge, behind the NAT; end a is the cloud. A device that is there
// already (made by "ip tuntap add") is used as it is and outlives the process,
// so a link can be killed and started again while the addresses stay. README.md
// lists the control words and the profiles.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the flags of the emulator.
type options struct {
	a, b, ctl string
	settings  settings
	seed      uint64
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "ctl" {
		if err := control(ctx, args[1:], stdout); err != nil {
			fmt.Fprintln(stderr, "linkemu ctl:", err)
			return 1
		}
		return 0
	}
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = emulate(ctx, o, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "linkemu:", err)
		return 1
	}
	return 0
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var prof, set string
	fs := flag.NewFlagSet("linkemu", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.a, "a", "", "TUN device at the cloud end, NAME or NAME@NETNS")
	fs.StringVar(&o.b, "b", "", "TUN device at the edge end, NAME or NAME@NETNS")
	fs.StringVar(&o.ctl, "ctl", "", "path of the control socket")
	fs.StringVar(&prof, "profile", "none", "profile to start with: "+profileNames())
	fs.StringVar(&set, "set", "", "settings on top of the profile, as of the word set")
	fs.Uint64Var(&o.seed, "seed", rand.Uint64(), "seed of all chance, for runs that can be repeated")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	for _, name := range []string{"a", "b", "ctl"} {
		if fs.Lookup(name).Value.String() == "" {
			return o, fmt.Errorf("flag -%s is required", name)
		}
	}
	s, err := lookupProfile(prof)
	if err != nil {
		return o, err
	}
	o.settings, err = s.with(splitWords(set))
	return o, err
}

// emulate runs the link until ctx ends or somebody sends quit.
func emulate(ctx context.Context, o options, stdout io.Writer) error {
	a, err := openTUN(o.a)
	if err != nil {
		return err
	}
	defer a.close()
	b, err := openTUN(o.b)
	if err != nil {
		return err
	}
	defer b.close()

	l := newLink(a, b, o.settings, o.seed)
	srv, err := listenControl(ctx, o.ctl, l)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "linkemu: %s <-> %s, control %s, seed %d, %s\n", o.a, o.b, o.ctl, o.seed, time.Now().Format(time.RFC3339))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errc := make(chan error, 2)
	go func() { errc <- l.run(ctx) }()
	go func() { errc <- srv.run(ctx) }()
	err = <-errc
	cancel()
	return errors.Join(err, <-errc)
}
