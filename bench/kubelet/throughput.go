package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/skerry-io/skerry/bench/results"
)

const (
	// window is for how long a log is read, if it does not end before, and requests
	// are made through a forwarded port.
	window = 10 * time.Second
	// clients are those of the forwarded port, each with one request at a time.
	clients = 10
	// execs is how many commands begin at once, and execTimeout for how long the last
	// one is waited for.
	execs       = 100
	execTimeout = 3 * time.Minute
)

// measurement is a figure of one link.
type measurement struct {
	metric, unit, system string
	measure              func(ctx context.Context) (float64, error)
}

func (b *bed) measurements() []measurement {
	log := func(pod string) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) { return b.logRate(ctx, pod) }
	}
	forward := func(pod string) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) { return b.forwardRate(ctx, pod) }
	}
	all := func(pod string) func(context.Context) (float64, error) {
		return func(ctx context.Context) (float64, error) { return b.execAll(ctx, pod) }
	}
	return []measurement{
		{"logs_mb_s", "MB/s", ours, log("noise")},
		{"logs_text_mb_s", "MB/s", ours, log("text")},
		{"portforward_rps", "requests/s", ours, forward("web")},
		{"portforward_rps", "requests/s", other, forward("spdy-web")},
		{"exec_100_s", "s", ours, all("bench")},
		{"exec_100_s", "s", other, all("spdy-bench")},
	}
}

// throughput visits every link count times, in another order each time.
func throughput(ctx context.Context, b *bed, s *results.Samples, count int, end time.Time, log *slog.Logger) error {
	links := results.Links()
	order := rand.New(rand.NewPCG(3, 4))
	for n := range count {
		begin := time.Now()
		for _, i := range order.Perm(len(links)) {
			if err := b.visit(ctx, links[i].Name); err != nil {
				return err
			}
			for _, m := range b.measurements() {
				v, err := m.measure(ctx)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				failed := 0.0
				if err != nil {
					failed = 100
					log.Warn("measurement failed", "metric", m.metric, "system", m.system, "link", links[i].Name, "err", err)
				} else {
					s.Add(results.Key{Link: links[i].Name, System: m.system, Metric: m.metric, Unit: m.unit}, v)
				}
				s.Add(results.Key{Link: links[i].Name, System: m.system, Metric: "failed_load_pct", Unit: "%"}, failed)
			}
		}
		took := time.Since(begin)
		log.Info("round of throughput done", "round", n+1, "of", count, "took", took.Round(time.Second))
		if n+1 < count && time.Now().Add(took).After(end) {
			log.Warn("no time for more rounds", "rounds", n+1)
			break
		}
	}
	return nil
}

// logRate reads a log and gives MB a second, from the start of kubectl.
func (b *bed) logRate(ctx context.Context, pod string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	cmd := b.lab.Command(ctx, "logs", pod)
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
	n, readErr := io.Copy(io.Discard, out)
	took := time.Since(begin)
	err = cmd.Wait()
	if ctx.Err() == nil && errors.Join(readErr, err) != nil {
		return 0, fmt.Errorf("kubectl logs %s: %w: %s", pod, errors.Join(readErr, err), bytes.TrimSpace(errs.Bytes()))
	}
	if n == 0 {
		return 0, fmt.Errorf("kubectl logs %s: nothing after %v", pod, took)
	}
	return float64(n) / mega / took.Seconds(), nil
}

// forwardRate makes requests through a forwarded port, a connection for each, and
// gives the answers a second.
func (b *bed) forwardRate(ctx context.Context, pod string) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := b.lab.Command(ctx, "port-forward", "pod/"+pod, ":8080")
	cmd.WaitDelay = time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	defer cancel()
	url, err := forwardedURL(out)
	if err != nil {
		cancel()
		_ = cmd.Wait() // it writes no more
		return 0, fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	go io.Copy(io.Discard, out) //nolint:errcheck // a line for each connection
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: commandTimeout}
	if err := get(ctx, client, url); err != nil {
		return 0, err
	}
	var answers atomic.Int64
	var failures sync.Map
	var wg sync.WaitGroup
	begin := time.Now()
	over, stop := context.WithTimeout(ctx, window)
	defer stop()
	for range clients {
		wg.Go(func() {
			for over.Err() == nil {
				if err := get(over, client, url); err == nil {
					answers.Add(1)
				} else if over.Err() == nil {
					failures.Store(err.Error(), true)
					return
				}
			}
		})
	}
	wg.Wait()
	for text := range failures.Range {
		return 0, fmt.Errorf("port-forward %s: %v", pod, text)
	}
	return float64(answers.Load()) / time.Since(begin).Seconds(), nil
}

// forwardedURL reads where kubectl listens: "Forwarding from 127.0.0.1:PORT -> 8080".
func forwardedURL(out io.Reader) (string, error) {
	line, err := bufio.NewReader(out).ReadString('\n')
	_, rest, _ := strings.Cut(line, "Forwarding from ")
	addr, _, ok := strings.Cut(rest, " -> ")
	if !ok {
		return "", fmt.Errorf("kubectl port-forward printed %q: %w", line, err)
	}
	return "http://" + addr, nil
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (n != 64 || resp.StatusCode != http.StatusOK) {
		err = fmt.Errorf("%s with %d bytes", resp.Status, n)
	}
	return err
}

// execAll runs true many times at once, and gives the seconds until the last one is
// done. They are of one process, as a kubectl each would measure the machine.
func (b *bed) execAll(ctx context.Context, pod string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", b.lab.Kubeconfig())
	if err != nil {
		return 0, err
	}
	url := strings.TrimSuffix(config.Host, "/") + "/api/v1/namespaces/default/pods/" + pod + "/exec"
	query, err := scheme.ParameterCodec.EncodeParameters(&corev1.PodExecOptions{Command: []string{"true"}, Stdout: true, Stderr: true}, corev1.SchemeGroupVersion)
	if err != nil {
		return 0, err
	}
	failed := make(chan error, execs)
	begin := time.Now()
	for range execs {
		go func() {
			e, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, url+"?"+query.Encode())
			if err == nil {
				err = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard})
			}
			failed <- err
		}()
	}
	var errs []error
	for range execs {
		if err := <-failed; err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return 0, fmt.Errorf("%d of %d commands in %s failed: %w", len(errs), execs, pod, errs[0])
	}
	return time.Since(begin).Seconds(), nil
}
