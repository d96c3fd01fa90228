package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/lab"
)

const (
	// patience is for what takes seconds when all is well.
	patience = 3 * time.Minute
	portBase = 19743 // the first port of the lab
	// namespace is where all pods of the bench are.
	namespace = "default"
)

// bed is what the measurements run on: a lab with two machines at the ends of links A,
// one with our agent, one with the real kubelet.
type bed struct {
	o       options
	log     *slog.Logger
	lab     *lab.Lab
	client  *kubernetes.Clientset
	watched *watched
	ours    *node
	kubelet *node     // nil if it is not to be measured
	door    io.Closer // by which the kubelet reaches kube-apiserver
}

// node is a node of the cluster, and the agent that makes it one.
type node struct {
	system  string // in the rows
	edge    *lab.Edge
	podsDir string // below it are UID/volumes
	pid     func() (int, bool)
	start   func(context.Context) error
	stop    func(context.Context) error
}

func newBed(o options, log *slog.Logger) (*bed, error) {
	yaml, err := manifests.Install(lab.Namespace)
	if err != nil {
		return nil, err
	}
	l, err := lab.New(lab.Config{Dir: o.dir, BinDir: o.bin, Name: "bpods", PortBase: portBase, Net: 190, Manifests: yaml, Log: log})
	if err != nil {
		return nil, err
	}
	b := &bed{o: o, log: log, lab: l}
	e, err := l.Edge("bpods1", 1)
	if err != nil {
		return nil, err
	}
	b.ours = &node{
		system: "skerry", edge: e, podsDir: e.Path("state", "pods"), pid: e.AgentPID, start: e.StartAgent, stop: e.StopAgent,
	}
	if o.kubelet == "" {
		return b, nil
	}
	if e, err = l.Edge("bpods2", 2); err != nil {
		return nil, err
	}
	b.kubelet = b.newKubelet(e)
	return b, nil
}

// nodes are those that are measured.
func (b *bed) nodes() []*node {
	if b.kubelet == nil {
		return []*node{b.ours}
	}
	return []*node{b.ours, b.kubelet}
}

// up brings up the lab, without what a killed run has left.
func (b *bed) up(ctx context.Context) error {
	if b.kubelet != nil {
		if _, err := os.Stat(b.o.kubelet); err != nil {
			return fmt.Errorf("the real kubelet: %w", err)
		}
	}
	if err := b.lab.Down(ctx); err != nil {
		return err
	}
	if err := b.lab.Up(ctx); err != nil {
		return err
	}
	if err := b.ours.edge.Up(ctx, "A"); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", b.lab.Kubeconfig())
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 1000, 1000
	if b.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if b.kubelet != nil {
		if err := b.kubelet.edge.StartMachine(ctx, "A"); err != nil {
			return err
		}
		// To kube-apiserver, over its link, as our agent goes to the proxy.
		if b.door, err = b.lab.Door(ctx); err != nil {
			return err
		}
		if err := b.kubelet.start(ctx); err != nil {
			return err
		}
	}
	for _, n := range b.nodes() {
		if err := b.waitReady(ctx, n); err != nil {
			return err
		}
	}
	b.watched, err = b.watch(ctx)
	return err
}

// down stops what would bring pods back, and then all.
func (b *bed) down(ctx context.Context) error {
	var errs []error
	if b.door != nil {
		errs = append(errs, b.door.Close())
	}
	for _, n := range b.nodes() {
		errs = append(errs, n.stop(ctx))
	}
	return errors.Join(append(errs, b.lab.Down(ctx))...)
}
