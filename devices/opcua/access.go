package opcua

import (
	"context"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/session"
)

// Read implements devices.Conn.
func (c *conn) Read(ctx context.Context, properties []string) ([]devices.Sample, error) {
	l, err := c.linkNow()
	if err != nil {
		return nil, err
	}
	items := make([]*item, len(properties))
	for i, name := range properties {
		if items[i] = c.settings.byName[name]; items[i] == nil {
			items[i] = &item{name: name} // at no node
		}
	}
	return c.read(ctx, l, items)
}

func (c *conn) read(ctx context.Context, l *link, items []*item) ([]devices.Sample, error) {
	samples := make([]devices.Sample, len(items))
	var attributes []session.Attribute
	var where []int
	c.mu.Lock()
	for i, it := range items {
		samples[i] = devices.Sample{Property: it.name, Quality: devices.BadNodeIDUnknown}
		if it.node != nil {
			attributes, where = append(attributes, session.Attribute{Node: it.node, ID: ua.AttributeIDValue}), append(where, i)
		}
	}
	c.mu.Unlock()
	results, err := l.session.Read(ctx, attributes)
	if err != nil {
		return nil, notConnected(l, err)
	}
	for i, v := range results {
		at := where[i]
		s := &samples[at]
		s.Quality, s.Source, s.Server = devices.Quality(v.Status), v.SourceTimestamp, v.ServerTimestamp
		if !s.Quality.IsBad() && v.Value != nil {
			s.Value, s.Quality = c.modelled(l, items[at], v.Value, s.Quality)
		}
	}
	return samples, nil
}

// notConnected makes the error of a dead channel that of package devices.
func notConnected(l *link, err error) error {
	if l.session.Channel().Err() != nil {
		return fmt.Errorf("%w: %w", devices.ErrNotConnected, err)
	}
	return err
}

// Write implements devices.Conn.
func (c *conn) Write(ctx context.Context, writes []devices.Write) []error {
	errs := make([]error, len(writes))
	l, err := c.linkNow()
	if err != nil {
		return fill(errs, err)
	}
	var values []*ua.WriteValue
	var where []int
	want := make([]devices.Value, len(writes))
	for i, w := range writes {
		it := c.settings.byName[w.Property]
		if it == nil {
			errs[i] = fmt.Errorf("%w: %s", devices.ErrUnknownProperty, w.Property)
			continue
		}
		v, err := c.prepare(l, it, w.Value)
		if err != nil {
			errs[i] = err
			continue
		}
		want[i], _ = devices.Coerce(w.Value, it.model.ValueType, &c.dev.Model) // prepare has had it
		values, where = append(values, v), append(where, i)
	}
	if len(values) == 0 {
		return errs
	}
	results, err := l.session.Write(ctx, values)
	if err != nil {
		return fill(errs, notConnected(l, err))
	}
	var verify []*item
	var which []int
	for i, status := range results {
		at := where[i]
		it := c.settings.byName[writes[at].Property]
		if status&0x80000000 != 0 {
			errs[at] = &devices.QualityError{Quality: devices.Quality(status), Reason: "the server did not take the value"}
		} else if it.verify {
			verify, which = append(verify, it), append(which, at)
		}
	}
	if len(verify) == 0 {
		return errs
	}
	got, err := c.read(ctx, l, verify)
	for i, at := range which {
		switch {
		case err != nil:
			errs[at] = fmt.Errorf("written, but not read back: %w", err)
		case !devices.Equal(got[i].Value, want[at]):
			errs[at] = &devices.QualityError{Quality: devices.BadDeviceFailure, Reason: fmt.Sprintf("written %v, read back %v (%v)", want[at], got[i].Value, got[i].Quality)}
		}
	}
	return errs
}

func fill(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

// prepare coerces a value to the model, and from there to the server's type.
func (c *conn) prepare(l *link, it *item, v devices.Value) (*ua.WriteValue, error) {
	coerced, err := devices.CoerceProperty(v, it.model, &c.dev.Model)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	node, dataType, rank := it.node, it.dataType, it.rank
	c.mu.Unlock()
	if node == nil {
		return nil, &devices.QualityError{Quality: devices.BadNodeIDUnknown, Reason: "the server has no namespace of " + it.address}
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	variant, err := l.types.Variant(coerced, dataType, rank)
	if err != nil {
		return nil, err
	}
	return &ua.WriteValue{NodeID: node, AttributeID: ua.AttributeIDValue, Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: variant}}, nil
}

// Call implements devices.Conn.
func (c *conn) Call(ctx context.Context, name string, args []devices.Field) ([]devices.Field, error) {
	l, err := c.linkNow()
	if err != nil {
		return nil, err
	}
	m, ok := c.settings.methods[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", devices.ErrUnknownProperty, name)
	}
	object, ok1 := m.object.in(l.namespaces)
	node, ok2 := m.method.in(l.namespaces)
	if !ok1 || !ok2 {
		return nil, &devices.QualityError{Quality: devices.BadNodeIDUnknown, Reason: "the server has no namespace of the method or its object"}
	}
	if len(args) != len(m.model.Inputs) {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: fmt.Sprintf("method %s takes %d arguments, not %d", name, len(m.model.Inputs), len(args))}
	}
	in, out, err := arguments(ctx, l, node)
	if err != nil {
		return nil, notConnected(l, err)
	}
	req := &ua.CallMethodRequest{ObjectID: object, MethodID: node}
	for i, a := range args {
		v, err := devices.Coerce(a.Value, m.model.Inputs[i].ValueType, &c.dev.Model)
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", m.model.Inputs[i].Name, err)
		}
		if i >= len(in) {
			return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: fmt.Sprintf("the server's method takes %d arguments", len(in))}
		}
		l.mu.RLock()
		variant, err := l.types.Variant(v, in[i].DataType, in[i].ValueRank)
		l.mu.RUnlock()
		if err != nil {
			return nil, fmt.Errorf("argument %s: %w", m.model.Inputs[i].Name, err)
		}
		req.InputArguments = append(req.InputArguments, variant)
	}
	r, err := l.session.Call(ctx, req)
	if err != nil {
		return nil, notConnected(l, err)
	}
	if r.StatusCode&0x80000000 != 0 {
		return nil, &devices.QualityError{Quality: devices.Quality(r.StatusCode), Reason: fmt.Sprintf("method %s, arguments %v", name, r.InputArgumentResults)}
	}
	return c.outputs(l, m, r, out)
}

func (c *conn) outputs(l *link, m method, r *ua.CallMethodResult, out []*ua.Argument) ([]devices.Field, error) {
	if len(r.OutputArguments) < len(m.model.Outputs) {
		return nil, &devices.QualityError{Quality: devices.BadTypeMismatch, Reason: fmt.Sprintf("%d results, the model has %d", len(r.OutputArguments), len(m.model.Outputs))}
	}
	var fields []devices.Field
	for i, o := range m.model.Outputs {
		var dataType *ua.NodeID
		if i < len(out) {
			dataType = out[i].DataType
		}
		l.mu.RLock()
		v := l.types.Value(r.OutputArguments[i], dataType)
		l.mu.RUnlock()
		coerced, err := devices.Coerce(v, o.ValueType, &c.dev.Model)
		if err != nil {
			return nil, fmt.Errorf("result %s: %w", o.Name, err)
		}
		fields = append(fields, devices.Field{Name: o.Name, Value: coerced})
	}
	return fields, nil
}

// arguments reads what a method takes and gives, with the types.
func arguments(ctx context.Context, l *link, method *ua.NodeID) (in, out []*ua.Argument, err error) {
	refs, err := l.session.Browse(ctx, []*ua.BrowseDescription{{
		NodeID: method, BrowseDirection: ua.BrowseDirectionForward, ReferenceTypeID: ua.NewNumericNodeID(0, id.HasProperty), ResultMask: uint32(ua.BrowseResultMaskBrowseName),
	}})
	if err != nil {
		return nil, nil, err
	}
	var needed []*ua.NodeID
	for _, ref := range refs[0] {
		if ref.NodeID == nil || ref.BrowseName == nil || ref.BrowseName.Name != "InputArguments" && ref.BrowseName.Name != "OutputArguments" {
			continue
		}
		v, err := l.session.Read(ctx, []session.Attribute{{Node: ref.NodeID.NodeID, ID: ua.AttributeIDValue}})
		if err != nil {
			return nil, nil, err
		}
		if v[0].Value == nil {
			continue
		}
		objects, _ := v[0].Value.Value().([]*ua.ExtensionObject)
		for _, o := range objects {
			a, ok := o.Value.(*ua.Argument)
			if !ok {
				continue
			}
			needed = append(needed, a.DataType)
			if ref.BrowseName.Name == "InputArguments" {
				in = append(in, a)
			} else {
				out = append(out, a)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return in, out, l.types.Load(ctx, l.session, needed)
}
