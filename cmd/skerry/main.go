// Skerry is the command line of the platform: it makes and lists join tokens,
// joins machines, and takes their access away.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return exitCode(ctx, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args[1:])
}

// exitCode runs one command line; tests call it.
func exitCode(ctx context.Context, io streams, args []string) int {
	root := newRoot(io)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(io.err, "Error: "+err.Error())
	if usage, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintln(io.err, "See '"+usage.command+" --help'.")
		return exitUsage
	}
	return exitFailed
}
