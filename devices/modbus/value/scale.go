package value

import (
	"fmt"
	"math"
	"math/big"
	"strconv"

	"github.com/skerry-io/skerry/devices"
)

// exact is the largest integer up to which all are float64s.
const exact = 1 << 53

// linear is value = (raw*a + b) / d, for integers a, b and d > 0: scale and offset as
// the decimals that people wrote.
type linear struct {
	a, b, d *big.Int
	// small are the same for the fast way, if they fit.
	small      bool
	sa, sb, sd int64
}

// newLinear takes scale and offset by their shortest decimals: 0.1 is a tenth.
func newLinear(scale, offset float64) *linear {
	s, o := decimal(scale), decimal(offset)
	l := &linear{d: new(big.Int).Mul(s.Denom(), o.Denom())}
	l.a = new(big.Int).Mul(s.Num(), o.Denom())
	l.b = new(big.Int).Mul(o.Num(), s.Denom())
	common := new(big.Int).GCD(nil, nil, l.d, new(big.Int).Abs(l.a))
	common.GCD(nil, nil, common, new(big.Int).Abs(l.b))
	for _, n := range []*big.Int{l.a, l.b, l.d} {
		n.Quo(n, common)
	}
	const fits = 1 << 30
	limit := big.NewInt(fits)
	if l.a.CmpAbs(limit) < 0 && l.b.CmpAbs(big.NewInt(exact/2)) < 0 && l.d.CmpAbs(limit) < 0 {
		l.small, l.sa, l.sb, l.sd = true, l.a.Int64(), l.b.Int64(), l.d.Int64()
	}
	return l
}

// decimal is f as its shortest decimal, exactly. f is finite.
func decimal(f float64) *big.Rat {
	r, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	return r
}

// whole reports whether every value is an integer.
func (l *linear) whole() bool { return l.d.IsInt64() && l.d.Int64() == 1 }

// value returns the float64 next to the value of raw.
func (l *linear) value(raw *big.Int) float64 {
	f, _ := l.rational(raw).Float64()
	return f
}

// fast is value for a small raw; false when it can't be exact.
func (l *linear) fast(raw int64) (float64, bool) {
	if !l.small || raw < -(1<<22) || raw > 1<<22 {
		return 0, false
	}
	n := raw*l.sa + l.sb
	// Both are float64s, so the quotient is the nearest one.
	return float64(n) / float64(l.sd), n > -exact && n < exact
}

func (l *linear) rational(raw *big.Int) *big.Rat {
	n := new(big.Int).Mul(raw, l.a)
	return new(big.Rat).SetFrac(n.Add(n, l.b), l.d)
}

// raw returns the integer whose value is v. narrow rounds a value to the type that
// v has.
func (l *linear) raw(v float64, narrow func(float64) float64) (*big.Int, error) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil, &devices.QualityError{Quality: devices.BadOutOfRange, Reason: "the value is not finite"}
	}
	// x = (v*d - b) / a
	x := new(big.Rat).Mul(decimal(v), new(big.Rat).SetInt(l.d))
	x.Sub(x, new(big.Rat).SetInt(l.b))
	x.Quo(x, new(big.Rat).SetInt(l.a))
	below := new(big.Int).Div(x.Num(), x.Denom()) // denominators are positive: rounds down
	above := new(big.Int).Add(below, big.NewInt(1))
	for _, r := range []*big.Int{below, above} {
		if narrow(l.value(r)) == v {
			return r, nil
		}
	}
	return nil, &devices.QualityError{
		Quality: devices.BadOutOfRange,
		Reason:  fmt.Sprintf("the device has no such value: the nearest are %v and %v", narrow(l.value(below)), narrow(l.value(above))),
	}
}

// apply is value for a raw float, which is finite.
func (l *linear) apply(raw float64) float64 {
	x := new(big.Rat).Mul(decimal(raw), new(big.Rat).SetInt(l.a))
	x.Add(x, new(big.Rat).SetInt(l.b))
	f, _ := x.Quo(x, new(big.Rat).SetInt(l.d)).Float64()
	return f
}

// invert is the raw float next to that whose value is v, which is finite.
func (l *linear) invert(v float64) float64 {
	x := new(big.Rat).Mul(decimal(v), new(big.Rat).SetInt(l.d))
	x.Sub(x, new(big.Rat).SetInt(l.b))
	f, _ := x.Quo(x, new(big.Rat).SetInt(l.a)).Float64()
	return f
}
