package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/tests/lab"
)

// newKubelet is the node of the real kubelet. Its settings are the defaults but for
// what has to do with where it runs.
func (b *bed) newKubelet(e *lab.Edge) *node {
	return &node{
		system: "kubelet", edge: e, podsDir: filepath.Join(e.KubeletDir(), "pods"), pid: e.KubeletPID, stop: e.StopKubelet,
		start: func(ctx context.Context) error {
			return e.RunKubelet(ctx, b.o.kubelet, "authentication: {anonymous: {enabled: false}, webhook: {enabled: false}}\n")
		},
	}
}

// waitReady waits until a node is Ready, and pods may be made.
func (b *bed) waitReady(ctx context.Context, n *node) error {
	err := lab.Until(ctx, patience, "node "+n.edge.Name+" to be Ready", func() error {
		if _, ok := n.pid(); !ok {
			return lab.Final(fmt.Errorf("%s has ended (log: %s)", n.system, n.edge.GuestLog(n.system)))
		}
		node, err := b.client.CoreV1().Nodes().Get(ctx, n.edge.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it is not")
	})
	if err != nil {
		return err
	}
	return lab.Until(ctx, patience, "a ServiceAccount for pods", func() error {
		_, err := b.client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// file is where a node shows the key of a ConfigMap to a pod.
func (n *node) file(pod *corev1.Pod, volume, key string) string {
	return filepath.Join(n.podsDir, string(pod.UID), "volumes", strings.ReplaceAll("kubernetes.io/configmap", "/", "~"), volume, key)
}
