package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/skerry-io/skerry/bench/results"
)

// commandTimeout bounds one kubectl; the slowest link takes seconds.
const commandTimeout = time.Minute

// execMetric is what the budget is for.
const execMetric = "exec_true_ms"

// The systems.
const (
	ours  = "skerry"
	other = "spdy-passthrough"
)

// probe is a command that is measured, and what it must print.
type probe struct {
	metric string
	system string // empty is ours
	args   []string
	lines  int  // that it must print; -1 is any number
	first  bool // measured until the first line, not until the end
}

// probes are what a visit measures. The first one crosses no link.
func probes() []probe {
	return []probe{
		{metric: "floor_ms", args: []string{"get", "--raw", "/livez"}, lines: -1},
		{metric: execMetric, args: []string{"exec", "bench", "--", "true"}},
		{metric: execMetric, system: other, args: []string{"exec", "spdy-bench", "--", "true"}},
		{metric: "log_first_line_ms", args: []string{"logs", "bench", "--tail=1"}, lines: 1, first: true},
		{metric: "logs_100_lines_ms", args: []string{"logs", "bench"}, lines: logLines},
	}
}

// rounds visits every link once a round, so that what else the machine does
// hits all links alike. The first round warms up and does not count.
func rounds(ctx context.Context, b *bed, s *results.Samples, count int, end time.Time, log *slog.Logger) error {
	order := rand.New(rand.NewPCG(1, 2)) // another order each round, the same in each run
	for n := range count + 1 {
		begin := time.Now()
		into := s
		if n == 0 {
			into = results.NewSamples(name)
		}
		if err := round(ctx, b, into, order.Perm(len(results.Links())), log); err != nil {
			return err
		}
		took := time.Since(begin)
		log.Info("round done", "round", n, "of", count, "took", took.Round(100*time.Millisecond))
		if n > 0 && n < count && time.Now().Add(took).After(end) {
			log.Warn("no time for more rounds", "rounds", n)
			break
		}
	}
	return nil
}

// round visits the links in an order.
func round(ctx context.Context, b *bed, s *results.Samples, order []int, log *slog.Logger) error {
	links := results.Links()
	exec := map[string][]float64{ours: make([]float64, len(links)), other: make([]float64, len(links))} // 0: failed
	for _, i := range order {
		if err := b.visit(ctx, links[i].Name); err != nil {
			return err
		}
		for _, p := range probes() {
			took, err := b.time(ctx, p)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				log.Warn("command failed", "metric", p.metric, "system", p.system, "link", links[i].Name, "err", err)
			}
			if p.metric == "floor_ms" {
				if err != nil {
					return fmt.Errorf("the cluster does not answer: %w", err)
				}
				s.Add(results.Key{System: "kubectl", Metric: p.metric, Unit: "ms"}, milliseconds(took))
				continue
			}
			key := results.Key{Link: links[i].Name, System: cmp.Or(p.system, ours), Unit: "%", Metric: "failed_pct"}
			if err != nil {
				s.Add(key, 100)
				continue
			}
			s.Add(key, 0)
			key.Metric, key.Unit = p.metric, "ms"
			s.Add(key, milliseconds(took))
			if p.metric == execMetric {
				exec[key.System][i] = milliseconds(took)
			}
		}
	}
	for system, took := range exec {
		for i, l := range links {
			// Over link A itself a round trip is shorter than what a process start varies by.
			if i > 0 && took[i] > 0 && took[0] > 0 {
				s.Add(results.Key{Link: l.Name, System: system, Metric: "exec_above_clean_rtt", Unit: "RTT"}, (took[i]-took[0])/milliseconds(l.RTT))
			}
		}
	}
	return nil
}

// visit gives the edge a link. What both ends believe of it is that of the one
// before, so a command crosses it for each system that is not measured.
func (b *bed) visit(ctx context.Context, link string) error {
	if err := b.edge.SetLink(ctx, "profile", link); err != nil {
		return err
	}
	for _, p := range probes() {
		if p.metric != execMetric {
			continue
		}
		if _, err := b.time(ctx, p); err != nil && ctx.Err() == nil {
			b.log.Warn("unmeasured command failed", "system", p.system, "link", link, "err", err)
		}
	}
	return ctx.Err()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// time runs a probe and returns how long it took.
func (b *bed) time(ctx context.Context, p probe) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := b.lab.Command(ctx, p.args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	r := bufio.NewReader(out)
	line, readErr := r.ReadString('\n')
	first := time.Since(begin)
	rest, restErr := io.ReadAll(r)
	err = cmd.Wait()
	took := time.Since(begin)
	if errors.Is(readErr, io.EOF) {
		readErr = nil
	}
	if err := errors.Join(readErr, restErr, err); err != nil {
		return 0, fmt.Errorf("kubectl %s: %w: %s", strings.Join(p.args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	if n := strings.Count(line, "\n") + bytes.Count(rest, []byte("\n")); p.lines >= 0 && n != p.lines {
		return 0, fmt.Errorf("kubectl %s: %d lines, want %d", strings.Join(p.args, " "), n, p.lines)
	}
	if p.first {
		return first, nil
	}
	return took, nil
}
