package values

import (
	"context"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/codec"
	"github.com/skerry-io/skerry/devices/opcua/session"
)

const (
	maxTypes  = 4096 // of one server
	maxLevels = 32   // of subtypes, and of structures in structures
)

// Reader reads attributes and follows references; session.Session does.
type Reader interface {
	Read(ctx context.Context, attributes []session.Attribute) ([]*ua.DataValue, error)
	Browse(ctx context.Context, nodes []*ua.BrowseDescription) ([][]*ua.ReferenceDescription, error)
}

// kind is what is known of a data type.
type kind struct {
	name    string
	builtin ua.TypeID // 0 for structures; Int32 for enumerations
	enum    map[int32]string
	fields  []field // of a structure
	layout  ua.StructureType
	known   bool
	// encoding is the id of the binary encoding of a structure.
	encoding *ua.NodeID
}

type field struct {
	name     string
	dataType *ua.NodeID
	rank     int32
	optional bool
}

// Types are a server's data types as far as they were needed. They belong to one
// session, since namespaces change their numbers between sessions. Load is for one
// goroutine at a time, what reads may run beside others that read.
type Types struct {
	byID       map[string]*kind
	byEncoding map[string]*kind
}

// NewTypes knows the built-in types.
func NewTypes() *Types {
	t := &Types{byID: map[string]*kind{}, byEncoding: map[string]*kind{}}
	for i := ua.TypeID(1); i <= 25; i++ { // their ids are those of their data types (Part 6, 5.1.2)
		t.byID[key(ua.NewNumericNodeID(0, uint32(i)))] = &kind{builtin: i, known: true}
	}
	for dataType, builtin := range map[uint32]ua.TypeID{
		id.Enumeration: ua.TypeIDInt32, id.Duration: ua.TypeIDDouble, id.UtcTime: ua.TypeIDDateTime, id.LocaleID: ua.TypeIDString,
		id.Integer: 0, id.UInteger: 0, id.Number: 0,
	} {
		t.byID[key(ua.NewNumericNodeID(0, dataType))] = &kind{builtin: builtin, known: true}
	}
	return t
}

// key makes ids comparable: the same id has several encodings.
func key(n *ua.NodeID) string {
	if n == nil {
		return ""
	}
	return n.String()
}

// Load learns data types and all that they are made of. A type that cannot be
// learned stays unknown: its values are given as bytes. The error is one of the
// session.
func (t *Types) Load(ctx context.Context, r Reader, dataTypes []*ua.NodeID) error {
	for range maxLevels {
		var missing []*ua.NodeID
		for _, d := range dataTypes {
			if d == nil || t.byID[key(d)] != nil || len(t.byID) >= maxTypes {
				continue
			}
			t.byID[key(d)] = &kind{}
			missing = append(missing, d)
		}
		if len(missing) == 0 {
			return nil
		}
		next, err := t.learn(ctx, r, missing)
		if err != nil {
			return err
		}
		dataTypes = next
	}
	return nil
}

// learn reads definitions and gives the types of their fields.
func (t *Types) learn(ctx context.Context, r Reader, ids []*ua.NodeID) (next []*ua.NodeID, err error) {
	var attributes []session.Attribute
	for _, d := range ids {
		attributes = append(attributes, session.Attribute{Node: d, ID: ua.AttributeIDDataTypeDefinition}, session.Attribute{Node: d, ID: ua.AttributeIDBrowseName})
	}
	results, err := r.Read(ctx, attributes)
	if err != nil {
		return nil, fmt.Errorf("data types: %w", err)
	}
	var plain []*ua.NodeID
	for i, d := range ids {
		k := t.byID[key(d)]
		if name, ok := value(results[2*i+1]).(*ua.QualifiedName); ok {
			k.name = name.Name
		}
		object, _ := value(results[2*i]).(*ua.ExtensionObject)
		if object == nil {
			plain = append(plain, d)
			continue
		}
		switch def := object.Value.(type) {
		case *ua.EnumDefinition:
			k.enumerate(def)
		case *ua.StructureDefinition:
			next = append(next, t.structure(k, def)...)
		default:
			plain = append(plain, d)
		}
	}
	return next, t.fromSupertypes(ctx, r, plain)
}

func (k *kind) enumerate(def *ua.EnumDefinition) {
	k.known, k.builtin, k.enum = true, ua.TypeIDInt32, make(map[int32]string, len(def.Fields))
	for _, f := range def.Fields {
		if f != nil && int64(int32(f.Value)) == f.Value {
			name := f.Name
			if name == "" && f.DisplayName != nil {
				name = f.DisplayName.Text
			}
			k.enum[int32(f.Value)] = name
		}
	}
}

// structure takes a definition and gives the types of its fields.
func (t *Types) structure(k *kind, def *ua.StructureDefinition) (needs []*ua.NodeID) {
	k.known, k.layout, k.encoding = true, def.StructureType, def.DefaultEncodingID
	for _, f := range def.Fields {
		if f == nil {
			continue
		}
		k.fields = append(k.fields, field{f.Name, f.DataType, f.ValueRank, f.IsOptional})
		needs = append(needs, f.DataType)
	}
	if k.encoding != nil {
		codec.KeepRaw(k.encoding)
		t.byEncoding[key(k.encoding)] = k
	}
	return needs
}

// fromSupertypes finds what types without a definition are made of: a server's own
// "Temperature" is some built-in type, and an old server's enumeration has its names
// in a property.
func (t *Types) fromSupertypes(ctx context.Context, r Reader, ids []*ua.NodeID) error {
	at := make(map[string]*ua.NodeID, len(ids)) // the type to where the way up has come
	for _, d := range ids {
		at[key(d)] = d
	}
	for range maxLevels {
		var nodes []*ua.BrowseDescription
		var whose []string
		for k, d := range at {
			nodes = append(nodes, &ua.BrowseDescription{
				NodeID: d, BrowseDirection: ua.BrowseDirectionInverse, ReferenceTypeID: ua.NewNumericNodeID(0, id.HasSubtype), ResultMask: 0,
			})
			whose = append(whose, k)
		}
		if len(nodes) == 0 {
			return nil
		}
		found, err := r.Browse(ctx, nodes)
		if err != nil {
			return fmt.Errorf("data types: %w", err)
		}
		for i, refs := range found {
			if len(refs) == 0 || refs[0].NodeID == nil {
				delete(at, whose[i])
				continue
			}
			up := refs[0].NodeID.NodeID
			if k := t.byID[key(up)]; k != nil && k.known {
				own := t.byID[whose[i]]
				own.known, own.builtin, own.enum, own.fields, own.encoding = true, k.builtin, k.enum, k.fields, k.encoding
				delete(at, whose[i])
				continue
			}
			at[whose[i]] = up
		}
	}
	return nil
}

// value is what a DataValue holds, nil for nothing.
func value(v *ua.DataValue) any {
	if v == nil || v.Value == nil {
		return nil
	}
	return v.Value.Value()
}
