package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry-io/skerry/tests/lab"
)

//go:embed hello.yaml
var helloYAML string

// stepTimeout bounds each step, so that a demo that can't work says so.
const stepTimeout = 3 * time.Minute

// up brings up what is missing and shows that it works.
func (d *demo) up(ctx context.Context, link string) error {
	if err := d.lab.Check(); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "Skerry demo in %s\n", d.dir)
	_, err := os.Stat(d.edge.ConfigFile())
	joined := err == nil
	steps := []struct {
		what string
		do   func(ctx context.Context) error
	}{
		{"control plane: etcd, kube-apiserver, controllers, scheduler", d.lab.StartCluster},
		{"cloud proxy, with its own ServiceAccount", d.lab.StartProxy},
		{"edge machine: network namespace, link, containerd", func(ctx context.Context) error { return d.edge.StartMachine(ctx, link) }},
		{"skerry token create, skerry join", func(ctx context.Context) error {
			if joined {
				return nil
			}
			token, err := d.lab.CreateToken(ctx)
			if err != nil {
				return err
			}
			return d.edge.Join(ctx, token)
		}},
		{"edge agent, until its Node is Ready", func(ctx context.Context) error {
			if err := d.edge.StartAgent(ctx); err != nil {
				return err
			}
			return d.edge.WaitReady(ctx, stepTimeout)
		}},
		{"Deployment hello, until its pod runs on the edge", d.deploy},
	}
	for _, s := range steps {
		if err := d.tell.step(s.what, func() error { return bounded(ctx, s.do) }); err != nil {
			return err
		}
	}
	if err := d.show(ctx); err != nil {
		return err
	}
	d.tell.done("Up")
	d.next()
	return nil
}

func bounded(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return do(ctx)
}

func (d *demo) deploy(ctx context.Context) error {
	if err := d.lab.Apply(ctx, []byte(strings.ReplaceAll(helloYAML, "BUSYBOX_IMAGE", lab.BusyboxImage))); err != nil {
		return err
	}
	_, err := d.lab.Kubectl(ctx, "rollout", "status", "deployment/hello", "--timeout=2m")
	if err == nil {
		return nil
	}
	why, _ := d.lab.Kubectl(ctx, "get", "pods", "-l", "app=hello", "-o",
		`jsonpath={range .items[*]}{.status.phase} {.status.containerStatuses[*].state.waiting}{end}`)
	return fmt.Errorf("%w: %s (log: %s)", err, why, d.edge.AgentLog())
}

// show runs the two commands that everybody tries first.
func (d *demo) show(ctx context.Context) error {
	// The pod prints a line a second; right after its start there may be none.
	err := lab.Until(ctx, time.Minute, "a log line", func() error {
		out, err := d.lab.Kubectl(ctx, "logs", "deployment/hello", "--tail=1")
		if err == nil && out == "" {
			return errors.New("the log is empty")
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"get", "nodes", "-o", "wide"},
		{"logs", "deployment/hello", "--tail=3"},
		{"exec", "deployment/hello", "--", "sh", "-c", "echo shell on $(hostname), up since $(cat /proc/uptime)"},
	} {
		begin := time.Now()
		out, err := d.lab.Kubectl(ctx, args...)
		if err != nil {
			return fmt.Errorf("%w (log: %s)", err, d.edge.AgentLog())
		}
		fmt.Fprintf(d.out, "\n$ kubectl %s     # %d ms, link %s\n%s", quote(args), time.Since(begin).Milliseconds(), d.edge.Profile(), out)
	}
	fmt.Fprintln(d.out)
	return nil
}

// next tells what to try; each line can be pasted into a shell.
func (d *demo) next() {
	socket := d.edge.LinkSocket()
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, socket); err == nil {
			socket = rel
		}
	}
	fmt.Fprintf(d.out, `
Try next:
  export KUBECONFIG=%[1]s/kubeconfig; alias kubectl=%[1]s/bin/kubectl
  kubectl get pods -o wide
  kubectl logs -f deployment/hello
  kubectl exec -it deployment/hello -- sh
  kubectl port-forward deployment/hello 8080   # and in another shell: curl 127.0.0.1:8080
  %[1]s/bin/linkemu ctl %[2]s profile D        # 300 ms, 5 %% loss, 5 Mbit/s; then the same again
  %[1]s/bin/linkemu ctl %[2]s set outage=1     # no link at all; outage=0 brings it back
  %[1]s/bin/skerry token list
  make demo-down
`, d.dir, socket)
}

// quote writes arguments as one would type them.
func quote(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; strings.ContainsAny(a, " $()") {
			words[i] = "'" + a + "'"
		}
	}
	return strings.Join(words, " ")
}
