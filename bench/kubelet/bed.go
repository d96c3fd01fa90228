package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/skerry-io/skerry/bench/kubelet/passthrough"
	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/lab"
)

var (
	//go:embed pods.yaml
	podsYAML string
	//go:embed passthrough.yaml
	passthroughYAML string
)

const (
	// patience is for what takes seconds when all is well.
	patience = 2 * time.Minute
	// logLines is how many lines the pod logs; pods.yaml has the same number.
	logLines = 100
	// podCount is the number of pods that the budget of memory is for.
	podCount = 10
	// measuredPods are those of pods.yaml without the fillers.
	measuredPods = 4
	// portBase is the first port of the lab; the last are the other system's.
	portBase        = 19443
	passthroughPort = portBase + 20
)

// bed is what the measurements run on: a lab with one edge, and another way to it.
type bed struct {
	lab  *lab.Lab
	edge *lab.Edge
	log  *slog.Logger

	cloud  *passthrough.Cloud // of the other way; nil before it is up
	far    *exec.Cmd
	farEnd io.Closer // ends far
}

func newBed(dir, bin string, log *slog.Logger) (*bed, error) {
	yaml, err := manifests.Install(lab.Namespace)
	if err != nil {
		return nil, err
	}
	// Beside the demo and the end-to-end tests, whose numbers are lower.
	l, err := lab.New(lab.Config{Dir: dir, BinDir: bin, Name: "bench", PortBase: portBase, Net: 150, Manifests: yaml, Log: log})
	if err != nil {
		return nil, err
	}
	e, err := l.Edge("bench1", 1)
	return &bed{lab: l, edge: e, log: log}, err
}

// up brings up the lab, without what a killed run has left, the pods with all their
// log lines, and the other way to them.
func (b *bed) up(ctx context.Context) error {
	if err := b.lab.Down(ctx); err != nil {
		return err
	}
	if err := b.lab.Up(ctx); err != nil {
		return err
	}
	if err := b.edge.Up(ctx, "A"); err != nil {
		return err
	}
	if err := b.edge.WaitReady(ctx, patience); err != nil {
		return err
	}
	yaml := strings.ReplaceAll(podsYAML, "BUSYBOX_IMAGE", lab.BusyboxImage)
	// Pods are refused until their namespace has its ServiceAccount.
	err := lab.Until(ctx, patience, "the pods to be accepted", func() error { return b.lab.Apply(ctx, []byte(yaml)) })
	if err != nil {
		return err
	}
	if _, err := b.lab.Kubectl(ctx, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=2m"); err != nil {
		return err
	}
	if err := b.passThrough(ctx); err != nil {
		return err
	}
	return lab.Until(ctx, patience, "the pod's log lines", func() error {
		out, err := b.lab.Kubectl(ctx, "logs", "bench")
		if n := strings.Count(out, "\n"); err == nil && n != logLines {
			err = fmt.Errorf("the log has %d lines", n)
		}
		return err
	})
}

// memory measures the proxy with podCount pods on an edge, over a good link and at
// rest. The agent's is measured by the bench pods.
func (b *bed) memory(ctx context.Context) ([]results.Row, error) {
	if err := b.edge.SetLink(ctx, "profile", "A"); err != nil {
		return nil, err
	}
	if _, err := b.lab.Kubectl(ctx, "scale", "deployment/filler", fmt.Sprintf("--replicas=%d", podCount-measuredPods)); err != nil {
		return nil, err
	}
	if _, err := b.lab.Kubectl(ctx, "rollout", "status", "deployment/filler", "--timeout=2m"); err != nil {
		return nil, err
	}
	out, err := b.lab.Kubectl(ctx, "get", "pods", "-A", "--field-selector", "status.phase=Running,spec.nodeName="+b.edge.Name, "-o", "name")
	if err != nil {
		return nil, err
	}
	if n := len(strings.Fields(out)); n != podCount {
		return nil, fmt.Errorf("%d pods run on the edge, want %d", n, podCount)
	}
	samples := results.NewSamples(name)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for range 15 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		pid, ok := b.lab.PID("cloudproxy")
		if !ok {
			return nil, fmt.Errorf("cloudproxy does not run (log: %s)", b.lab.LogFile("cloudproxy"))
		}
		m, err := readMemory(pid)
		if err != nil {
			return nil, fmt.Errorf("cloudproxy: %w", err)
		}
		samples.Add(results.Key{System: "skerry-cloudproxy", Metric: "vmrss_mb", Unit: "MB"}, m.resident)
		samples.Add(results.Key{System: "skerry-cloudproxy", Metric: "rssanon_mb", Unit: "MB"}, m.anonymous)
	}
	return samples.Rows(), nil
}

// sizes are those of the three programs.
func (b *bed) sizes() ([]results.Row, error) {
	samples := results.NewSamples(name)
	for system, program := range map[string]string{
		"skerry-cloudproxy": "cloudproxy", "skerry-edgeagent": "edgeagent", "skerry-cli": "skerry",
	} {
		st, err := os.Stat(b.lab.Bin(program))
		if err != nil {
			return nil, err
		}
		samples.Add(results.Key{Bench: "binaries", System: system, Metric: "size_mb", Unit: "MB"}, float64(st.Size())/mega)
	}
	return samples.Rows(), nil
}
