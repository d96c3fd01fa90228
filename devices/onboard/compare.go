package onboard

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Kinds of changes.
const (
	New     = "new"
	Changed = "changed"
	Same    = "same"
	// Gone is an object of the same source that was not made this time.
	Gone = "gone"
)

// Change is an object beside the one that the cluster has.
type Change struct {
	Kind string `json:"kind"` // of the object
	Name string `json:"name"`
	What string `json:"what"` // New, Changed, Same or Gone
	// Lines say what is new (+), gone (-) and other (~).
	Lines []string `json:"lines,omitempty"`
}

// Compare says what an apply of r would change in a cluster that has these objects.
// What people added to a property, such as desired values, is not told, and stays; a
// property that they added is told as gone, since only the API server knows whose it is.
func Compare(r Result, models []v1alpha1.DeviceModel, devices []v1alpha1.Device) ([]Change, error) {
	var out []Change
	for i := range r.Models {
		want := &r.Models[i]
		j := slices.IndexFunc(models, func(m v1alpha1.DeviceModel) bool { return m.Name == want.Name && m.Namespace == want.Namespace })
		var have any
		if j >= 0 {
			have = models[j].Spec
		}
		c, err := change(want.Kind, want.Name, want.Spec, have)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	for i := range r.Devices {
		want := &r.Devices[i]
		j := slices.IndexFunc(devices, func(d v1alpha1.Device) bool { return d.Name == want.Name && d.Namespace == want.Namespace })
		var have any
		if j >= 0 {
			have = devices[j].Spec
		}
		c, err := change(want.Kind, want.Name, want.Spec, have)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	for i := range models {
		if m := &models[i]; ours(m.Labels, r) && !slices.ContainsFunc(r.Models, func(w v1alpha1.DeviceModel) bool { return w.Name == m.Name && w.Namespace == m.Namespace }) {
			out = append(out, Change{Kind: "DeviceModel", Name: m.Name, What: Gone})
		}
	}
	for i := range devices {
		if d := &devices[i]; ours(d.Labels, r) && !slices.ContainsFunc(r.Devices, func(w v1alpha1.Device) bool { return w.Name == d.Name && w.Namespace == d.Namespace }) {
			out = append(out, Change{Kind: "Device", Name: d.Name, What: Gone})
		}
	}
	return out, nil
}

func ours(labels map[string]string, r Result) bool {
	source, ok := labels[LabelSource]
	return ok && len(r.Models) > 0 && r.Models[0].Labels[LabelSource] == source
}

func change(kind, name string, want, have any) (Change, error) {
	c := Change{Kind: kind, Name: name, What: New}
	if have == nil {
		return c, nil
	}
	w, err := plain(want)
	if err != nil {
		return c, err
	}
	h, err := plain(have)
	if err != nil {
		return c, err
	}
	differ("", w, h, &c.Lines)
	slices.SortFunc(c.Lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	c.What = Same
	if len(c.Lines) > 0 {
		c.What = Changed
	}
	return c, nil
}

func plain(v any) (out any, err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return out, json.Unmarshal(b, &out)
}

// differ compares what is wanted with what is there. A list of things with names is a
// set by their names, of which what is no more wanted is told; other fields that are
// not wanted are somebody else's.
func differ(path string, want, have any, lines *[]string) {
	if w, ok := want.(map[string]any); ok {
		h, _ := have.(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(w)) {
			there, ok := h[key]
			if !ok {
				there = absent{}
			}
			differ(strings.TrimPrefix(path+"."+key, "."), w[key], there, lines)
		}
		return
	}
	if w, ok := named(want); ok {
		h, _ := named(have)
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if there, ok := h[name]; ok {
				differ(path+"["+name+"]", w[name], there, lines)
			} else {
				*lines = append(*lines, fmt.Sprintf("+ %s[%s] %s", path, name, text(w[name])))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(h)) {
			if _, ok := w[name]; !ok {
				*lines = append(*lines, fmt.Sprintf("- %s[%s]", path, name))
			}
		}
		return
	}
	if strings, ok := texts(want); ok { // a set of which others may have a part
		there, _ := texts(have)
		strings = slices.DeleteFunc(strings, func(s string) bool { return slices.Contains(there, s) })
		if len(strings) > 0 {
			*lines = append(*lines, fmt.Sprintf("+ %s: %s", path, text(strings)))
		}
		return
	}
	if _, none := have.(absent); none {
		*lines = append(*lines, fmt.Sprintf("+ %s: %s", path, text(want)))
	} else if w, h := text(want), text(have); w != h {
		*lines = append(*lines, fmt.Sprintf("~ %s: %s -> %s", path, h, w))
	}
}

// texts takes a list of strings.
func texts(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, false
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, false
		}
	}
	return out, true
}

// absent is a field that is not there.
type absent struct{}

// named takes a list of objects with names, or numbers, of their own.
func named(v any) (map[string]any, bool) {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, false
	}
	out := make(map[string]any, len(list))
	for _, e := range list {
		o, ok := e.(map[string]any)
		if !ok {
			return nil, false
		}
		key, ok := o["number"] // of an enumeration's value: names of two may be the same
		if !ok {
			key, ok = o["name"]
		}
		if !ok {
			return nil, false
		}
		out[fmt.Sprint(key)] = o
	}
	return out, true
}

// text is a value in one short line.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return cut(string(b), 200)
}
