package desired

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// reasonNoEdge is of a Device whose node is no edge's, as when its name is misspelt.
const reasonNoEdge = "NoSuchEdge"

// maxDeviceWrites bounds the Devices that one look writes to; the next goes on.
const maxDeviceWrites = 100

// linkState is what a Device's status says of the way to its edge: the reason why
// nobody knows whether the device is connected, empty while its edge tells.
type linkState string

func linkStateOf(u *unstructured.Unstructured) linkState {
	for _, c := range conditionsOf(u) {
		if c["type"] == v1alpha1.ConditionConnected && c["status"] == string(metav1.ConditionUnknown) {
			reason, _ := c["reason"].(string)
			return linkState(reason)
		}
	}
	return ""
}

func conditionsOf(u *unstructured.Unstructured) []map[string]any {
	// Without a copy: this is asked of each status that edges report.
	status, _ := u.Object["status"].(map[string]any)
	list, _ := status["conditions"].([]any)
	var all []map[string]any
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

// lookAtDevices tells on Devices that their edge is away, and that it is back. An edge
// says nothing anew when it comes back and nothing has changed meanwhile; so what it
// had said stays in a condition of its own until then.
func (c *Conditions) lookAtDevices(ctx context.Context) {
	informer := c.pub.named[wire.ResourceDevices]
	if informer == nil || !informer.HasSynced() {
		return
	}
	writes := 0
	for _, o := range informer.GetIndexer().List() {
		d, ok := o.(*defined)
		if !ok {
			continue
		}
		reason, message := c.awayOf(d.node)
		if linkState(reason) == d.link {
			continue
		}
		if writes++; writes > maxDeviceWrites {
			return
		}
		err := c.writeDevice(ctx, d, reason, message)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
			c.log.Warn("condition of a device can't be written", "namespace", d.Namespace, "device", d.Name, "error", err)
		}
	}
}

// awayOf says why an edge tells nothing of its Devices, with no reason if it does.
func (c *Conditions) awayOf(name string) (reason, message string) {
	node := cached[*corev1.Node](c.nodes, "", name)
	if node == nil || !report.Owned(node) {
		return reasonNoEdge, fmt.Sprintf("node %q is not there, or is no edge: kubectl get nodes -l %s=true shows which are", name, labelEdge)
	}
	if since, offline := report.OfflineSince(node); offline {
		return reasonOffline, "its edge has had no session since " + since.UTC().Format(time.RFC3339) + "; values are of then"
	}
	return "", ""
}

// writeDevice says why nobody knows, or gives back what the edge had said.
func (c *Conditions) writeDevice(ctx context.Context, d *defined, reason, message string) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	client := c.dynamic.Resource(v1alpha1.GroupVersion().WithResource(v1alpha1.Devices)).Namespace(d.Namespace)
	u, err := client.Get(ctx, d.Name, metav1.GetOptions{})
	if err != nil || u.GetUID() != d.UID || linkStateOf(u) != d.link {
		return err // another, or somebody was faster
	}
	conditions := withLink(conditionsOf(u), reason, message, time.Now())
	ops := []map[string]any{{"op": "add", "path": "/metadata/resourceVersion", "value": u.GetResourceVersion()}}
	if u.Object["status"] == nil {
		ops = append(ops, map[string]any{"op": "add", "path": "/status", "value": map[string]any{}})
	}
	patch, err := json.Marshal(append(ops, map[string]any{"op": "add", "path": "/status/conditions", "value": conditions}))
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	_, err = client.Patch(ctx, d.Name, types.JSONPatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// withLink gives the conditions of a Device when nobody knows for a reason, or, without
// one, when its edge tells again.
func withLink(conditions []map[string]any, reason, message string, now time.Time) []map[string]any {
	find := func(kind string) int {
		return slices.IndexFunc(conditions, func(c map[string]any) bool { return c["type"] == kind })
	}
	take := func(kind string) map[string]any {
		i := find(kind)
		if i < 0 {
			return nil
		}
		taken := conditions[i]
		conditions = slices.Delete(slices.Clone(conditions), i, i+1)
		return taken
	}
	as := func(c map[string]any, kind string) {
		c["type"] = kind
		conditions = append(conditions, c)
	}
	connected, before := take(v1alpha1.ConditionConnected), take(v1alpha1.ConditionConnectedBefore)
	if connected != nil && connected["status"] != string(metav1.ConditionUnknown) {
		before = connected // the edge's own word
	}
	switch {
	case reason == "" && before != nil:
		as(before, v1alpha1.ConditionConnected)
	case reason != "":
		if before != nil {
			as(before, v1alpha1.ConditionConnectedBefore)
		}
		conditions = append(conditions, map[string]any{
			"type": v1alpha1.ConditionConnected, "status": string(metav1.ConditionUnknown), "reason": reason, "message": message,
			"lastTransitionTime": now.UTC().Format(time.RFC3339),
		})
	}
	return conditions
}
