package main

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/manifests"
	"github.com/skerry-io/skerry/tests/lab"
)

//go:embed pods.yaml
var podsYAML string

const (
	// patience is for what takes seconds when all is well.
	patience = 2 * time.Minute
	// logLines is how many lines the pod logs; pods.yaml has the same number.
	logLines = 100
	// podCount is the number of pods that the budget of memory is for.
	podCount = 10
)

// bed is what the measurements run on: a lab with one edge.
type bed struct {
	lab  *lab.Lab
	edge *lab.Edge
}

func newBed(dir, bin string, log *slog.Logger) (*bed, error) {
	yaml, err := manifests.Install(lab.Namespace)
	if err != nil {
		return nil, err
	}
	// Beside the demo and the end-to-end tests, whose numbers are lower.
	l, err := lab.New(lab.Config{Dir: dir, BinDir: bin, Name: "bench", PortBase: 19443, Net: 150, Manifests: yaml, Log: log})
	if err != nil {
		return nil, err
	}
	e, err := l.Edge("bench1", 1)
	return &bed{lab: l, edge: e}, err
}

// up brings up the lab, without what a killed run has left, and the pod with
// all its log lines.
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
	if _, err := b.lab.Kubectl(ctx, "wait", "--for=condition=Ready", "pod/bench", "--timeout=2m"); err != nil {
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

// memory measures the daemons with podCount pods, over a good link and at rest.
func (b *bed) memory(ctx context.Context) ([]results.Row, error) {
	if err := b.edge.SetLink(ctx, "profile", "A"); err != nil {
		return nil, err
	}
	if _, err := b.lab.Kubectl(ctx, "scale", "deployment/filler", fmt.Sprintf("--replicas=%d", podCount-1)); err != nil {
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
	samples.Add(results.Key{Bench: "pods", System: "skerry", Metric: "pods", Unit: "pods"}, podCount)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for range 15 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		for _, d := range []struct{ bench, system, daemon string }{
			{"pods", "skerry", "edgeagent-" + b.edge.Name},
			{name, "skerry-cloudproxy", "cloudproxy"},
		} {
			pid, ok := b.lab.PID(d.daemon)
			if !ok {
				return nil, fmt.Errorf("%s does not run (log: %s)", d.daemon, b.lab.LogFile(d.daemon))
			}
			m, err := readMemory(pid)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.daemon, err)
			}
			samples.Add(results.Key{Bench: d.bench, System: d.system, Metric: "vmrss_mb", Unit: "MB"}, m.resident)
			samples.Add(results.Key{Bench: d.bench, System: d.system, Metric: "rssanon_mb", Unit: "MB"}, m.anonymous)
		}
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
