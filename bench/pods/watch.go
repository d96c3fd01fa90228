package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watched is what a watch has shown of all pods.
type watched struct {
	mu      sync.Mutex // guards the following fields
	pods    map[string]*corev1.Pod
	changed chan struct{} // closed with each event
}

// watch follows all pods of the namespace until ctx ends.
func (b *bed) watch(ctx context.Context) (*watched, error) {
	w := &watched{pods: map[string]*corev1.Pod{}, changed: make(chan struct{})}
	longer := int64((2 * time.Hour).Seconds())
	events, err := b.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{TimeoutSeconds: &longer})
	if err != nil {
		return nil, err
	}
	go func() {
		defer events.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-events.ResultChan():
				if !ok {
					return // what waits for a change gives up
				}
				w.take(e)
			}
		}
	}()
	return w, nil
}

func (w *watched) take(e watch.Event) {
	pod, ok := e.Object.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Type == watch.Deleted {
		delete(w.pods, pod.Name)
	} else {
		w.pods[pod.Name] = pod
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// wait waits until cond holds for all the named pods; a pod that is gone is nil.
func (w *watched) wait(ctx context.Context, what string, names []string, cond func(*corev1.Pod) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		w.mu.Lock()
		missing := ""
		for _, n := range names {
			if !cond(w.pods[n]) {
				missing = n
				break
			}
		}
		changed := w.changed
		w.mu.Unlock()
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s is not %s after %v: %w", missing, what, patience, ctx.Err())
		case <-changed:
		}
	}
}

func running(p *corev1.Pod) bool { return p != nil && p.Status.Phase == corev1.PodRunning }

func gone(p *corev1.Pod) bool { return p == nil }

func ready(p *corev1.Pod) bool {
	if p == nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
