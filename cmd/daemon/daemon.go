// Package daemon is what the two long-running programs share: how they log, how
// they stop, and how they tell a person what went wrong.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/klog/v2"
)

// NewLogger writes to w in the given format, "text" or "json", from the given
// level on: "debug", "info", "warn" or "error". Kubernetes' own libraries, which
// log through klog, come out of the same logger.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	var h slog.Handler
	switch strings.ToLower(format) {
	case "", "text":
		h = slog.NewTextHandler(w, opts)
	case "json":
		h = slog.NewJSONHandler(w, opts)
	default:
		return nil, fmt.Errorf("log format %q: use text or json", format)
	}
	log := slog.New(h)
	klog.SetSlogLogger(slog.New(libraryHandler{h}).With("component", "kubernetes"))
	return log, nil
}

// Run calls run with a context that ends at the first SIGINT or SIGTERM; a
// second signal ends the process at once. It returns the exit code.
func Run(run func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From the first signal on, the next one has its default effect.
	context.AfterFunc(ctx, stop)
	err := run(ctx)
	if err == nil || (ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		return 0
	}
	fmt.Fprintf(os.Stderr, "Error: %v\n", err)
	return 1
}
