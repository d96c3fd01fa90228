package onboard

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Shape is what of a server becomes Devices, and how.
type Shape struct {
	// Flat makes one Device of everything.
	Flat bool
	// Match is a pattern for names on the way to a variable or method, as in
	// "Hall 1/*/Speed": * is anything, also several names. "" is all.
	Match string
}

// OPCUA makes objects of what a browse found. Objects of a type of their own, the
// outermost, become a Device each, with one DeviceModel for each type; all else becomes
// one Device with a model of its own. The error says what to ask for instead.
func OPCUA(f Found, shape Shape, into Into) (Result, error) {
	t := newTree(f)
	var r Result
	models := map[string]*modelling{} // by type, "" for all else
	for _, d := range t.devices(shape) {
		m := models[d.kind]
		if m == nil {
			m = &modelling{kind: d.kind, typeName: d.typeName, paths: map[string]*member{}}
			models[d.kind] = m
		}
		m.devices = append(m.devices, d)
	}
	kinds := make([]*modelling, 0, len(models))
	for _, m := range models {
		kinds = append(kinds, m)
	}
	slices.SortFunc(kinds, func(a, b *modelling) int {
		return cmp.Or(cmp.Compare(a.typeName, b.typeName), cmp.Compare(a.kind, b.kind))
	})
	modelNames, deviceNames := names{}, names{}
	known := knownNames(into.Known)
	for _, m := range kinds {
		if err := m.make(&r, &into, f.Types, known, modelNames, deviceNames); err != nil {
			return r, err
		}
	}
	r.tidy()
	return r, nil
}

// matcher is a function for Match.
func (s Shape) matcher() func(path string) bool {
	if s.Match == "" {
		return func(string) bool { return true }
	}
	parts := strings.Split(s.Match, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString // nothing in it can be wrong
}

// tree is what was found, by parents.
type tree struct {
	nodes    map[string]*survey.Node
	children map[string][]*survey.Node
	roots    []*survey.Node
}

func newTree(f Found) *tree {
	t := &tree{nodes: make(map[string]*survey.Node, len(f.Nodes)), children: map[string][]*survey.Node{}}
	for i := range f.Nodes {
		if n := &f.Nodes[i]; t.nodes[n.ID] == nil {
			t.nodes[n.ID] = n
		}
	}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if t.nodes[n.ID] != n {
			continue
		}
		if t.nodes[n.Parent] == nil || n.Parent == n.ID {
			t.roots = append(t.roots, n)
		} else {
			t.children[n.Parent] = append(t.children[n.Parent], n)
		}
	}
	order := func(list []*survey.Node) {
		slices.SortFunc(list, func(a, b *survey.Node) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
		})
	}
	order(t.roots)
	for _, list := range t.children {
		order(list)
	}
	return t
}

// instance is what becomes a Device.
type instance struct {
	kind, typeName string // of its type; "" for all that has none
	id             string
	path           []string // of names, from where the browse began
	leaves         []leaf
	keys           map[string]bool // of leaves
}

// leaf is a variable or a method of an instance.
type leaf struct {
	*survey.Node
	path []string // from the instance
	// key is the same for the same path in another instance. Of two nodes that a server
	// gives the same path, the second has one of its own.
	key string
}

// ownType reports whether a node is an object of a type that is not OPC UA's own.
func ownType(n *survey.Node) bool {
	return n.Class == survey.Object && n.TypeName != "" && strings.HasPrefix(n.Type, "nsu=")
}

// devices splits the tree. Objects of a type without variables and methods are none.
func (t *tree) devices(shape Shape) []*instance {
	match := shape.matcher()
	rest := &instance{keys: map[string]bool{}}
	all := []*instance{rest}
	visited := map[string]bool{} // a server's answer may have circles
	var walk func(n *survey.Node, of *instance, from, whole []string)
	walk = func(n *survey.Node, of *instance, from, whole []string) {
		if visited[n.ID] || len(whole) > maxName {
			return
		}
		visited[n.ID] = true
		whole = append(slices.Clip(whole), n.Name)
		from = append(slices.Clip(from), n.Name)
		if !shape.Flat && of == rest && ownType(n) {
			of = &instance{kind: n.Type, typeName: n.TypeName, id: n.ID, path: whole, keys: map[string]bool{}}
			all = append(all, of)
			from = nil
		}
		if n.Class != survey.Object && match(strings.Join(whole, "/")) {
			key := string(n.Class) + "\x00" + strings.Join(from, "\x00")
			if of.keys[key] {
				key += "\x00" + n.ID
			}
			of.keys[key] = true
			of.leaves = append(of.leaves, leaf{n, from, key})
		}
		for _, c := range t.children[n.ID] {
			walk(c, of, from, whole)
		}
	}
	for _, n := range t.roots {
		walk(n, rest, nil, nil)
	}
	return slices.DeleteFunc(all, func(d *instance) bool { return len(d.leaves) == 0 })
}

// knownNames gives the names of properties and methods by Device and address.
func knownNames(known []v1alpha1.Device) map[string]string {
	out := map[string]string{}
	for i := range known {
		d := &known[i]
		for _, p := range d.Spec.Properties {
			if p.OPCUA != nil {
				out[d.Name+"\x00"+p.OPCUA.NodeID] = p.Name
			}
		}
		for _, m := range d.Spec.Methods {
			out[d.Name+"\x00"+m.OPCUA.MethodID+"\x00"+m.OPCUA.ObjectID] = m.Name
		}
	}
	return out
}

// tooMany says what to do about more than a Device has room for.
func tooMany(what string, n, most int) error {
	return fmt.Errorf("%d %s would be of one Device, which has room for %d: browse a part of the server with --root, or take only some with --match", n, what, most)
}
