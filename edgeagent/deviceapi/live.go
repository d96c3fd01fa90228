package deviceapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	devicemanager "github.com/skerry-io/skerry/edgeagent/devices"
)

// device finds the Device of a request, open.
func (s *Server) device(r *http.Request) (devicemanager.Live, error) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	l, ok := s.devices.Live(namespace, name)
	switch {
	case !ok:
		return l, &problem{http.StatusNotFound, fmt.Sprintf("this edge has no Device %s/%s (yet): is it its spec.nodeName?", namespace, name)}
	case l.Fault != "":
		return l, &problem{http.StatusServiceUnavailable, fmt.Sprintf("device %s/%s is not open: %s", namespace, name, l.Fault)}
	}
	return l, nil
}

// known checks that the Device has a property with an address.
func known(d *devices.Device, name string) (v1alpha1.Property, error) {
	p, ok := d.Property(name)
	if ok && slices.ContainsFunc(d.Spec.Properties, func(dp v1alpha1.DeviceProperty) bool { return dp.Name == name }) {
		return p, nil
	}
	var near []string
	for _, dp := range d.Spec.Properties {
		if strings.Contains(strings.ToLower(dp.Name), strings.ToLower(name)) && len(near) < 5 {
			near = append(near, dp.Name)
		}
	}
	text := fmt.Sprintf("device %s has no property %q", d.Key(), name)
	if len(near) > 0 {
		text += "; it has " + strings.Join(near, ", ")
	}
	return p, &problem{http.StatusNotFound, text}
}

func (s *Server) read(w http.ResponseWriter, r *http.Request) error {
	l, err := s.device(r)
	if err != nil {
		return err
	}
	names := r.URL.Query()["property"]
	if len(names) == 0 {
		for _, p := range l.Device.Spec.Properties {
			names = append(names, p.Name)
		}
	}
	if len(names) > survey.MaxProperties {
		return badRequest("%d properties at once, %d are the most: name those that are wanted", len(names), survey.MaxProperties)
	}
	models := make([]v1alpha1.Property, len(names))
	for i, name := range names {
		if models[i], err = known(l.Device, name); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), liveTimeout)
	defer cancel()
	samples, err := l.Read(ctx, names)
	if err != nil {
		return fmt.Errorf("read from the device: %w", err)
	}
	out := survey.Values{Values: []survey.Value{}}
	for i, sample := range samples {
		v := survey.Value{Property: sample.Property, Quality: sample.Quality.String(), SourceTime: told(sample.Source), ServerTime: told(sample.Server)}
		if i < len(models) {
			v.Unit = models[i].Unit
		}
		if sample.Value != nil {
			raw, err := devices.EncodeJSON(sample.Value)
			if err != nil {
				return fmt.Errorf("property %s: %w", sample.Property, err)
			}
			v.Value = &v1alpha1.JSON{Raw: raw}
		}
		out.Values = append(out.Values, v)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// told is a time that JSON can say.
func told(t time.Time) time.Time {
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t.UTC()
}

func (s *Server) write(w http.ResponseWriter, r *http.Request) error {
	l, err := s.device(r)
	if err != nil {
		return err
	}
	var in survey.WriteRequest
	if err := body(r, &in); err != nil {
		return err
	}
	if len(in.Writes) == 0 || len(in.Writes) > survey.MaxProperties {
		return badRequest("%d writes; 1 to %d are possible at once", len(in.Writes), survey.MaxProperties)
	}
	// Nothing is written unless all can be understood.
	writes := make([]devices.Write, len(in.Writes))
	for i, wr := range in.Writes {
		p, err := known(l.Device, wr.Property)
		if err != nil {
			return err
		}
		v, err := devices.DecodeJSON(wr.Value.Raw, p.ValueType, &l.Device.Model)
		if err == nil {
			v, err = devices.CoerceProperty(v, p, &l.Device.Model)
		}
		if err != nil {
			return badRequest("property %s takes no %s: %v", wr.Property, wr.Value, err)
		}
		writes[i] = devices.Write{Property: wr.Property, Value: v}
	}
	ctx, cancel := context.WithTimeout(r.Context(), liveTimeout)
	defer cancel()
	errs := l.Write(ctx, writes)
	out := survey.Written{Results: make([]survey.WriteResult, len(writes))}
	for i, wr := range writes {
		out.Results[i].Property = wr.Property
		if i < len(errs) && errs[i] != nil {
			out.Results[i].Error = errs[i].Error()
		} else if d := desired(l.Device, wr.Property); d != nil && d.String() != in.Writes[i].Value.String() {
			out.Results[i].Note = fmt.Sprintf("the Device desires %s, which the edge writes again soon; change spec.properties[].desired to keep the value", d)
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func desired(d *devices.Device, property string) *v1alpha1.JSON {
	for i := range d.Spec.Properties {
		if d.Spec.Properties[i].Name == property {
			return d.Spec.Properties[i].Desired
		}
	}
	return nil
}

func (s *Server) call(w http.ResponseWriter, r *http.Request) error {
	l, err := s.device(r)
	if err != nil {
		return err
	}
	var in survey.CallRequest
	if err := body(r, &in); err != nil {
		return err
	}
	m, ok := l.Device.Method(in.Method)
	if !ok {
		names := make([]string, 0, len(l.Device.Model.Methods))
		for _, m := range l.Device.Model.Methods {
			names = append(names, m.Name)
		}
		return &problem{http.StatusNotFound, fmt.Sprintf("device %s has no method %q; it has %s", l.Device.Key(), in.Method, orNone(names))}
	}
	args, err := arguments(m, in.Args, &l.Device.Model)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), liveTimeout)
	defer cancel()
	results, err := l.Call(ctx, m.Name, args)
	if err != nil {
		return fmt.Errorf("call %s: %w", m.Name, err)
	}
	out := survey.Called{Outputs: []survey.Output{}}
	for _, f := range results {
		raw, err := devices.EncodeJSON(f.Value)
		if err != nil {
			return fmt.Errorf("result %s: %w", f.Name, err)
		}
		out.Outputs = append(out.Outputs, survey.Output{Name: f.Name, Value: v1alpha1.JSON{Raw: raw}})
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// arguments puts arguments in order.
func arguments(m v1alpha1.Method, given map[string]v1alpha1.JSON, model *v1alpha1.DeviceModelSpec) ([]devices.Field, error) {
	var args []devices.Field
	var names []string
	for _, f := range m.Inputs {
		names = append(names, f.Name)
		raw, ok := given[f.Name]
		if !ok {
			return nil, badRequest("method %s needs argument %s (%s)", m.Name, f.Name, f.Type)
		}
		v, err := devices.DecodeJSON(raw.Raw, f.ValueType, model)
		if err != nil {
			return nil, badRequest("argument %s of method %s: %v", f.Name, m.Name, err)
		}
		args = append(args, devices.Field{Name: f.Name, Value: v})
	}
	for name := range given {
		if !slices.Contains(names, name) {
			return nil, badRequest("method %s has no argument %s; it takes %s", m.Name, name, orNone(names))
		}
	}
	return args, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
