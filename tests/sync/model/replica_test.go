package model

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/cloudproxy/desired"
	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/edgeagent/uplink"
	"github.com/skerry-io/skerry/tunnel/wire"
)

func logger(who string) *slog.Logger {
	if os.Getenv("SKERRY_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", who)
}

// way is how an edge comes to the replica that has it: over pipes, or through the
// tunnel over a network.
type way interface {
	// plug gives a process of the edge its streams, and what it must run for them.
	plug() (d uplink.Dialer, run func(context.Context) error)
	// join takes in a replica that starts, and gives what it must run.
	join(r *replica) (s report.Sessions, run func(context.Context) error)
	// leave is called when the process of a replica has ended.
	leave(r *replica)
	// set says who has the edge; nil is nobody. Who had it knows that.
	set(r *replica)
	// settle mends all: there will be no faults.
	settle()
	// cut takes the line away, cutAfter when so much more was sent; mend mends all.
	cut()
	cutAfter(bytes int)
	mend()
	// reset breaks something that may mend by itself.
	reset()
	// strand breaks the line so that the cloud does not notice.
	strand()
}

// replica is one process of the cloud. All that it knows goes when it does.
type replica struct {
	api       *apiserver
	publisher *desired.Publisher
	receiver  *report.Receiver
	nodes     *report.Nodes
	way       way
	ctx       context.Context
	stop      context.CancelFunc
	wg        sync.WaitGroup

	mu     sync.Mutex // guards the following fields
	halted bool
}

func newReplica(t *testing.T, name string, s *objects, l way, rng *rand.Rand) *replica {
	t.Helper()
	r := &replica{api: newAPIServer(s, rng), way: l}
	runs, err := r.build(logger(name))
	if err != nil {
		t.Fatal(err)
	}
	r.ctx, r.stop = context.WithCancel(t.Context())
	for _, run := range runs {
		r.wg.Go(func() {
			if err := run(r.ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("replica's Run: %v", err)
			}
		})
	}
	return r
}

// build makes the parts as package cloudproxy does, and gives what is to be run.
func (r *replica) build(log *slog.Logger) ([]func(context.Context) error, error) {
	client, err := r.api.client()
	if err != nil {
		return nil, err
	}
	if r.publisher, err = desired.New(desired.Config{Client: client, Log: log}); err != nil {
		return nil, err
	}
	sessions, run := r.way.join(r)
	r.nodes, err = report.NewNodes(report.NodesConfig{
		Client: client, Sessions: sessions, Ask: func(node string) { r.receiver.AskNode(node) }, Log: log,
	})
	if err != nil {
		return nil, err
	}
	r.receiver, err = report.New(report.Config{Client: client, NodeWanted: r.nodes.Wanted, Log: log, Pod: func(namespace, name string) *corev1.Pod {
		pod, err := r.publisher.Pod(namespace, name)
		if err != nil {
			return nil
		}
		return pod
	}})
	if err != nil {
		return nil, err
	}
	tolerations, err := report.NewTolerations(report.TolerationsConfig{Client: client, Pods: r.publisher, Nodes: r.nodes, Log: log})
	if err != nil {
		return nil, err
	}
	conditions, err := desired.NewConditions(desired.Config{Client: client, Log: log}, r.publisher)
	if err != nil {
		return nil, err
	}
	return []func(context.Context) error{run, r.publisher.Run, r.nodes.Run, tolerations.Run, conditions.Run}, nil
}

// serve takes a stream that an edge opened.
func (r *replica) serve(kind wire.Kind, conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.halted {
		return false
	}
	r.wg.Go(func() {
		defer conn.Close()
		_ = r.work(r.ctx, kind, conn)
	})
	return true
}

// work works on a stream, as package cloudproxy does.
func (r *replica) work(ctx context.Context, kind wire.Kind, conn net.Conn) error {
	if err := r.nodes.Check(ctx, node); err != nil {
		return err
	}
	if kind == wire.KindDesired {
		return r.publisher.Serve(ctx, node, conn)
	}
	return r.receiver.Serve(ctx, node, conn)
}

// halt ends the process, with whatever it was about to do.
func (r *replica) halt() {
	r.mu.Lock()
	r.halted = true
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
	r.way.leave(r)
}
