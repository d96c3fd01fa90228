// Skerry is the command line of the platform: it makes and lists join tokens,
// joins machines, and takes their access away.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From the first signal on, the next one has its default effect.
	context.AfterFunc(ctx, stop)
	io := streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	root := newRoot(io)
	asPlugin(root, os.Args[0])
	return rootCode(ctx, root, io, os.Args[1:])
}

// asPlugin has the command call itself what it was called: kubectl runs its plugins
// by the name of their file.
func asPlugin(root *cobra.Command, program string) {
	if filepath.Base(program) == "kubectl-skerry" {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl skerry"}
	}
}

// exitCode runs one command line; tests call it.
func exitCode(ctx context.Context, io streams, args []string) int {
	return rootCode(ctx, newRoot(io), io, args)
}

func rootCode(ctx context.Context, root *cobra.Command, io streams, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		fmt.Fprintln(io.err, exit.Error())
		return exit.code
	}
	fmt.Fprintln(io.err, "Error: "+err.Error())
	if usage, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintln(io.err, "See '"+usage.command+" --help'.")
		return exitUsage
	}
	return exitFailed
}

// interruptible is f, given up when ctx ends: a read from a terminal takes no
// notice of Ctrl-C. f may go on behind it, and ends with the program.
func interruptible[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, errInterrupted
	}
}

var errInterrupted = errors.New("interrupted")
