package codec

import (
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"
)

// extensionObject checks a body that gopcua will decode by the type it has for it.
func (w *walker) extensionObject(depth int) {
	if depth > maxDepth {
		w.fail("nested deeper than %d", maxDepth)
		return
	}
	start := w.at
	w.expandedNodeID()
	id := w.b[start:w.at]
	mask := w.byte()
	if w.err != nil || mask == 0 {
		return
	}
	n := w.uint32()
	if w.err != nil || n == 0 || n == 0xffffffff {
		return
	}
	body := w.at
	if n > uint32(len(w.b)) {
		w.fail("body of %d bytes", n)
		return
	}
	w.skip(int(n))
	if w.err != nil || mask != 1 {
		return
	}
	t := bodyType(id)
	if t == nil {
		return
	}
	inner := walker{b: w.b[body:w.at], elements: w.elements}
	inner.value(t, depth+1)
	w.elements = inner.elements
	if inner.err != nil {
		w.fail("body: %v", inner.err)
	}
}

// types caches what gopcua has for an encoding: bodies of structures and services,
// whose ids differ.
var types sync.Map //nolint:gochecknoglobals // type id, as encoded, to reflect.Type

// cached asks find once per id. An id that names its namespace by text is not
// cached: a server could make any number of them.
func cached(id []byte, find func(id []byte) any) reflect.Type {
	if t, ok := types.Load(string(id)); ok {
		return t.(reflect.Type) //nolint:errcheck,forcetypeassert // nothing else is stored
	}
	v := find(id)
	if v == nil {
		return nil
	}
	t := reflect.TypeOf(v).Elem()
	if id[0]&0xc0 == 0 {
		types.Store(string(id), t)
	}
	return t
}

// bodyType gives gopcua's type for an encoding, or nil for none and for Raw.
func bodyType(id []byte) reflect.Type {
	return cached(id, func(id []byte) (body any) {
		probe := new(ua.ExtensionObject)
		defer func() {
			if recover() != nil {
				body = nil
			}
		}()
		// The body is too short for nearly all: the type is what is asked.
		_, _ = probe.Decode(append(append([]byte{}, id...), 1, 1, 0, 0, 0, 0))
		if _, raw := probe.Value.(*Raw); raw {
			return nil
		}
		return probe.Value
	})
}

// serviceType gives gopcua's type of a service, or nil.
func serviceType(id []byte) reflect.Type {
	return cached(id, func(id []byte) (service any) {
		defer func() {
			_ = recover()
		}()
		_, service, _ = ua.DecodeService(id) // fails for want of bytes, after the service was made
		return service
	})
}

// check walks a whole message.
func check(b []byte) error {
	w := walker{b: b}
	start := w.at
	w.expandedNodeID()
	if w.err != nil {
		return w.err
	}
	t := serviceType(b[start:w.at])
	if t == nil {
		return fmt.Errorf("%w: unknown service", ErrMalformed)
	}
	w.value(t, 0)
	return w.err
}

// value walks a type of gopcua's as its decoder does.
func (w *walker) value(t reflect.Type, depth int) {
	if w.err != nil {
		return
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[ua.NodeID]():
		w.nodeID()
	case reflect.TypeFor[ua.ExpandedNodeID]():
		w.expandedNodeID()
	case reflect.TypeFor[ua.Variant]():
		w.variant(depth)
	case reflect.TypeFor[ua.DataValue]():
		w.dataValue(depth)
	case reflect.TypeFor[ua.ExtensionObject]():
		w.extensionObject(depth)
	case reflect.TypeFor[ua.DiagnosticInfo]():
		w.diagnosticInfo(depth)
	case reflect.TypeFor[ua.LocalizedText]():
		w.localizedText()
	case reflect.TypeFor[ua.GUID]():
		w.skip(16)
	case reflect.TypeFor[time.Time]():
		w.skip(8)
	default:
		w.plain(t, depth)
	}
}

func (w *walker) plain(t reflect.Type, depth int) {
	switch t.Kind() {
	case reflect.Struct:
		if depth > maxDepth {
			w.fail("nested deeper than %d", maxDepth)
			return
		}
		for f := range t.Fields() {
			w.value(f.Type, depth+1)
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			w.bytes()
			return
		}
		for range w.length() {
			if w.err != nil {
				return
			}
			w.value(t.Elem(), depth+1)
		}
	case reflect.String:
		w.bytes()
	case reflect.Bool, reflect.Int8, reflect.Uint8, reflect.Int16, reflect.Uint16, reflect.Int32,
		reflect.Uint32, reflect.Int64, reflect.Uint64, reflect.Float32, reflect.Float64:
		w.skip(int(t.Size()))
	default:
		w.fail("type %v", t)
	}
}
