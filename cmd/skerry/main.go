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
	// From the first signal on, the next one has its default effect.
	context.AfterFunc(ctx, stop)
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
