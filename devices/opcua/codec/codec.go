package codec

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gopcua/opcua/ua"
)

// ErrMalformed is in the chain of errors about bytes that are not a message.
var ErrMalformed = errors.New("malformed message")

// Decode reads one service from its encoding: a NodeId of the type, then its
// fields. Whatever b holds, the result is a service or an error; the memory taken
// is bounded by a small multiple of len(b).
func Decode(b []byte) (service any, err error) {
	if err := check(b); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			service, err = nil, fmt.Errorf("%w: decoder: %v", ErrMalformed, r)
		}
	}()
	_, service, err = ua.DecodeService(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return service, nil
}

// DecodeVariant reads one Variant from the start of b and how long it was.
func DecodeVariant(b []byte) (v *ua.Variant, n int, err error) {
	w := walker{b: b}
	w.variant(0)
	if w.err != nil {
		return nil, 0, w.err
	}
	defer func() {
		if r := recover(); r != nil {
			v, n, err = nil, 0, fmt.Errorf("%w: decoder: %v", ErrMalformed, r)
		}
	}()
	v = new(ua.Variant)
	n, err = v.Decode(b)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return v, n, nil
}

// Encode writes a service as Decode reads it.
func Encode(service any) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, fmt.Errorf("encode %T: %v", service, r)
		}
	}()
	id := ua.ServiceTypeID(service)
	if id == 0 {
		return nil, fmt.Errorf("encode %T: not a service", service)
	}
	buf := ua.NewBuffer(nil)
	buf.WriteStruct(ua.NewFourByteExpandedNodeID(0, id))
	buf.WriteStruct(service)
	if err := buf.Error(); err != nil {
		return nil, fmt.Errorf("encode %T: %w", service, err)
	}
	return buf.Bytes(), nil
}

// Raw is the body of a structure whose fields gopcua does not know.
type Raw struct{ Bytes []byte }

// Decode takes all of b.
func (r *Raw) Decode(b []byte) (int, error) {
	r.Bytes = slices.Clone(b)
	return len(b), nil
}

// Encode gives the bytes back.
func (r *Raw) Encode() ([]byte, error) { return r.Bytes, nil }

// KeepRaw has bodies of the encoding kept as Raw from now on, in all sessions of
// the process: gopcua's table of types is one for all. The encoding's namespace
// is the server's own, and so are the types, so two servers can only agree.
// Types of the OPC UA namespace itself that gopcua knows stay with gopcua.
func KeepRaw(encoding *ua.NodeID) {
	defer func() {
		_ = recover() // gopcua panics if it knows the type
	}()
	ua.RegisterExtensionObject(encoding, new(Raw))
}
