package kubeletapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/skerry-io/skerry/tunnel/compress"
)

// Config is what a Server needs.
type Config struct {
	// Pods finds the pods of this edge. Required.
	Pods Pods
	// Runtime runs commands. Required.
	Runtime Runtime
	// Node answers for the machine; what it leaves out is not served.
	Node NodeConfig
	// Log is where requests are told, at level Debug. Nil discards.
	Log *slog.Logger
	// MaxLogs, MaxCommands and MaxForwards bound the logs, commands and forwarded
	// connections that are open at the same time. Beyond them requests are refused with
	// CodeTooMany. Zero means 512 logs and connections, which is what the tunnel lets be
	// open of all kinds, and 256 commands: each is some 100 KiB here, but as much as
	// 800 KiB in the runtime, nearly all of it the compressor of its SPDY.
	MaxLogs, MaxCommands, MaxForwards int
}

// Server answers the kubelet API's requests.
type Server struct {
	pods     Pods
	runtime  Runtime
	node     NodeConfig
	log      *slog.Logger
	codec    *compress.Codec
	nodes    chan struct{} // holds one item for each request for the machine
	logs     chan struct{} // holds one item for each open log
	execs    chan struct{} // and for each command
	starts   starts
	forwards chan struct{} // and for each forwarded connection
}

// New checks cfg and returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Pods == nil || cfg.Runtime == nil {
		return nil, errors.New("kubelet API: Pods and Runtime are required")
	}
	const defaultStreams, defaultCommands = 512, 256
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxLogs <= 0 {
		cfg.MaxLogs = defaultStreams
	}
	if cfg.MaxCommands <= 0 {
		cfg.MaxCommands = defaultCommands
	}
	if cfg.MaxForwards <= 0 {
		cfg.MaxForwards = defaultStreams
	}
	codec, err := compress.New()
	if err != nil {
		return nil, err
	}
	return &Server{
		pods: cfg.Pods, runtime: cfg.Runtime, node: cfg.Node, log: cfg.Log, codec: codec,
		nodes:    make(chan struct{}, maxNode),
		logs:     make(chan struct{}, cfg.MaxLogs),
		execs:    make(chan struct{}, cfg.MaxCommands),
		starts:   make(starts, maxStarting),
		forwards: make(chan struct{}, cfg.MaxForwards),
	}, nil
}

// ServeExec serves commands, one on each connection of ln, until ctx ends; then
// it cancels those that run and returns nil after the last. It closes ln.
func (s *Server) ServeExec(ctx context.Context, ln net.Listener) error {
	return serve(ctx, ln, s.serveExec)
}

// ServeForward is ServeExec for connections to ports of pods.
func (s *Server) ServeForward(ctx context.Context, ln net.Listener) error {
	return serve(ctx, ln, s.serveForward)
}

func serve(ctx context.Context, ln net.Listener, one func(context.Context, net.Conn)) error {
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
			return fmt.Errorf("accept a stream: %w", err)
		}
		wg.Go(func() { one(ctx, conn) })
	}
}

// ServeCommand serves one command on conn and closes it. It is for connections
// that do not come by a listener of the tunnel.
func (s *Server) ServeCommand(ctx context.Context, conn net.Conn) { s.serveExec(ctx, conn) }

// ServeConnection is ServeCommand for a connection to a port of a pod.
func (s *Server) ServeConnection(ctx context.Context, conn net.Conn) { s.serveForward(ctx, conn) }

// acquire takes one place in sem unless all are taken.
func acquire(sem chan struct{}) bool {
	select {
	case sem <- struct{}{}:
		return true
	default:
		return false
	}
}
