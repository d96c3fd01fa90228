package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/image"
	"github.com/skerry-io/skerry/tests/lab"
)

const (
	// patience is for what takes seconds when all is well.
	patience = 2 * time.Minute
	// cleanupTime bounds the end of the lab.
	cleanupTime = 3 * time.Minute
	// registryAddress is in the edge's namespace: images are on its site, for a test of
	// the node is none of the link's rate.
	registryAddress = "127.0.0.1:5000"
)

// bed is what the tests run on: a lab with one edge, and a registry beside it.
type bed struct {
	options
	lab    *lab.Lab
	edge   *lab.Edge
	images string // their layout
	log    *slog.Logger
}

func newBed(ctx context.Context, o options, log *slog.Logger) (*bed, error) {
	dir, err := buildImages(ctx, o.bin, log)
	if err != nil {
		return nil, err
	}
	yaml, err := manifests.Install(lab.Namespace)
	if err != nil {
		return nil, err
	}
	// Beside the demo, the end-to-end tests and the benches, which have other numbers.
	l, err := lab.New(lab.Config{
		Dir: o.dir, BinDir: o.bin, Name: fmt.Sprintf("cf%d", o.slot), PortBase: 16643 + 100*o.slot, Net: 20 + 2*o.slot,
		VerifyKubelets: true, Manifests: yaml, Registry: registryAddress, Log: log,
	})
	if err != nil {
		return nil, err
	}
	e, err := l.Edge("edge1", 1)
	return &bed{options: o, lab: l, edge: e, images: dir, log: log}, err
}

// measure brings the lab up, runs the tests and takes the lab down; logs and reports
// stay.
func (b *bed) measure(ctx context.Context, slow []string) (_ []spec, err error) {
	defer func() {
		if b.keep && ctx.Err() == nil {
			b.log.Info("kept until interrupted", "kubeconfig", b.lab.Kubeconfig())
			<-ctx.Done()
		}
		downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		err = errors.Join(err, b.lab.Down(downCtx))
	}()
	stop, err := b.up(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	b.log.Info("lab is up", "link", b.link)
	return b.suite(ctx, slow)
}

// up brings up the lab without what a killed run has left, and the registry, which
// stop ends.
func (b *bed) up(ctx context.Context) (stop func(), err error) {
	if err := b.lab.Down(ctx); err != nil {
		return nil, err
	}
	for _, dir := range []string{"log", reportDir} {
		if err := os.RemoveAll(b.lab.Path(dir)); err != nil {
			return nil, err
		}
	}
	if err := b.lab.Up(ctx); err != nil {
		return nil, err
	}
	if err := b.edge.StartNetwork(ctx, b.link); err != nil {
		return nil, err
	}
	stop, err = b.serveImages()
	if err != nil {
		return nil, err
	}
	if err := b.edge.Up(ctx, b.link); err != nil {
		stop()
		return nil, err
	}
	if err := b.edge.WaitReady(ctx, patience); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

func (b *bed) serveImages() (stop func(), err error) {
	handler, err := image.NewRegistry(b.images)
	if err != nil {
		return nil, err
	}
	var l net.Listener
	if l, err = b.edge.Listen(registryAddress); err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.log.Error("registry ended", "error", err)
		}
	}()
	return func() {
		_ = server.Close()
		<-done
	}, nil
}
