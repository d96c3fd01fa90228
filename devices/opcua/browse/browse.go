package browse

import (
	"context"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/session"
)

// Limits bound a walk.
type Limits struct {
	Nodes int // 0 is 100,000
	Depth int // 0 is 64
	// Skip are nodes that are left out, with what is below them only.
	Skip []*ua.NodeID
	// Progress is told how many nodes there are so far, after each level; may be nil.
	Progress func(nodes int)
}

// ErrTooMany is in the chain when there were more nodes than the limit: what was
// found is given beside it.
var ErrTooMany = errors.New("more nodes than the limit")

// Node is a node as onboarding needs it.
type Node struct {
	ID             *ua.NodeID
	Parent         *ua.NodeID // the node below which it was found first
	Class          ua.NodeClass
	BrowseName     ua.QualifiedName
	DisplayName    string
	TypeDefinition *ua.NodeID // of objects and variables, else nil

	// Of variables only.
	DataType    *ua.NodeID
	ValueRank   int32
	AccessLevel uint8
	Dimensions  []uint32
	Description string
	// Of properties of variables, where they are there.
	Unit  *ua.EUInformation
	Range *ua.Range

	// Of methods only.
	Inputs, Outputs []*ua.Argument
}

// Walk browses from root along hierarchical references. The server may give the
// same node many times, and go in circles.
func Walk(ctx context.Context, s *session.Session, root *ua.NodeID, l Limits) ([]Node, error) {
	if l.Nodes == 0 {
		l.Nodes = 100_000
	}
	if l.Depth == 0 {
		l.Depth = 64
	}
	w := walk{s: s, limits: l, at: map[string]int{root.String(): -1}}
	for _, n := range l.Skip {
		w.at[n.String()] = -1
	}
	level := []*ua.NodeID{root}
	for depth := 0; len(level) > 0 && depth < l.Depth; depth++ {
		var err error
		if level, err = w.below(ctx, level); err != nil && !errors.Is(err, ErrTooMany) {
			return nil, err
		} else if err != nil {
			return w.nodes, errors.Join(err, w.attributes(ctx))
		}
		if l.Progress != nil {
			l.Progress(len(w.nodes))
		}
	}
	return w.nodes, w.attributes(ctx)
}

type walk struct {
	s      *session.Session
	limits Limits
	nodes  []Node
	at     map[string]int // index in nodes
	extras []extra
}

// extra is a property of a variable, or a method, that tells of it.
type extra struct {
	of   int
	id   *ua.NodeID
	name string
}

// below browses one level and gives the next.
func (w *walk) below(ctx context.Context, level []*ua.NodeID) (next []*ua.NodeID, err error) {
	var ask []*ua.BrowseDescription
	for _, n := range level {
		ask = append(ask, &ua.BrowseDescription{
			NodeID: n, BrowseDirection: ua.BrowseDirectionForward, ReferenceTypeID: ua.NewNumericNodeID(0, id.HierarchicalReferences), IncludeSubtypes: true,
			NodeClassMask: uint32(ua.NodeClassObject | ua.NodeClassVariable | ua.NodeClassMethod), ResultMask: uint32(ua.BrowseResultMaskAll),
		})
	}
	results, err := w.s.Browse(ctx, ask)
	if err != nil {
		return nil, err
	}
	for i, refs := range results {
		for _, r := range refs {
			if r == nil || r.NodeID == nil || r.BrowseName == nil || r.NodeID.ServerIndex != 0 {
				continue
			}
			n := r.NodeID.NodeID
			if isProperty(r) {
				w.property(level[i], r)
				continue
			}
			if _, seen := w.at[n.String()]; seen {
				continue
			}
			if len(w.nodes) >= w.limits.Nodes {
				return nil, fmt.Errorf("%w: %d", ErrTooMany, w.limits.Nodes)
			}
			w.at[n.String()] = len(w.nodes)
			node := Node{ID: n, Parent: level[i], Class: r.NodeClass, BrowseName: *r.BrowseName}
			if r.DisplayName != nil {
				node.DisplayName = r.DisplayName.Text
			}
			if r.TypeDefinition != nil {
				node.TypeDefinition = r.TypeDefinition.NodeID
			}
			w.nodes = append(w.nodes, node)
			next = append(next, n)
		}
	}
	return next, nil
}

func isProperty(r *ua.ReferenceDescription) bool {
	return r.ReferenceTypeID != nil && r.ReferenceTypeID.Namespace() == 0 && r.ReferenceTypeID.IntID() == id.HasProperty
}

const inputs = "InputArguments"

func (w *walk) property(of *ua.NodeID, r *ua.ReferenceDescription) {
	i, ok := w.at[of.String()]
	if !ok || i < 0 || r.BrowseName.NamespaceIndex != 0 {
		return
	}
	switch name := r.BrowseName.Name; name {
	case "EngineeringUnits", "EURange", inputs, "OutputArguments":
		w.extras = append(w.extras, extra{i, r.NodeID.NodeID, name})
	}
}

// attributes reads what variables are, all in few requests.
func (w *walk) attributes(ctx context.Context) error {
	of := []ua.AttributeID{ua.AttributeIDDataType, ua.AttributeIDValueRank, ua.AttributeIDUserAccessLevel, ua.AttributeIDArrayDimensions, ua.AttributeIDDescription}
	var ask []session.Attribute
	var which []int
	for i, n := range w.nodes {
		if n.Class != ua.NodeClassVariable {
			continue
		}
		which = append(which, i)
		for _, a := range of {
			ask = append(ask, session.Attribute{Node: n.ID, ID: a})
		}
	}
	for _, e := range w.extras {
		ask = append(ask, session.Attribute{Node: e.id, ID: ua.AttributeIDValue})
	}
	results, err := w.s.Read(ctx, ask)
	if err != nil {
		return err
	}
	value := func(i int) any {
		if results[i] == nil || results[i].Value == nil {
			return nil
		}
		return results[i].Value.Value()
	}
	for j, i := range which {
		n := &w.nodes[i]
		n.DataType, _ = value(len(of) * j).(*ua.NodeID)
		n.ValueRank, _ = value(len(of)*j + 1).(int32)
		n.AccessLevel, _ = value(len(of)*j + 2).(uint8)
		n.Dimensions, _ = value(len(of)*j + 3).([]uint32)
		if text, ok := value(len(of)*j + 4).(*ua.LocalizedText); ok && text != nil {
			n.Description = text.Text
		}
	}
	for j, e := range w.extras {
		w.nodes[e.of].tell(e.name, value(len(of)*len(which)+j))
	}
	return nil
}

// tell takes the value of a property.
func (n *Node) tell(name string, value any) {
	switch v := value.(type) {
	case *ua.ExtensionObject:
		switch body := v.Value.(type) {
		case *ua.EUInformation:
			n.Unit = body
		case *ua.Range:
			n.Range = body
		}
	case []*ua.ExtensionObject:
		for _, o := range v {
			a, ok := o.Value.(*ua.Argument)
			switch {
			case !ok || n.Class != ua.NodeClassMethod:
			case name == inputs:
				n.Inputs = append(n.Inputs, a)
			default:
				n.Outputs = append(n.Outputs, a)
			}
		}
	}
}
