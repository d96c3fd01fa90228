package onboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// KubeEdgeVersion is the version of KubeEdge's objects that KubeEdge reads.
const KubeEdgeVersion = "devices.kubeedge.io/v1beta1"

// The parts of KubeEdge's v1beta1 that have something to say here
// (kubeedge/kubeedge, staging/src/github.com/kubeedge/api/apis/devices/v1beta1).
type (
	keObject struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
		Spec  json.RawMessage   `json:"spec"`
		Items []json.RawMessage `json:"items"` // of a List
	}
	keModel struct {
		Protocol   string       `json:"protocol"`
		Properties []keProperty `json:"properties"`
		ConfigData keData       `json:"protocolConfigData"`
	}
	keProperty struct {
		Name        string     `json:"name"`
		Description string     `json:"description"`
		Type        string     `json:"type"`
		AccessMode  string     `json:"accessMode"`
		Minimum     string     `json:"minimum"`
		Maximum     string     `json:"maximum"`
		Unit        string     `json:"unit"`
		Visitors    *keVisitor `json:"visitors"`
	}
	keVisitor struct {
		ProtocolName string `json:"protocolName"`
		ConfigData   keData `json:"configData"`
	}
	keDevice struct {
		ModelRef   struct{ Name string } `json:"deviceModelRef"`
		NodeName   string                `json:"nodeName"`
		Protocol   keVisitor             `json:"protocol"`
		Properties []keDeviceProperty    `json:"properties"`
		Methods    []struct {
			Name string `json:"name"`
		} `json:"methods"`
	}
	keDeviceProperty struct {
		Name    string `json:"name"`
		Desired *struct {
			Value string `json:"value"`
		} `json:"desired"`
		Visitors         *keVisitor      `json:"visitors"`
		ReportCycle      int64           `json:"reportCycle"`
		CollectCycle     int64           `json:"collectCycle"`
		ReportToCloud    bool            `json:"reportToCloud"`
		PushMethod       json.RawMessage `json:"pushMethod"`
		AnomalyDetection json.RawMessage `json:"anomalyDetection"`
	}
	// keData is a free map, whose keys mappers spell as they like.
	keData map[string]any
)

// get finds a key, whatever its case and place: older mappers nest.
func (d keData) get(names ...string) (any, bool) {
	keys := slices.Sorted(maps.Keys(d))
	for _, key := range keys {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, key) }) {
			return d[key], true
		}
	}
	for _, key := range keys {
		if inner, ok := d[key].(map[string]any); ok {
			if v, ok := keData(inner).get(names...); ok {
				return v, true
			}
		}
	}
	return nil, false
}

func (d keData) text(names ...string) string {
	v, ok := d.get(names...)
	if !ok || v == nil {
		return ""
	}
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

func (d keData) number(names ...string) (float64, bool) {
	f, err := strconv.ParseFloat(d.text(names...), 64)
	return f, err == nil
}

func (d keData) truth(names ...string) bool { return strings.EqualFold(d.text(names...), "true") }

// KubeEdge makes objects of KubeEdge's DeviceModels and Devices, which are JSON: one
// of each for one of theirs, with the same names. Left says what of them has no place
// here, which is what to look at before an apply. An object whose namespace is empty
// gets into's; a node that is not empty in into takes the place of theirs.
func KubeEdge(objects [][]byte, into Into) (Result, error) {
	im := &importing{into: into, models: map[string]*keModel{}, made: map[string]*v1alpha1.DeviceModel{}}
	var devs []keObject
	for n, text := range objects {
		var err error
		if devs, err = im.read(text, devs, 0); err != nil {
			return im.r, fmt.Errorf("document %d: %w", n+1, err)
		}
	}
	if len(im.models) == 0 && len(devs) == 0 {
		return im.r, fmt.Errorf("there is no Device and no DeviceModel of %s", KubeEdgeVersion)
	}
	for i := range devs {
		if err := im.device(&devs[i]); err != nil {
			return im.r, fmt.Errorf("the Device %s: %w", devs[i].Metadata.Name, err)
		}
	}
	for _, m := range im.made {
		im.r.Models = append(im.r.Models, *m)
	}
	im.r.tidy()
	return im.r, nil
}

type importing struct {
	into   Into
	r      Result
	models map[string]*keModel // by namespace and name
	made   map[string]*v1alpha1.DeviceModel
}

func (im *importing) read(text []byte, devs []keObject, depth int) ([]keObject, error) {
	var o keObject
	if err := json.Unmarshal(text, &o); err != nil {
		return devs, fmt.Errorf("it can't be read: %w", err)
	}
	if o.Metadata.Namespace == "" {
		o.Metadata.Namespace = im.into.Namespace
	}
	switch {
	case strings.HasSuffix(o.Kind, "List") && depth == 0:
		for _, item := range o.Items {
			var err error
			if devs, err = im.read(item, devs, depth+1); err != nil {
				return devs, err
			}
		}
		return devs, nil
	case o.APIVersion != KubeEdgeVersion && strings.HasPrefix(o.APIVersion, "devices.kubeedge.io/"):
		return devs, fmt.Errorf("%s %s is of %s; only %s can be imported: have KubeEdge convert it first", o.Kind, o.Metadata.Name, o.APIVersion, KubeEdgeVersion)
	case o.APIVersion == KubeEdgeVersion && o.Metadata.Name == "":
		return devs, fmt.Errorf("a %s without metadata.name", o.Kind)
	case o.APIVersion == KubeEdgeVersion && o.Kind == "Device":
		return append(devs, o), nil
	case o.APIVersion == KubeEdgeVersion && o.Kind == "DeviceModel":
		m := &keModel{}
		if err := json.Unmarshal(o.Spec, m); err != nil {
			return devs, fmt.Errorf("the DeviceModel %s: %w", o.Metadata.Name, err)
		}
		im.model(o, m)
		return devs, nil
	}
	im.r.leave(o.Kind+" "+o.Metadata.Name, "%s is nothing to import", o.APIVersion)
	return devs, nil
}

func (im *importing) model(o keObject, m *keModel) {
	key := o.Metadata.Namespace + "/" + o.Metadata.Name
	im.models[key] = m
	into := im.into
	into.Namespace = o.Metadata.Namespace
	model := into.model(o.Metadata.Name)
	seen := names{}
	for _, p := range m.Properties {
		what := "DeviceModel " + o.Metadata.Name + ", property " + p.Name
		name := propertyName([]string{p.Name})
		if name != p.Name {
			im.r.leave(what, "its name becomes %s", name)
		}
		if _, there := seen[name]; there {
			im.r.leave(what, "the name is there twice, the first counts")
			continue
		}
		seen[name] = name
		out := v1alpha1.Property{Name: name, Description: cut(p.Description, maxDescription), Unit: cut(p.Unit, maxUnit), Access: v1alpha1.ReadOnly}
		switch p.AccessMode {
		case "ReadWrite":
			out.Access = v1alpha1.ReadWrite
		case "", "ReadOnly":
		default:
			im.r.leave(what, "accessMode %q is not known; it is ReadOnly", p.AccessMode)
		}
		var ok bool
		if out.Type, ok = keTypes(p.Type); !ok {
			im.r.leave(what, "type %q has nothing that is like it", p.Type)
			continue
		}
		out.Min, out.Max = bound(p.Minimum, out.Type), bound(p.Maximum, out.Type)
		if out.Min != nil && out.Max != nil && *out.Min > *out.Max {
			im.r.leave(what, "minimum %s is above maximum %s; the range is left out", p.Minimum, p.Maximum)
			out.Min, out.Max = nil, nil
		}
		model.Spec.Properties = append(model.Spec.Properties, out)
	}
	im.made[key] = &model
}

// bound reads an end of a range, nil for none.
func bound(text string, t v1alpha1.Type) *float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) || !isNumber(t) {
		return nil
	}
	return &f
}

func keTypes(t string) (v1alpha1.Type, bool) {
	types := map[string]v1alpha1.Type{
		"INT": v1alpha1.TypeInt64, "FLOAT": v1alpha1.TypeFloat32, "DOUBLE": v1alpha1.TypeFloat64, "STRING": v1alpha1.TypeString, "BOOLEAN": v1alpha1.TypeBool, "BYTES": v1alpha1.TypeBytes,
	}
	out, ok := types[strings.ToUpper(t)]
	return out, ok
}

var errProtocol = errors.New("protocol")

// device makes a Device of one of KubeEdge's.
func (im *importing) device(o *keObject) error {
	var d keDevice
	if err := json.Unmarshal(o.Spec, &d); err != nil {
		return err
	}
	what := "Device " + o.Metadata.Name
	key := o.Metadata.Namespace + "/" + d.ModelRef.Name
	model := im.made[key]
	if model == nil {
		im.r.leave(what, "its DeviceModel %s is not among the objects: give both at once", d.ModelRef.Name)
		return nil
	}
	into := im.into
	into.Namespace = o.Metadata.Namespace
	if into.Node == "" {
		into.Node = d.NodeName
	}
	var err error
	if into.Protocol, err = im.protocol(what, &d, im.models[key]); errors.Is(err, errProtocol) {
		im.r.leave(what, "%v", err)
		return nil
	} else if err != nil {
		return err
	}
	dev := into.device(o.Metadata.Name, d.ModelRef.Name)
	if into.Node == "" {
		im.r.leave(what, "it has no nodeName: give one with --node")
	}
	for _, m := range d.Methods {
		im.r.leave(what+", method "+m.Name, "a method there is a name for properties; write the properties themselves")
	}
	for i := range d.Properties {
		im.property(what, &dev, model, im.models[key], &d.Properties[i])
	}
	im.r.Devices = append(im.r.Devices, dev)
	return nil
}
