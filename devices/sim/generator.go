package sim

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// generator makes the values of a property.
type generator struct {
	property  v1alpha1.Property
	wave      v1alpha1.Waveform
	amplitude float64
	offset    float64
	period    time.Duration
	seed      int64
}

func (g *generator) configure(s *v1alpha1.SimProperty) {
	if s.Waveform != "" {
		g.wave = s.Waveform
	}
	if s.Amplitude != nil {
		g.amplitude = *s.Amplitude
	}
	if s.Offset != nil {
		g.offset = *s.Offset
	}
	if d := s.Period.Or(0); d > 0 {
		g.period = d
	}
}

// value is that of the count-th sample, made at a time. It is of the property's
// type: what does not fit is at its limit.
func (g *generator) value(count uint64, at time.Time, model *v1alpha1.DeviceModelSpec) devices.Value {
	if g.wave == v1alpha1.WaveCounter {
		return fit(float64(count), g.property.ValueType)
	}
	if g.wave == v1alpha1.WaveConstant {
		if v := fit(g.offset, g.property.ValueType); v != nil {
			return v
		}
		return zero(g.property.ValueType, model)
	}
	phase := float64(at.UnixNano()%int64(g.period)) / float64(g.period)
	var y float64 // from -1 to 1
	switch g.wave {
	case v1alpha1.WaveSine:
		y = math.Sin(2 * math.Pi * phase)
	case v1alpha1.WaveSquare:
		y = 1
		if phase >= 0.5 {
			y = -1
		}
	case v1alpha1.WaveTriangle:
		y = 1 - 4*math.Abs(phase-0.5)
	case v1alpha1.WaveSawtooth:
		y = 2*phase - 1
	default: // random
		y = 2*rand.New(rand.NewPCG(uint64(g.seed), count)).Float64() - 1 //nolint:gosec // no secret is made of it
	}
	return fit(g.offset+g.amplitude*y, g.property.ValueType)
}

// fit makes a number one of type t, nil where that is none. Whole numbers are
// rounded, and cut at the limits of their type.
func fit(f float64, t v1alpha1.ValueType) devices.Value {
	if len(t.Dimensions) > 0 {
		return nil
	}
	whole := func(low, high float64) float64 { return math.Max(low, math.Min(high, math.Round(f))) }
	switch t.Type {
	case v1alpha1.TypeInt8:
		return int8(whole(math.MinInt8, math.MaxInt8))
	case v1alpha1.TypeInt16:
		return int16(whole(math.MinInt16, math.MaxInt16))
	case v1alpha1.TypeInt32:
		return int32(whole(math.MinInt32, math.MaxInt32))
	case v1alpha1.TypeInt64:
		return int64(whole(-1<<53, 1<<53))
	case v1alpha1.TypeUint8:
		return uint8(whole(0, math.MaxUint8))
	case v1alpha1.TypeUint16:
		return uint16(whole(0, math.MaxUint16))
	case v1alpha1.TypeUint32:
		return uint32(whole(0, math.MaxUint32))
	case v1alpha1.TypeUint64:
		return uint64(whole(0, 1<<53))
	case v1alpha1.TypeFloat32:
		return float32(f)
	case v1alpha1.TypeFloat64:
		return f
	default:
		return nil
	}
}

// zero is the value of a property that nobody has written: 0, "", no elements.
func zero(t v1alpha1.ValueType, model *v1alpha1.DeviceModelSpec) devices.Value {
	if len(t.Dimensions) > 0 {
		inner := t
		inner.Dimensions = t.Dimensions[1:]
		out := make([]any, t.Dimensions[0])
		for i := range out {
			out[i] = zero(inner, model)
		}
		return out
	}
	switch t.Type {
	case v1alpha1.TypeBool:
		return false
	case v1alpha1.TypeString:
		return ""
	case v1alpha1.TypeBytes:
		return []byte{}
	case v1alpha1.TypeDateTime:
		return time.Unix(0, 0).UTC()
	case v1alpha1.TypeEnum, v1alpha1.TypeStruct:
		for i := range model.Types {
			if def := &model.Types[i]; def.Name == t.TypeName {
				return zeroOf(def, model)
			}
		}
		return nil
	default:
		return fit(0, t)
	}
}

func zeroOf(def *v1alpha1.TypeDefinition, model *v1alpha1.DeviceModelSpec) devices.Value {
	if def.Kind == v1alpha1.TypeEnum {
		if len(def.Values) == 0 {
			return nil
		}
		return devices.Enum{Number: def.Values[0].Number, Name: def.Values[0].Name}
	}
	var out devices.Struct
	for _, f := range def.Fields {
		if f.TypeName == def.Name { // of itself: there is no end to it
			out = append(out, devices.Field{Name: f.Name})
			continue
		}
		out = append(out, devices.Field{Name: f.Name, Value: zero(f.ValueType, model)})
	}
	return out
}
