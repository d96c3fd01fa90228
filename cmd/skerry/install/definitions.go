package install

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// definition is the kind of what defines the objects of devices.
const definition = "CustomResourceDefinition"

// definitions lists those that nobody uses. A definition takes its objects with it, and
// they are people's work: one that has any is left, and a note says how it goes.
func (c *Cluster) definitions(ctx context.Context, objs []*unstructured.Unstructured) (plan []Removal, notes []string, err error) {
	for _, obj := range objs {
		there, ours, err := c.find(ctx, obj)
		if err != nil {
			return nil, nil, err
		}
		if !there {
			continue
		}
		used, err := c.used(ctx, obj)
		switch {
		case err != nil:
			return nil, nil, err
		case used:
			notes = append(notes, "Leaving "+name(obj)+" alone: there are such objects, and they would go with it. 'kubectl delete crd "+obj.GetName()+"' deletes them all.")
		case !ours:
			notes = append(notes, "Leaving "+name(obj)+" alone: it is not of skerry init.")
		default:
			plan = append(plan, Removal{"delete " + name(obj), func(ctx context.Context) error { return c.remove(ctx, obj) }})
		}
	}
	return plan, notes, nil
}

// used says whether there are objects of a definition.
func (c *Cluster) used(ctx context.Context, obj *unstructured.Unstructured) (bool, error) {
	group, _, _ := unstructured.NestedString(obj.Object, "spec", "group") // of our own manifests
	plural, _, _ := unstructured.NestedString(obj.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(obj.Object, "spec", "versions")
	for _, v := range versions {
		version, ok := v.(map[string]any)["name"].(string)
		if !ok {
			continue
		}
		list, err := c.Dynamic.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).
			List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) { // it is not served
			continue
		}
		if err != nil {
			return false, fmt.Errorf("list %s: %w", plural, err)
		}
		if len(list.Items) > 0 {
			return true, nil
		}
	}
	return false, nil
}
