package main

import (
	"context"
	"fmt"
	"time"
)

// status tells what runs; of a demo that is down it says so.
func (d *demo) status(ctx context.Context) error {
	up := 0
	for _, s := range d.lab.Status() {
		state := "down"
		if s.PID != 0 {
			state = fmt.Sprintf("process %d", s.PID)
			up++
		}
		fmt.Fprintf(d.out, "%-18s %-16s %s\n", s.Daemon, state, s.Log)
	}
	if up == 0 {
		fmt.Fprintln(d.out, "the demo is down; \"make demo\" brings it up")
		return nil
	}
	fmt.Fprintf(d.out, "link profile %s\n", d.edge.Profile())
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, what := range [][]string{{"get", "nodes"}, {"get", "pods", "-A", "-o", "wide"}} {
		out, err := d.lab.Kubectl(ctx, what...)
		if err != nil {
			return err
		}
		fmt.Fprint(d.out, "\n", out)
	}
	return nil
}

// down stops everything; of a demo that is down there is nothing to stop.
func (d *demo) down(ctx context.Context) error {
	err := d.tell.step("pods, edge, cloud proxy, control plane stopped and removed", func() error {
		return bounded(ctx, d.lab.Down)
	})
	if err == nil {
		fmt.Fprintf(d.out, "logs are kept in %s/log\n", d.dir)
	}
	return err
}
