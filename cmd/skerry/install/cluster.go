package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

const (
	// manager owns the fields that an init has set.
	manager = "skerry-init"
	// managedLabel and managedValue are on all that an init has made.
	managedLabel = "app.kubernetes.io/managed-by"
	managedValue = "skerry-init"
	// proxyName is the name of the Deployment, its Service and its account.
	proxyName = "cloudproxy"
)

// Cluster is what is installed into.
type Cluster struct {
	Client    kubernetes.Interface
	Dynamic   dynamic.Interface
	Namespace string
	// Say is told what happens, one line each.
	Say func(line string)
}

// StepError is a step that failed, and what to do next.
type StepError struct {
	Step string
	Err  error
	Next string // a command, or what else helps
}

// Error names the step, the cause and the next command, in one line.
func (e *StepError) Error() string {
	text := e.Step + ": " + e.Err.Error()
	if e.Next != "" {
		text += "; next: " + e.Next
	}
	return text
}

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

// resource is where the API has a kind.
type resource struct {
	schema.GroupVersionResource
	cluster bool // no namespace
}

// resourceOf knows the kinds that are installed, so that no discovery is needed.
func resourceOf(obj *unstructured.Unstructured) (resource, error) {
	r := func(group, name string, cluster bool) (resource, error) {
		return resource{schema.GroupVersionResource{Group: group, Version: "v1", Resource: name}, cluster}, nil
	}
	const rbac, admission = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"
	switch gvk := obj.GroupVersionKind(); gvk.Kind {
	case "Namespace":
		return r("", "namespaces", true)
	case "ServiceAccount":
		return r("", "serviceaccounts", false)
	case "Service":
		return r("", "services", false)
	case "Deployment":
		return r("apps", "deployments", false)
	case "ClusterRole":
		return r(rbac, "clusterroles", true)
	case "ClusterRoleBinding":
		return r(rbac, "clusterrolebindings", true)
	case "Role":
		return r(rbac, "roles", false)
	case "RoleBinding":
		return r(rbac, "rolebindings", false)
	case "CustomResourceDefinition":
		return r("apiextensions.k8s.io", "customresourcedefinitions", true)
	case "ValidatingAdmissionPolicy":
		return r(admission, "validatingadmissionpolicies", true)
	case "ValidatingAdmissionPolicyBinding":
		return r(admission, "validatingadmissionpolicybindings", true)
	default:
		return resource{}, fmt.Errorf("kind %s is not known here", gvk)
	}
}

// Objects reads a YAML stream and labels each object as made by an init.
func Objects(stream []byte) ([]*unstructured.Unstructured, error) {
	var objs []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(stream)), 4096)
	for {
		var obj unstructured.Unstructured
		if err := decoder.Decode(&obj.Object); errors.Is(err, io.EOF) {
			return objs, nil
		} else if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		if len(obj.Object) == 0 {
			continue
		}
		if _, err := resourceOf(&obj); err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		labels := obj.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[managedLabel] = managedValue
		obj.SetLabels(labels)
		objs = append(objs, &obj)
	}
}

// name is how people call an object.
func name(obj *unstructured.Unstructured) string {
	s := obj.GetKind() + " " + obj.GetName()
	if ns := obj.GetNamespace(); ns != "" {
		s += " in " + ns
	}
	return s
}

func (c *Cluster) at(obj *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	r, err := resourceOf(obj)
	if err != nil {
		return nil, err
	}
	if r.cluster {
		return c.Dynamic.Resource(r.GroupVersionResource), nil
	}
	return c.Dynamic.Resource(r.GroupVersionResource).Namespace(obj.GetNamespace()), nil
}

// Apply brings objects to what they should be, in order. A namespace that somebody
// else has made stays as it is.
func (c *Cluster) Apply(ctx context.Context, objs []*unstructured.Unstructured) error {
	for _, obj := range objs {
		if err := c.apply(ctx, obj); err != nil {
			next := "kubectl auth can-i --list shows what you may do"
			if !apierrors.IsForbidden(err) {
				next = "skerry init again, when the cause is gone: it goes on where it stopped"
			}
			return &StepError{"apply " + name(obj), err, next}
		}
	}
	return nil
}

func (c *Cluster) apply(ctx context.Context, obj *unstructured.Unstructured) error {
	at, err := c.at(obj)
	if err != nil {
		return err
	}
	before, err := at.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	there := err == nil
	if there && obj.GetKind() == "Namespace" && !managed(before) {
		c.Say("kept      " + name(obj) + ", which is not of skerry init")
		return nil
	}
	data, err := obj.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	after, err := at.Patch(ctx, obj.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{
		FieldManager: manager, Force: &force, FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		return err
	}
	switch {
	case !there:
		c.Say("created   " + name(obj))
	case same(before, after):
		c.Say("unchanged " + name(obj))
	default:
		c.Say("changed   " + name(obj))
	}
	return nil
}

// same compares what people set. A version may change without it: policies get a new
// one for each write.
func same(a, b *unstructured.Unstructured) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	for _, obj := range []*unstructured.Unstructured{a, b} {
		unstructured.RemoveNestedField(obj.Object, "status")
		for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
			unstructured.RemoveNestedField(obj.Object, "metadata", field)
		}
	}
	return equality.Semantic.DeepEqual(a.Object, b.Object)
}

func managed(obj metav1.Object) bool { return obj.GetLabels()[managedLabel] == managedValue }

// kinds picks objects by kind.
func kinds(objs []*unstructured.Unstructured, in bool, names ...string) []*unstructured.Unstructured {
	var list []*unstructured.Unstructured
	for _, obj := range objs {
		if slices.Contains(names, obj.GetKind()) == in {
			list = append(list, obj)
		}
	}
	return list
}

// Split separates the Deployment, and the Services, from what comes before them.
func Split(objs []*unstructured.Unstructured) (before, services, deployments []*unstructured.Unstructured) {
	return kinds(objs, false, "Service", "Deployment"), kinds(objs, true, "Service"), kinds(objs, true, "Deployment")
}
