package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/bench/results"
	"github.com/skerry-io/skerry/tests/lab"
)

const (
	// fillers is how many pods are made at a time: more would only measure how the
	// machine chokes.
	fillers = 5
	// filePatience is for a change of a ConfigMap; the kubelet looks once a minute, and
	// more when it has missed a minute.
	filePatience = 3 * time.Minute
	// fileLook is the pause between two looks at a file.
	fileLook = 2 * time.Millisecond
	// agentLimit is the memory cgroup that the agent has to do with.
	agentLimit = 64 << 20
)

// measure brings the lab up and makes the rows.
func (b *bed) measure(ctx context.Context) ([]results.Row, error) {
	if err := b.up(ctx); err != nil {
		return nil, err
	}
	s := results.NewSamples(name)
	there := 0
	for _, count := range b.o.pods {
		begin := time.Now()
		if err := b.fill(ctx, there, count); err != nil {
			return nil, err
		}
		there = count
		if err := sleep(ctx, b.o.settle); err != nil {
			return nil, err
		}
		for _, measure := range []func(context.Context, *results.Samples, int) error{b.rest, b.comeAndGo, b.changeConfigMap, b.starts, b.bounded} {
			if err := measure(ctx, s, count); err != nil {
				return nil, err
			}
		}
		b.log.Info("measured", "pods", count, "took", time.Since(begin).Round(time.Second))
	}
	return s.Rows(), nil
}

// metric names a figure that was measured with count pods.
func metric(base string, count int) string {
	if count == budgetPods {
		return base
	}
	return base + "_" + strconv.Itoa(count)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// newPod is a pod that does nothing, and ends when it is told to. It shows a ConfigMap.
func (n *node) newPod(podName string) *corev1.Pod {
	no := false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: podName, Namespace: namespace},
		Spec: corev1.PodSpec{
			NodeName: n.edge.Name, AutomountServiceAccountToken: &no, DNSPolicy: corev1.DNSDefault,
			Containers: []corev1.Container{{
				Name: "main", Image: lab.PauseImage,
				VolumeMounts: []corev1.VolumeMount{{Name: "settings", MountPath: "/settings"}},
			}},
			Volumes: []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}},
			}}},
		},
	}
}

func (n *node) filler(i int) string { return fmt.Sprintf("fill-%s-%d", n.system, i) }

func (n *node) all(count int) []string {
	var names []string
	for i := range count {
		names = append(names, n.filler(i))
	}
	return names
}

// fill makes pods until there are count on each node.
func (b *bed) fill(ctx context.Context, there, count int) error {
	if there == 0 {
		settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"mark": "first"}}
		if _, err := b.client.CoreV1().ConfigMaps(namespace).Create(ctx, settings, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	for from := there; from < count; from += fillers {
		var names []string
		for _, n := range b.nodes() {
			for i := from; i < min(from+fillers, count); i++ {
				if _, err := b.client.CoreV1().Pods(namespace).Create(ctx, n.newPod(n.filler(i)), metav1.CreateOptions{}); err != nil {
					return err
				}
				names = append(names, n.filler(i))
			}
		}
		if err := b.watched.wait(ctx, "ready", names, ready); err != nil {
			return err
		}
	}
	return nil
}

// rest measures memory and CPU while nothing happens.
func (b *bed) rest(ctx context.Context, s *results.Samples, count int) error {
	for range b.o.windows {
		used := map[*node]time.Duration{}
		begin := time.Now()
		for _, n := range b.nodes() {
			pid, ok := n.pid()
			if !ok {
				return fmt.Errorf("%s does not run", n.system)
			}
			var err error
			if used[n], err = cpuTime(pid); err != nil {
				return err
			}
		}
		if err := sleep(ctx, b.o.window); err != nil {
			return err
		}
		for _, n := range b.nodes() {
			pid, _ := n.pid()
			now, err := cpuTime(pid)
			if err != nil {
				return err
			}
			m, err := readMemory(pid)
			if err != nil {
				return err
			}
			add := func(base, unit string, v float64) {
				s.Add(results.Key{System: n.system, Metric: metric(base, count), Unit: unit}, v)
			}
			add("idle_cpu_pct", "%", 100*(now-used[n]).Seconds()/time.Since(begin).Seconds())
			add("vmrss_mb", "MB", m.vmrss)
			add("rssanon_mb", "MB", m.rssanon)
			add("pss_mb", "MB", m.pss)
		}
	}
	return nil
}

// comeAndGo creates and deletes pods, on the nodes in turns: they share the machine.
func (b *bed) comeAndGo(ctx context.Context, s *results.Samples, count int) error {
	used := map[*node]time.Duration{}
	for round := range b.o.rounds {
		for _, n := range b.nodes() {
			pid, _ := n.pid()
			before, err := cpuTime(pid)
			if err != nil {
				return err
			}
			create, del, err := b.one(ctx, n, fmt.Sprintf("one-%s-%d-%d", n.system, count, round))
			if err != nil {
				return err
			}
			after, err := cpuTime(pid)
			if err != nil {
				return err
			}
			used[n] += after - before
			s.Add(results.Key{Link: "A", System: n.system, Metric: metric("create_running_ms", count), Unit: "ms"}, create)
			s.Add(results.Key{Link: "A", System: n.system, Metric: metric("delete_gone_ms", count), Unit: "ms"}, del)
		}
	}
	for _, n := range b.nodes() {
		// The kernel counts in hundredths of a second: one pod's are too few to be told.
		s.Add(results.Key{System: n.system, Metric: metric("pod_cpu_ms", count), Unit: "ms"}, ms(used[n])/float64(b.o.rounds))
	}
	return nil
}

// one creates a pod and deletes it, and gives the milliseconds until it ran and until
// it was gone.
func (b *bed) one(ctx context.Context, n *node, podName string) (create, del float64, err error) {
	pods := b.client.CoreV1().Pods(namespace)
	begin := time.Now()
	if _, err := pods.Create(ctx, n.newPod(podName), metav1.CreateOptions{}); err != nil {
		return 0, 0, err
	}
	if err := b.watched.wait(ctx, "running", []string{podName}, running); err != nil {
		return 0, 0, err
	}
	create = ms(time.Since(begin))
	begin = time.Now()
	if err := pods.Delete(ctx, podName, metav1.DeleteOptions{}); err != nil {
		return 0, 0, err
	}
	if err := b.watched.wait(ctx, "gone", []string{podName}, gone); err != nil {
		return 0, 0, err
	}
	return create, ms(time.Since(begin)), nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// changeConfigMap changes a ConfigMap that all pods show and waits for the file of one
// of them, on all nodes at once.
func (b *bed) changeConfigMap(ctx context.Context, s *results.Samples, count int) error {
	for round := range b.o.changes {
		mark := fmt.Sprintf("%d-%d", count, round)
		begin := time.Now()
		patch := fmt.Appendf(nil, `{"data":{"mark":%q}}`, mark)
		if _, err := b.client.CoreV1().ConfigMaps(namespace).Patch(ctx, "settings", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
		type seen struct {
			node *node
			took time.Duration
			err  error
		}
		all := make(chan seen, len(b.nodes()))
		for _, n := range b.nodes() {
			go func() {
				err := b.waitFile(ctx, n, mark)
				all <- seen{n, time.Since(begin), err}
			}()
		}
		for range b.nodes() {
			got := <-all
			if got.err != nil {
				return got.err
			}
			s.Add(results.Key{Link: "A", System: got.node.system, Metric: metric("configmap_file_ms", count), Unit: "ms"}, ms(got.took))
		}
	}
	return nil
}

// waitFile waits until the first pod of a node shows the mark.
func (b *bed) waitFile(ctx context.Context, n *node, mark string) error {
	pod, err := b.client.CoreV1().Pods(namespace).Get(ctx, n.filler(0), metav1.GetOptions{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, filePatience)
	defer cancel()
	for file := n.file(pod, "settings", "mark"); ; {
		got, err := os.ReadFile(file)
		if err == nil && string(got) == mark {
			return nil
		}
		if sleep(ctx, fileLook) != nil {
			return fmt.Errorf("%s says %q, want %q: %w", file, got, mark, errors.Join(err, ctx.Err()))
		}
	}
}

// starts measures how long an agent takes after its start until it has said of all its
// pods that they are ready, which somebody denied while it was away, as the cluster
// does of a node that it has lost.
func (b *bed) starts(ctx context.Context, s *results.Samples, count int) error {
	if count != startPods {
		return nil
	}
	for _, n := range b.nodes() {
		took, err := b.restart(ctx, n, count, n.start)
		if err != nil {
			return err
		}
		s.Add(results.Key{Link: "A", System: n.system, Metric: metric("agent_start_ms", count), Unit: "ms"}, ms(took))
	}
	return nil
}

func (b *bed) restart(ctx context.Context, n *node, count int, start func(context.Context) error) (time.Duration, error) {
	if err := n.stop(ctx); err != nil {
		return 0, err
	}
	denial := []byte(`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"Bench"}]}}`)
	for _, podName := range n.all(count) {
		if _, err := b.client.CoreV1().Pods(namespace).Patch(ctx, podName, types.StrategicMergePatchType, denial, metav1.PatchOptions{}, "status"); err != nil {
			return 0, err
		}
	}
	if err := b.watched.wait(ctx, "denied", n.all(count), func(p *corev1.Pod) bool { return !ready(p) }); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := start(ctx); err != nil {
		return 0, err
	}
	err := b.watched.wait(ctx, "ready again", n.all(count), ready)
	return time.Since(begin), err
}

// bounded runs our agent inside a memory cgroup, and has it create and delete pods.
func (b *bed) bounded(ctx context.Context, s *results.Samples, count int) error {
	if count != startPods {
		return nil
	}
	add := func(base, unit string, v float64) {
		s.Add(results.Key{System: b.ours.system, Metric: metric("memcg64_"+base, count), Unit: unit}, v)
	}
	var dir string
	took, err := b.restart(ctx, b.ours, count, func(ctx context.Context) (err error) {
		dir, err = b.ours.edge.BoundAgent(ctx, agentLimit)
		return err
	})
	if err != nil {
		return err
	}
	add("agent_start_ms", "ms", ms(took))
	pid, _ := b.ours.pid()
	for round := range b.o.rounds {
		create, del, err := b.one(ctx, b.ours, fmt.Sprintf("bounded-%d", round))
		if err != nil {
			return err
		}
		add("create_running_ms", "ms", create)
		add("delete_gone_ms", "ms", del)
	}
	if now, ok := b.ours.pid(); !ok || now != pid {
		return fmt.Errorf("the agent with %d MiB was process %d and is %d: %t", agentLimit>>20, pid, now, ok)
	}
	m, err := readMemory(pid)
	if err != nil {
		return err
	}
	add("vmrss_mb", "MB", m.vmrss)
	for _, file := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue // of the other version of cgroups
		}
		peak, err := strconv.ParseFloat(string(bytes.TrimSpace(text)), 64)
		if err != nil {
			return err
		}
		add("peak_mb", "MB", peak/mega)
	}
	return errors.Join(b.ours.stop(ctx), b.ours.start(ctx)) // as it was
}
