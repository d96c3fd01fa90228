package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry-io/skerry/devices/onboard"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// fieldManager owns what onboarding writes, and nothing that people add.
const fieldManager = "skerry-onboard"

// mostLeft bounds what is told of what was left out; -o json has all.
const mostLeft = 20

// applying is what is done with objects that were made.
type applying struct{ apply, force bool }

func (a *applying) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&a.apply, "apply", false, "put the objects into the cluster (server-side apply)")
	f.BoolVar(&a.force, "force-conflicts", false, "with --apply: take fields over that others have changed")
}

// finish prints, compares or applies.
func (a *applying) finish(cmd *cobra.Command, d *devices, r onboard.Result, source string) error {
	errs := cmd.ErrOrStderr()
	tellLeft(errs, r.Left)
	objects, err := documents(r)
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		return errors.New("nothing was found of which a Device could be made")
	}
	if d.output != "" && !a.apply {
		return printObjects(cmd.OutOrStdout(), d.output, objects)
	}
	ctx := cmd.Context()
	var models []v1alpha1.DeviceModel
	var there []v1alpha1.Device
	for _, namespace := range namespacesOf(objects) {
		in := *d
		in.namespace = namespace
		m, err := listOf[v1alpha1.DeviceModel](ctx, &in, v1alpha1.DeviceModels, "")
		if err != nil {
			return err
		}
		t, err := listOf[v1alpha1.Device](ctx, &in, v1alpha1.Devices, "")
		if err != nil {
			return err
		}
		models, there = append(models, m...), append(there, t...)
	}
	changes, err := onboard.Compare(r, models, there)
	if err != nil {
		return err
	}
	if a.apply {
		if err := a.put(ctx, d, objects); err != nil {
			return err
		}
	}
	if d.output != "" {
		return newPrinter(cmd.OutOrStdout(), d.output, false).document(changes)
	}
	tellChanges(cmd.OutOrStdout(), changes, a.apply)
	if !a.apply {
		fmt.Fprintln(errs, "Nothing was changed; --apply does it, -o yaml shows the objects.")
	} else {
		fmt.Fprintf(errs, "next: kubectl get devices -n %s -l %s=%s -w\n", d.namespace, onboard.LabelSource, source)
	}
	return nil
}

func namespacesOf(objects []*unstructured.Unstructured) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.GetNamespace())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func tellLeft(w io.Writer, left []onboard.Left) {
	for i, l := range left {
		if i == mostLeft {
			fmt.Fprintf(w, "left out: and %d more\n", len(left)-i)
			return
		}
		fmt.Fprintln(w, "left out: "+oneLine(l.String()))
	}
}

func tellChanges(w io.Writer, changes []onboard.Change, done bool) {
	would := " (would be)"
	if done {
		would = ""
	}
	for _, c := range changes {
		switch c.What {
		case onboard.Same:
			fmt.Fprintf(w, "%s %s: unchanged\n", c.Kind, c.Name)
		case onboard.Gone:
			fmt.Fprintf(w, "%s %s: not found any more; it stays until somebody deletes it\n", c.Kind, c.Name)
		default:
			fmt.Fprintf(w, "%s %s: %s%s\n", c.Kind, c.Name, c.What, would)
		}
		for _, l := range c.Lines {
			fmt.Fprintln(w, "  "+oneLine(l))
		}
	}
}

// documents are the objects as the API takes them, models first, without a status.
func documents(r onboard.Result) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	add := func(o any) error {
		b, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(b); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
		unstructured.RemoveNestedField(u.Object, "status")
		out = append(out, u)
		return nil
	}
	for i := range r.Models {
		if err := add(&r.Models[i]); err != nil {
			return nil, err
		}
	}
	for i := range r.Devices {
		if err := add(&r.Devices[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func printObjects(w io.Writer, output string, objects []*unstructured.Unstructured) error {
	p := newPrinter(w, output, false)
	if output == "json" {
		items := make([]map[string]any, len(objects))
		for i, o := range objects {
			items[i] = o.Object
		}
		return p.document(list[map[string]any]{"v1", "List", items})
	}
	for _, o := range objects {
		fmt.Fprintln(w, "---")
		if err := p.document(o.Object); err != nil {
			return err
		}
	}
	return nil
}

// put applies the objects in order. It can be repeated after a failure.
func (a *applying) put(ctx context.Context, d *devices, objects []*unstructured.Unstructured) error {
	client, err := d.dynamic()
	if err != nil {
		return err
	}
	for _, o := range objects {
		resource := v1alpha1.Devices
		if o.GetKind() == "DeviceModel" {
			resource = v1alpha1.DeviceModels
		}
		to := client.Resource(v1alpha1.GroupVersion().WithResource(resource)).Namespace(o.GetNamespace())
		_, err := to.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: a.force})
		switch {
		case apierrors.IsConflict(err):
			return fmt.Errorf("apply %s %s: %w; next: --force-conflicts takes the fields over, or leave them to whom they belong", o.GetKind(), o.GetName(), err)
		case err != nil:
			return explainDefinitions(fmt.Errorf("apply %s %s: %w; what was applied before stays, and the command can be repeated", o.GetKind(), o.GetName(), err))
		}
	}
	return nil
}
