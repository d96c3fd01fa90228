package kubeletapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
)

// Config is what a Server needs.
type Config struct {
	// Pods finds the pods of this edge. Required.
	Pods Pods
	// Runtime runs commands. Required.
	Runtime Runtime
	// Log is where requests are told, at level Debug. Nil discards.
	Log *slog.Logger
	// MaxLogs and MaxCommands bound what is open at the same time; zero means 64
	// each. Beyond them requests are refused with CodeTooMany.
	MaxLogs, MaxCommands int
}

// Server answers the kubelet API's requests.
type Server struct {
	pods    Pods
	runtime Runtime
	log     *slog.Logger
	logs    chan struct{} // holds one item for each open log
	execs   chan struct{} // and for each command
}

// New checks cfg and returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Pods == nil || cfg.Runtime == nil {
		return nil, errors.New("kubelet API: Pods and Runtime are required")
	}
	const defaultStreams = 64
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxLogs <= 0 {
		cfg.MaxLogs = defaultStreams
	}
	if cfg.MaxCommands <= 0 {
		cfg.MaxCommands = defaultStreams
	}
	return &Server{
		pods: cfg.Pods, runtime: cfg.Runtime, log: cfg.Log,
		logs: make(chan struct{}, cfg.MaxLogs), execs: make(chan struct{}, cfg.MaxCommands),
	}, nil
}

// ServeExec serves commands, one on each connection of ln, until ctx ends; then
// it cancels those that run and returns nil after the last. It closes ln.
func (s *Server) ServeExec(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil // the listener was closed by us
		}
		if err != nil {
			return fmt.Errorf("accept a command: %w", err)
		}
		wg.Go(func() { s.serveExec(ctx, conn) })
	}
}

// acquire takes one place in sem unless all are taken.
func acquire(sem chan struct{}) bool {
	select {
	case sem <- struct{}{}:
		return true
	default:
		return false
	}
}
