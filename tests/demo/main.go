// Demo brings up all of Skerry on one machine: a real control plane, the cloud
// proxy, and an edge behind an emulated bad link, with a pod on it whose logs
// and shell it then shows. Everything runs on when it ends.
//
//	demo up [--link B] [--dir .demo]     again: brings up what is missing; --link switches the link
//	demo status [--dir .demo]
//	demo down [--dir .demo]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/lab"
)

const usage = "usage: demo up|status|down [--dir .demo] [--bin DIR/bin] [--link none|A|B|C|D|E]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && interrupted {
		err = errors.New("interrupted; \"make demo-down\" takes away what was started")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %s\n", oneLine(err))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out *os.File) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	var dir, bin, link string
	fs := flag.NewFlagSet("demo "+args[0], flag.ContinueOnError)
	fs.StringVar(&dir, "dir", ".demo", "directory that everything lives under")
	fs.StringVar(&bin, "bin", "", "directory of the programs (default DIR/bin)")
	if args[0] == "up" {
		fs.StringVar(&link, "link", "", "link profile none, A, B, C, D or E (default B on a new demo, else as it is)")
	}
	fs.SetOutput(io.Discard) // the error says it all
	if err := fs.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(out, usage)
		return nil
	} else if err != nil {
		return fmt.Errorf("%w; %s", err, usage)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; %s", fs.Arg(0), usage)
	}
	if bin == "" {
		bin = filepath.Join(dir, "bin")
	}
	d, err := newDemo(dir, bin, out)
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		return d.up(ctx, link)
	case "status":
		return d.status(ctx)
	case "down":
		return d.down(ctx)
	}
	return errors.New(usage)
}

// demo is a lab with one edge, and a place to tell about it.
type demo struct {
	dir  string // as the user wrote it
	lab  *lab.Lab
	edge *lab.Edge
	out  io.Writer
	tell *progress
}

func newDemo(dir, bin string, out *os.File) (*demo, error) {
	yaml, err := manifests.Install(lab.Namespace)
	if err != nil {
		return nil, err
	}
	l, err := lab.New(lab.Config{Dir: dir, BinDir: bin, Name: "demo", PortBase: 16443, Net: 10, Manifests: yaml})
	if err != nil {
		return nil, err
	}
	e, err := l.Edge("edge1", 1)
	if err != nil {
		return nil, err
	}
	return &demo{dir: dir, lab: l, edge: e, out: out, tell: newProgress(out)}, nil
}

// oneLine is what a user gets to read: joined errors in one line.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}
