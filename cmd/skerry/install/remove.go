package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

// Removal is one thing that an uninstall takes away.
type Removal struct {
	What string
	Run  func(ctx context.Context) error
}

// edgeLabel is on the Nodes that the proxy has made.
const edgeLabel = "skerry.io/edge"

// Plan lists what is there of what an init, and the proxy after it, have made, in the
// order in which it is to go: the proxy first, for it would make some of it again, its
// rights last, which tell a second run that the first was ours. Notes say what is left
// alone.
func (c *Cluster) Plan(ctx context.Context, objs []*unstructured.Unstructured) (plan []Removal, notes []string, err error) {
	before, services, deployments := Split(objs)
	rights := kinds(before, false, "Namespace", definition)
	slices.Reverse(rights)
	add := func(objs []*unstructured.Unstructured) (removals []Removal, foreign bool, err error) {
		for _, obj := range objs {
			there, ours, err := c.find(ctx, obj)
			switch {
			case err != nil:
				return nil, false, err
			case there && !ours:
				foreign = true
				notes = append(notes, "Leaving "+name(obj)+" alone: it is not of skerry init.")
			case there:
				removals = append(removals, Removal{"delete " + name(obj), func(ctx context.Context) error { return c.remove(ctx, obj) }})
			}
		}
		return removals, foreign, nil
	}
	proxy, foreignProxy, err := add(deployments)
	if err != nil {
		return nil, nil, err
	}
	access, _, err := add(services)
	if err != nil {
		return nil, nil, err
	}
	namespace, _, err := add(kinds(before, true, "Namespace"))
	if err != nil {
		return nil, nil, err
	}
	last, _, err := add(rights)
	if err != nil {
		return nil, nil, err
	}
	unused, kept, err := c.definitions(ctx, kinds(before, true, definition))
	if err != nil {
		return nil, nil, err
	}
	notes = append(notes, kept...)
	// What a proxy has made has no label of init's. It is ours if the proxy was.
	var made []Removal
	if !foreignProxy && len(last) > 0 {
		if made, err = c.made(ctx, len(namespace) == 0); err != nil {
			return nil, nil, err
		}
	}
	return slices.Concat(proxy, access, made, unused, namespace, last), notes, nil
}

// made lists what a proxy has made; what is in its namespace, only if that stays.
func (c *Cluster) made(ctx context.Context, namespaceStays bool) ([]Removal, error) {
	lists := []func(context.Context) ([]Removal, error){c.edges, c.tokens, c.requests}
	if namespaceStays {
		lists = append(lists, c.belongings)
	}
	var plan []Removal
	for _, list := range lists {
		more, err := list(ctx)
		if err != nil {
			return nil, err
		}
		plan = append(plan, more...)
	}
	return plan, nil
}

func (c *Cluster) find(ctx context.Context, obj *unstructured.Unstructured) (there, ours bool, err error) {
	at, err := c.at(obj)
	if err != nil {
		return false, false, err
	}
	found, err := at.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("read %s: %w", name(obj), err)
	}
	return true, managed(found), nil
}

func (c *Cluster) remove(ctx context.Context, obj *unstructured.Unstructured) error {
	at, err := c.at(obj)
	if err != nil {
		return err
	}
	// Foreground: the Deployment is gone when its pods are.
	policy := metav1.DeletePropagationForeground
	err = at.Delete(ctx, obj.GetName(), metav1.DeleteOptions{PropagationPolicy: &policy})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	switch obj.GetKind() {
	case "Deployment", "Namespace":
		return c.gone(ctx, obj)
	}
	return nil
}

// goneTime is more than a pod's grace period.
const goneTime = 2 * time.Minute

// gone waits until an object is no longer there.
func (c *Cluster) gone(ctx context.Context, obj *unstructured.Unstructured) error {
	ctx, cancel := context.WithTimeout(ctx, goneTime)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		there, _, err := c.find(ctx, obj)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && !there {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it is still there after %s; 'kubectl get -o yaml' says in status what it waits for", goneTime)
		}
	}
}

// edges are the Nodes of edges, and their Leases.
func (c *Cluster) edges(ctx context.Context) ([]Removal, error) {
	list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: edgeLabel})
	if err != nil {
		return nil, fmt.Errorf("list edges: %w", err)
	}
	var plan []Removal
	for i := range list.Items {
		n := list.Items[i].Name
		plan = append(plan, Removal{"delete Node " + n + " of an edge, and the pods bound to it", func(ctx context.Context) error {
			return errors.Join(
				ignoreMissing(c.Client.CoreV1().Nodes().Delete(ctx, n, metav1.DeleteOptions{})),
				ignoreMissing(c.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Delete(ctx, n, metav1.DeleteOptions{})),
				c.removePods(ctx, n),
			)
		}})
	}
	return plan, nil
}

// removePods takes away the pods of a Node that is gone: nobody is left to end them.
func (c *Cluster) removePods(ctx context.Context, node string) error {
	pods, err := c.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return fmt.Errorf("list its pods: %w", err)
	}
	now := int64(0)
	for i := range pods.Items {
		p := &pods.Items[i]
		err = errors.Join(err, ignoreMissing(c.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.UID},
		})))
	}
	return err
}

// tokens are the join tokens.
func (c *Cluster) tokens(ctx context.Context) ([]Removal, error) {
	list, err := c.Client.CoreV1().Secrets(jointoken.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "type=" + string(jointoken.SecretType),
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	var plan []Removal
	for i := range list.Items {
		s := &list.Items[i]
		if grant, ok := jointoken.ReadGrant(s); ok {
			plan = append(plan, Removal{"delete join token " + grant.ID, func(ctx context.Context) error {
				return ignoreMissing(c.Client.CoreV1().Secrets(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{
					Preconditions: &metav1.Preconditions{UID: &s.UID},
				}))
			}})
		}
	}
	return plan, nil
}

// requests are the proxy's own certificate requests.
func (c *Cluster) requests(ctx context.Context) ([]Removal, error) {
	account := "system:serviceaccount:" + c.Namespace + ":" + proxyName
	list, err := c.Client.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list certificate requests: %w", err)
	}
	var plan []Removal
	for i := range list.Items {
		r := &list.Items[i]
		if r.Spec.Username == account {
			plan = append(plan, Removal{"delete CertificateSigningRequest " + r.Name, func(ctx context.Context) error {
				return ignoreMissing(c.Client.CertificatesV1().CertificateSigningRequests().Delete(ctx, r.Name, metav1.DeleteOptions{}))
			}})
		}
	}
	return plan, nil
}

// belongings are what the proxy keeps in its namespace: the CA above all, without
// which no edge gets in again.
func (c *Cluster) belongings(ctx context.Context) ([]Removal, error) {
	var plan []Removal
	for _, n := range []string{"skerry-ca", "skerry-kubelet-serving"} {
		_, err := c.Client.CoreV1().Secrets(c.Namespace).Get(ctx, n, metav1.GetOptions{})
		if err == nil {
			plan = append(plan, Removal{"delete Secret " + n, func(ctx context.Context) error {
				return ignoreMissing(c.Client.CoreV1().Secrets(c.Namespace).Delete(ctx, n, metav1.DeleteOptions{}))
			}})
		} else if ignoreMissing(err) != nil {
			return nil, fmt.Errorf("read Secret %s: %w", n, err)
		}
	}
	for _, n := range []string{"skerry-info", "skerry-revoked", "skerry-ports"} {
		_, err := c.Client.CoreV1().ConfigMaps(c.Namespace).Get(ctx, n, metav1.GetOptions{})
		if err == nil {
			plan = append(plan, Removal{"delete ConfigMap " + n, func(ctx context.Context) error {
				return ignoreMissing(c.Client.CoreV1().ConfigMaps(c.Namespace).Delete(ctx, n, metav1.DeleteOptions{}))
			}})
		} else if ignoreMissing(err) != nil {
			return nil, fmt.Errorf("read ConfigMap %s: %w", n, err)
		}
	}
	return plan, nil
}

func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
