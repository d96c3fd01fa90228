package onboard

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// modelling is a DeviceModel in the making, with its Devices.
type modelling struct {
	kind, typeName string
	devices        []*instance
	paths          map[string]*member
	order          []string // of paths
	definitions    map[string]v1alpha1.TypeDefinition
	types          []v1alpha1.TypeDefinition // of the model
}

// member is a property or a method of a model.
type member struct {
	name     string
	of       string // the Device where it was found first
	property *v1alpha1.Property
	method   *v1alpha1.Method
}

// make adds the model and its Devices to r.
func (m *modelling) make(r *Result, into *Into, types []v1alpha1.TypeDefinition, known map[string]string, modelNames, deviceNames names) error {
	m.definitions = make(map[string]v1alpha1.TypeDefinition, len(types))
	for _, t := range types {
		m.definitions[t.Name] = t
	}
	name := objectName(into.Name)
	if m.kind != "" {
		name = objectName(into.Name, m.typeName)
	}
	model := into.model(modelNames.object(name, m.kind))
	model.Spec.Description = cut(m.typeName, maxDescription)
	objects := make([]string, len(m.devices))
	for i, d := range m.devices {
		objects[i] = deviceNames.object(objectName(append([]string{into.Name}, d.path...)...), d.id)
	}
	m.name(objects, known)
	for i, d := range m.devices {
		dev := into.device(objects[i], model.Name)
		for _, l := range d.leaves {
			m.add(r, &dev, l)
		}
		slices.SortFunc(dev.Spec.Properties, func(a, b v1alpha1.DeviceProperty) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(dev.Spec.Methods, func(a, b v1alpha1.DeviceMethod) int { return strings.Compare(a.Name, b.Name) })
		some, err := fits(len(dev.Spec.Properties), len(dev.Spec.Methods))
		if err != nil {
			return err
		}
		if some {
			r.Devices = append(r.Devices, dev)
		}
	}
	model.Spec.Types = m.types
	for _, key := range m.order {
		switch e := m.paths[key]; {
		case e.property != nil:
			model.Spec.Properties = append(model.Spec.Properties, *e.property)
		case e.method != nil:
			model.Spec.Methods = append(model.Spec.Methods, *e.method)
		}
	}
	some, err := fits(len(model.Spec.Properties), len(model.Spec.Methods))
	if some {
		r.Models = append(r.Models, model)
	}
	return err
}

// fits says whether a model or a Device has anything in it, and fails when it has more
// than the API takes.
func fits(properties, methods int) (some bool, err error) {
	switch {
	case properties > maxProperties:
		return false, tooMany("variables", properties, maxProperties)
	case methods > maxMethods:
		return false, tooMany("methods", methods, maxMethods)
	}
	return properties+methods > 0, nil
}

// object is take for names of Kubernetes.
func (n names) object(want, key string) string {
	if has, taken := n[want]; taken && has != key {
		want = objectName(want, short(key))
	}
	n[want] = key
	return want
}

// name gives each path its name: first those that the cluster has, so that no new node
// takes a name away.
func (m *modelling) name(objects []string, known map[string]string) {
	taken := map[survey.Class]names{survey.Variable: {}, survey.Method: {}}
	for _, fresh := range []bool{false, true} {
		for i, d := range m.devices {
			for _, l := range d.leaves {
				key := l.key
				if m.paths[key] != nil || taken[l.Class] == nil {
					continue
				}
				address := l.ID
				if l.Class == survey.Method {
					address += "\x00" + l.Parent
				}
				name, ok := known[objects[i]+"\x00"+address]
				if !ok && !fresh {
					continue
				}
				if !ok {
					name = propertyName(l.path)
				}
				m.paths[key] = &member{name: taken[l.Class].take(name, key), of: objects[i]}
			}
		}
	}
	for key := range m.paths {
		m.order = append(m.order, key)
	}
	slices.SortFunc(m.order, func(a, b string) int { return strings.Compare(m.paths[a].name, m.paths[b].name) })
}

// add gives a Device a property or a method, and the model what it lacks of it.
func (m *modelling) add(r *Result, dev *v1alpha1.Device, l leaf) {
	e := m.paths[l.key]
	what := dev.Name + ": " + strings.Join(l.path, "/")
	switch {
	case l.Unmapped != "":
		r.leave(what, "%s", l.Unmapped)
	case l.Class == survey.Method:
		m.addMethod(r, dev, e, l, what)
	case l.Value == nil:
		r.leave(what, "the edge does not say its type")
	case l.Access == "":
		r.leave(what, "this user may neither read nor write it")
	default:
		p := v1alpha1.Property{
			Name: e.name, Description: cut(l.Description, maxDescription), ValueType: *l.Value, Unit: cut(l.Unit, maxUnit), Access: l.Access,
		}
		if isNumber(p.Type) {
			p.Min, p.Max = l.Min, l.Max
		}
		if err := m.need(p.ValueType); err != nil {
			r.leave(what, "%v", err)
			return
		}
		if e.property == nil {
			e.property = &p
		} else if err := merge(e.property, p); err != nil {
			r.leave(what, "%v in %s, which has the same model", err, e.of)
			return
		}
		dev.Spec.Properties = append(dev.Spec.Properties, v1alpha1.DeviceProperty{Name: e.name, OPCUA: &v1alpha1.OPCUAProperty{NodeID: l.ID}})
	}
}

func (m *modelling) addMethod(r *Result, dev *v1alpha1.Device, e *member, l leaf, what string) {
	method := v1alpha1.Method{Name: e.name, Description: cut(l.Description, maxDescription), Inputs: l.Inputs, Outputs: l.Outputs}
	for _, f := range slices.Concat(l.Inputs, l.Outputs) {
		if err := m.need(f.ValueType); err != nil {
			r.leave(what, "argument %s: %v", f.Name, err)
			return
		}
	}
	switch {
	case e.method == nil:
		e.method = &method
	case !reflect.DeepEqual(*e.method, method):
		r.leave(what, "it takes or gives other things in %s, which has the same model", e.of)
		return
	}
	dev.Spec.Methods = append(dev.Spec.Methods, v1alpha1.DeviceMethod{Name: e.name, OPCUA: v1alpha1.OPCUAMethod{ObjectID: l.Parent, MethodID: l.ID}})
}

// merge widens a model's property by what another Device has at the same place.
func merge(p *v1alpha1.Property, other v1alpha1.Property) error {
	if !reflect.DeepEqual(p.ValueType, other.ValueType) {
		return fmt.Errorf("it is %s here and %s", other.Type, p.Type)
	}
	if p.Access != other.Access {
		p.Access = v1alpha1.ReadWrite
	}
	if p.Unit != other.Unit {
		p.Unit = ""
	}
	if p.Min == nil || other.Min == nil || p.Max == nil || other.Max == nil {
		p.Min, p.Max = nil, nil
		return nil
	}
	low, high := min(*p.Min, *other.Min), max(*p.Max, *other.Max)
	p.Min, p.Max = &low, &high
	return nil
}

func isNumber(t v1alpha1.Type) bool {
	return strings.HasPrefix(string(t), "int") || strings.HasPrefix(string(t), "uint") || strings.HasPrefix(string(t), "float")
}

// need adds the enumerations and structures of a type to the model, all or none.
func (m *modelling) need(t v1alpha1.ValueType) error {
	if t.TypeName == "" {
		return nil
	}
	var add []v1alpha1.TypeDefinition
	has := func(name string) bool {
		named := func(d v1alpha1.TypeDefinition) bool { return d.Name == name }
		return slices.ContainsFunc(m.types, named) || slices.ContainsFunc(add, named)
	}
	for names := []string{t.TypeName}; len(names) > 0; names = names[1:] {
		if has(names[0]) {
			continue
		}
		def, ok := m.definitions[names[0]]
		if !ok {
			return fmt.Errorf("type %s was not told by the edge", names[0])
		}
		add = append(add, def)
		for _, f := range def.Fields {
			if f.TypeName != "" {
				names = append(names, f.TypeName)
			}
		}
	}
	if len(m.types)+len(add) > maxTypes {
		return fmt.Errorf("type %s would be more than %d types in one model", t.TypeName, maxTypes)
	}
	m.types = append(m.types, add...)
	slices.SortFunc(m.types, func(a, b v1alpha1.TypeDefinition) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
