package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry-io/skerry/manifests"
)

// valuesAnnotation keeps, on the Deployment, what an init was told, so that the next
// one need not be told again.
const valuesAnnotation = "skerry.io/init-values"

// KeepValues notes v on the Deployment among objs.
func KeepValues(objs []*unstructured.Unstructured, v manifests.Values) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("note values: %w", err)
	}
	for _, obj := range kinds(objs, true, "Deployment") {
		all := obj.GetAnnotations()
		if all == nil {
			all = map[string]string{}
		}
		all[valuesAnnotation] = string(data)
		obj.SetAnnotations(all)
	}
	return nil
}

// PresentValues are those of the last init; false when there was none.
func (c *Cluster) PresentValues(ctx context.Context) (manifests.Values, bool, error) {
	var v manifests.Values
	d, err := c.deployment(ctx)
	if apierrors.IsNotFound(err) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	text, ok := d.Annotations[valuesAnnotation]
	if !ok {
		return v, false, fmt.Errorf("deployment %s is there and not of skerry init: upgrade it by what has made it (Helm, kubectl), or choose another --namespace", proxyName)
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, false, fmt.Errorf("annotation %s of Deployment %s: %w", valuesAnnotation, proxyName, err)
	}
	return v, true, nil
}

func (c *Cluster) deployment(ctx context.Context) (*appsv1.Deployment, error) {
	d, err := c.Client.AppsV1().Deployments(c.Namespace).Get(ctx, proxyName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Deployment: %w", err)
	}
	return d, nil
}

// WaitReady waits until the proxy runs as its Deployment says, and tells what it
// waits for whenever that changes.
func (c *Cluster) WaitReady(ctx context.Context, patience time.Duration) error {
	deadline := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	told, fatal := "", false
	for {
		d, err := c.deployment(ctx)
		if err != nil {
			return err
		}
		if ready(d) {
			return nil
		}
		why, final := c.Why(ctx)
		if why != told {
			c.Say("waiting for the proxy: " + why)
		}
		fatal, told = final, why
		select {
		case <-tick.C:
			continue
		case <-deadline:
		case <-ctx.Done():
			return ctx.Err()
		}
		next := fmt.Sprintf("kubectl -n %s describe pods -l app.kubernetes.io/name=%s", c.Namespace, proxyName)
		if fatal {
			next = fmt.Sprintf("kubectl -n %s logs deployment/%s", c.Namespace, proxyName)
		}
		return &StepError{"start the proxy", fmt.Errorf("it is not ready after %s: %s", patience, why), next}
	}
}

// ready is what `kubectl rollout status` waits for.
func ready(d *appsv1.Deployment) bool {
	return d.Status.ObservedGeneration >= d.Generation && d.Spec.Replicas != nil &&
		d.Status.UpdatedReplicas == *d.Spec.Replicas && d.Status.Replicas == d.Status.UpdatedReplicas &&
		d.Status.AvailableReplicas == d.Status.UpdatedReplicas
}

// Why says what the newest pod of the proxy lacks, and whether its log tells more.
func (c *Cluster) Why(ctx context.Context) (why string, log bool) {
	pods, err := c.Client.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/part-of=skerry,app.kubernetes.io/name=" + proxyName,
	})
	if err != nil {
		return err.Error(), false
	}
	var newest *corev1.Pod
	for i := range pods.Items {
		if p := &pods.Items[i]; newest == nil || newest.CreationTimestamp.Before(&p.CreationTimestamp) {
			newest = p
		}
	}
	if newest == nil {
		return "it has no pod yet", false
	}
	return whyPod(newest)
}

func whyPod(p *corev1.Pod) (why string, log bool) {
	for _, cs := range p.Status.ContainerStatuses {
		switch {
		case cs.State.Terminated != nil || cs.LastTerminationState.Terminated != nil && !cs.Ready:
			return fmt.Sprintf("its container ends, %d restarts so far", cs.RestartCount), true
		case cs.State.Waiting != nil && strings.Contains(cs.State.Waiting.Reason, "Image"), cs.State.Waiting != nil && cs.State.Waiting.Reason == "ErrImageNeverPull":
			return fmt.Sprintf("node %s can't get the image %s (%s): push it to a registry that nodes can reach and say --image, or import it on the nodes",
				p.Spec.NodeName, cs.Image, cs.State.Waiting.Reason), false
		case cs.State.Waiting != nil:
			return strings.TrimSpace(cs.State.Waiting.Reason + " " + cs.State.Waiting.Message), false
		case !cs.Ready:
			return "its container runs and is not ready", true
		}
	}
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodScheduled && cond.Status == corev1.ConditionFalse {
			return "its pod has no node: " + cond.Message, false
		}
	}
	return "its pod is " + strings.ToLower(string(p.Status.Phase)), false
}

// Other is the namespace of another installation in this cluster; empty when there
// is none. Two would fight for the rights, which are the cluster's.
func (c *Cluster) Other(ctx context.Context) (string, error) {
	b, err := c.Client.RbacV1().ClusterRoleBindings().Get(ctx, "skerry-"+proxyName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read ClusterRoleBinding: %w", err)
	}
	for _, s := range b.Subjects {
		if s.Namespace != c.Namespace {
			return s.Namespace, nil
		}
	}
	return "", nil
}

// ErrNoProxy means that there is no proxy in the namespace.
var ErrNoProxy = errors.New("there is no cloud proxy here")

// Ready tells how the proxy is: nil when it is as its Deployment says.
func (c *Cluster) Ready(ctx context.Context) (image string, err error) {
	d, err := c.deployment(ctx)
	if apierrors.IsNotFound(err) {
		return "", ErrNoProxy
	}
	if err != nil {
		return "", err
	}
	if len(d.Spec.Template.Spec.Containers) > 0 {
		image = d.Spec.Template.Spec.Containers[0].Image
	}
	if ready(d) {
		return image, nil
	}
	why, _ := c.Why(ctx)
	return image, errors.New(why)
}
