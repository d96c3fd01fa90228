package opcua

import (
	"fmt"
	"math"
	"strings"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/browse"
	"github.com/skerry-io/skerry/devices/opcua/values"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// What a server's texts are cut to, in bytes: those of a model, where it has them.
const (
	maxAddress     = 1024
	maxBrowseName  = 512 // Part 3, 8.3, in characters
	maxDescription = 1024
	maxUnit        = 32
)

// Bits of an access level (Part 3, 8.57).
const (
	currentRead  = 1
	currentWrite = 2
)

// node says a node in the terms of a Device, false for one without an address there.
func (v *surveyor) node(n *browse.Node, types *values.Description, names map[string]string) (survey.Node, bool) {
	out := survey.Node{
		Name: bounded(n.BrowseName.Name, maxBrowseName), Display: bounded(n.DisplayName, maxBrowseName),
		Description: bounded(n.Description, maxDescription),
	}
	var ok bool
	if out.ID, ok = v.link.addressOf(n.ID); !ok {
		return out, false
	}
	out.Parent, _ = v.link.addressOf(n.Parent)                    // the root's, where there is none
	if n.TypeDefinition != nil && n.Class != ua.NodeClassMethod { // which have i=0
		out.Type, _ = v.link.addressOf(n.TypeDefinition)
		out.TypeName = bounded(names[n.TypeDefinition.String()], maxBrowseName)
	}
	switch n.Class {
	case ua.NodeClassObject:
		out.Class = survey.Object
	case ua.NodeClassMethod:
		out.Class = survey.Method
		out.Inputs, out.Outputs, out.Unmapped = methodTypes(n, types)
	case ua.NodeClassVariable:
		out.Class = survey.Variable
		variable(&out, n, types)
	default:
		return out, false
	}
	return out, true
}

func variable(out *survey.Node, n *browse.Node, types *values.Description) {
	switch n.AccessLevel & (currentRead | currentWrite) {
	case currentRead:
		out.Access = v1alpha1.ReadOnly
	case currentWrite:
		out.Access = v1alpha1.WriteOnly
	case currentRead | currentWrite:
		out.Access = v1alpha1.ReadWrite
	}
	if t, err := types.Type(n.DataType, n.ValueRank, n.Dimensions); err != nil {
		out.Unmapped = err.Error()
	} else {
		out.Value = &t
	}
	if n.Unit != nil && n.Unit.DisplayName != nil {
		out.Unit = bounded(n.Unit.DisplayName.Text, maxUnit)
	}
	if r := n.Range; r != nil && finite(r.Low) && finite(r.High) && r.Low < r.High {
		out.Min, out.Max = &r.Low, &r.High
	}
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func methodTypes(n *browse.Node, types *values.Description) (in, out []v1alpha1.FieldType, unmapped string) {
	for i, list := range [][]*ua.Argument{n.Inputs, n.Outputs} {
		seen := map[string]bool{}
		for _, a := range list {
			name := a.Name
			t, err := types.Type(a.DataType, a.ValueRank, a.ArrayDimensions)
			if err == nil && (name == "" || len(name) > 128 || seen[name]) {
				err = fmt.Errorf("the name is empty, too long or there twice")
			}
			if err != nil {
				return nil, nil, fmt.Sprintf("argument %q: %v", bounded(name, 128), err)
			}
			seen[name] = true
			f := v1alpha1.FieldType{Name: name, ValueType: t}
			if a.Description != nil {
				f.Description = bounded(a.Description.Text, maxDescription)
			}
			if i == 0 {
				in = append(in, f)
			} else {
				out = append(out, f)
			}
		}
	}
	return in, out, ""
}

// addressOf writes a node's id with its namespace's URI, false for one that a Device
// can't have.
func (l *link) addressOf(n *ua.NodeID) (string, bool) {
	if n == nil {
		return "", false
	}
	rest := withNamespace(n, 0).String()
	ns := int(n.Namespace())
	switch {
	case ns == 0:
	case ns >= len(l.namespaces) || l.namespaces[ns] == "" || strings.ContainsAny(l.namespaces[ns], ";\n\r"):
		return "", false
	default:
		rest = "nsu=" + l.namespaces[ns] + ";" + rest
	}
	return rest, len(rest) <= maxAddress && !strings.ContainsAny(rest, "\n\r")
}

// bounded cuts what a server can make as long as it likes, at a letter's end.
func bounded(s string, most int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}
