package session

import (
	"context"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// Attribute names an attribute of a node.
type Attribute struct {
	Node *ua.NodeID
	ID   ua.AttributeID
}

// failed is a DataValue for what could not be read.
func failed(err error) *ua.DataValue {
	return &ua.DataValue{EncodingMask: ua.DataValueStatusCode, Value: new(ua.Variant), Status: Status(err)}
}

// Status is the StatusCode in an error, or BadCommunicationError.
func Status(err error) ua.StatusCode {
	if err == nil {
		return ua.StatusOK
	}
	if s, ok := statusIn(err); ok {
		return s
	}
	return ua.StatusBadCommunicationError
}

func statusIn(err error) (ua.StatusCode, bool) {
	switch e := err.(type) { //nolint:errorlint // it walks the chain itself
	case ua.StatusCode:
		return e, true
	case interface{ Unwrap() error }:
		return statusIn(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if s, ok := statusIn(inner); ok {
				return s, true
			}
		}
	}
	return 0, false
}

// Read reads attributes, one result for each, in order. The error is that of the
// whole.
func (s *Session) Read(ctx context.Context, attributes []Attribute) ([]*ua.DataValue, error) {
	return Batch(ctx, &s.Operations.Read, MostReads, attributes, func(part []Attribute) ([]*ua.DataValue, error) {
		req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth}
		for _, a := range part {
			req.NodesToRead = append(req.NodesToRead, &ua.ReadValueID{NodeID: a.Node, AttributeID: a.ID, DataEncoding: &ua.QualifiedName{}})
		}
		r, err := Do[*ua.ReadResponse](ctx, s, req)
		if err != nil {
			return nil, err
		}
		return r.Results, nil
	}, func(_ Attribute, err error) *ua.DataValue { return failed(err) })
}

// Namespaces reads the server's table of namespaces.
func (s *Session) Namespaces(ctx context.Context) ([]string, error) {
	v, err := s.Read(ctx, []Attribute{{ua.NewNumericNodeID(0, id.Server_NamespaceArray), ua.AttributeIDValue}})
	if err != nil {
		return nil, err
	}
	if v[0].Value == nil {
		return nil, v[0].Status
	}
	list, ok := v[0].Value.Value().([]string)
	if !ok {
		return nil, ua.StatusBadTypeMismatch
	}
	return list, nil
}

// Write writes values of nodes, one status for each.
func (s *Session) Write(ctx context.Context, values []*ua.WriteValue) ([]ua.StatusCode, error) {
	return Batch(ctx, &s.Operations.Write, MostWrites, values, func(part []*ua.WriteValue) ([]ua.StatusCode, error) {
		r, err := Do[*ua.WriteResponse](ctx, s, &ua.WriteRequest{NodesToWrite: part})
		if err != nil {
			return nil, err
		}
		return r.Results, nil
	}, func(_ *ua.WriteValue, err error) ua.StatusCode { return Status(err) })
}

// Call calls a method.
func (s *Session) Call(ctx context.Context, m *ua.CallMethodRequest) (*ua.CallMethodResult, error) {
	r, err := Do[*ua.CallResponse](ctx, s, &ua.CallRequest{MethodsToCall: []*ua.CallMethodRequest{m}})
	if err != nil {
		return nil, err
	}
	if len(r.Results) != 1 || r.Results[0] == nil {
		return nil, ua.StatusBadUnknownResponse
	}
	return r.Results[0], nil
}
