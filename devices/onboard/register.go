package onboard

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// property makes a property of a row, with an enumeration if it has values.
func (r *row) property() (p v1alpha1.Property, dp v1alpha1.DeviceProperty, def *v1alpha1.TypeDefinition, err error) {
	p = v1alpha1.Property{
		Name: r.get("name"), Description: cut(r.get("description"), maxDescription), Unit: r.get("unit"), Access: v1alpha1.ReadOnly,
	}
	mp := &v1alpha1.ModbusProperty{}
	dp = v1alpha1.DeviceProperty{Name: p.Name, Modbus: mp}
	if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`).MatchString(p.Name) || len(p.Name) > maxName {
		return p, dp, nil, r.fault("name", "%q is no name: letters, digits, _ . and -, a letter or _ first, at most %d", cut(p.Name, 64), maxName)
	}
	if len(p.Unit) > maxUnit {
		return p, dp, nil, r.fault("unit", "the unit has more than %d bytes", maxUnit)
	}
	for _, step := range []func(*v1alpha1.Property, *v1alpha1.ModbusProperty) error{r.place, r.kind, r.access, r.orders, r.numbers} {
		if err := step(&p, mp); err != nil {
			return p, dp, nil, err
		}
	}
	if r.has("values") {
		if def, err = r.values(&p); err != nil {
			return p, dp, nil, err
		}
	}
	return p, dp, def, nil
}

// place reads table and address.
func (r *row) place(_ *v1alpha1.Property, mp *v1alpha1.ModbusProperty) error {
	switch {
	case r.has("reference") && (r.has("address") || r.has("table")):
		return r.fault("reference", "give the reference, or table and address, not both")
	case r.has("reference"):
		return r.reference(mp)
	case !r.has("address"):
		return r.fault("address", "where is it? Give the address of the first bit or register, from 0")
	}
	mp.Table = v1alpha1.TableHolding
	if r.has("table") {
		mp.Table = v1alpha1.ModbusTable(strings.ToLower(r.get("table")))
	}
	if !slices.Contains([]v1alpha1.ModbusTable{v1alpha1.TableCoil, v1alpha1.TableDiscrete, v1alpha1.TableInput, v1alpha1.TableHolding}, mp.Table) {
		return r.fault("table", "%q is none of coil, discrete, input and holding", cut(r.get("table"), 64))
	}
	n, err := strconv.ParseUint(r.get("address"), 0, 16)
	if err != nil {
		advice := ""
		if len(r.get("address")) > 4 {
			advice = "; if it is as in 40001, the column is called reference"
		}
		return r.fault("address", "%q is no number from 0 to 65535%s", cut(r.get("address"), 64), advice)
	}
	mp.Address = int32(n)
	return nil
}

// reference reads where a value is as manuals write it, counted from 1 with the table
// in front.
func (r *row) reference(mp *v1alpha1.ModbusProperty) error {
	text := r.get("reference")
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || len(text) != 5 && len(text) != 6 {
		return r.fault("reference", "%q is no reference of five or six digits, such as 40001", cut(text, 64))
	}
	digit := uint64(10_000)
	if len(text) == 6 {
		digit = 100_000
	}
	tables := map[uint64]v1alpha1.ModbusTable{0: v1alpha1.TableCoil, 1: v1alpha1.TableDiscrete, 3: v1alpha1.TableInput, 4: v1alpha1.TableHolding}
	t, ok := tables[n/digit]
	if !ok || n%digit == 0 || n%digit > 1<<16 {
		return r.fault("reference", "%s is in no table: references begin with 0 (coil), 1 (discrete), 3 (input) or 4 (holding) and count from 1", text)
	}
	mp.Table, mp.Address = t, int32(n%digit-1)
	return nil
}

// kind reads type, bit, length, count, and gives the model's type.
func (r *row) kind(p *v1alpha1.Property, mp *v1alpha1.ModbusProperty) error {
	bits := mp.Table == v1alpha1.TableCoil || mp.Table == v1alpha1.TableDiscrete
	raw := v1alpha1.ModbusType(strings.ToLower(r.get("type")))
	if raw == "" && (bits || r.has("bit")) {
		raw = v1alpha1.ModbusBool
	}
	if raw == "" {
		raw = v1alpha1.ModbusUint16
	}
	mp.Type = raw
	switch raw {
	case v1alpha1.ModbusBCD16:
		p.Type = v1alpha1.TypeUint16
	case v1alpha1.ModbusBCD32:
		p.Type = v1alpha1.TypeUint32
	default:
		p.Type = v1alpha1.Type(raw) // value.New knows which there are
	}
	if bits {
		mp.Type = ""
		if raw != v1alpha1.ModbusBool {
			return r.fault("type", "table %s holds bits, not %s: leave the type empty, or take table input or holding", mp.Table, cut(string(raw), 64))
		}
	}
	if r.has("bit") {
		n, err := strconv.ParseUint(r.get("bit"), 10, 4)
		if err != nil || bits || raw != v1alpha1.ModbusBool {
			return r.fault("bit", "it is 0 to 15, of a bool in table input or holding")
		}
		bit := int32(n)
		mp.Bit = &bit
	}
	if r.has("length") {
		n, err := strconv.ParseUint(r.get("length"), 10, 8)
		if err != nil || n < 1 || n > 125 || raw != v1alpha1.ModbusString && raw != v1alpha1.ModbusBytes {
			return r.fault("length", "it is 1 to 125 registers, of a string or of bytes; for a list take count")
		}
		mp.Length = int32(n)
	}
	if r.has("count") {
		n, err := strconv.ParseUint(r.get("count"), 10, 16)
		if err != nil || n < 1 {
			return r.fault("count", "%q is no number of elements", cut(r.get("count"), 64))
		}
		p.Dimensions = []int32{int32(n)}
	}
	return nil
}

func (r *row) access(p *v1alpha1.Property, _ *v1alpha1.ModbusProperty) error {
	switch strings.ToLower(r.get("access")) {
	case "", "r", "ro", "readonly":
	case "rw", "r/w", "readwrite":
		p.Access = v1alpha1.ReadWrite
	case "w", "wo", "writeonly":
		p.Access = v1alpha1.WriteOnly
	default:
		return r.fault("access", "%q is none of R, RW and W", cut(r.get("access"), 64))
	}
	return nil
}

func (r *row) orders(_ *v1alpha1.Property, mp *v1alpha1.ModbusProperty) error {
	for _, o := range []struct {
		column string
		to     *v1alpha1.Order
	}{{"wordOrder", &mp.WordOrder}, {"byteOrder", &mp.ByteOrder}} {
		switch text := strings.ToLower(r.get(o.column)); text {
		case "":
		case "big", "little":
			*o.to = v1alpha1.Order(text)
		default:
			return r.fault(o.column, "%q is neither big nor little", cut(text, 64))
		}
	}
	return nil
}

// numbers reads scale, offset, range and interval. What is scaled is a float64 in the
// model.
func (r *row) numbers(p *v1alpha1.Property, mp *v1alpha1.ModbusProperty) error {
	for _, n := range []struct {
		column string
		to     **float64
	}{{"scale", &mp.Scale}, {"offset", &mp.Offset}, {"min", &p.Min}, {"max", &p.Max}} {
		if !r.has(n.column) {
			continue
		}
		f, err := strconv.ParseFloat(r.get(n.column), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return r.fault(n.column, "%q is no number; decimals have a point", cut(r.get(n.column), 64))
		}
		*n.to = &f
	}
	number := isNumber(p.Type)
	switch {
	case mp.Scale != nil && *mp.Scale == 0:
		return r.fault("scale", "it must not be 0; leave it empty for none")
	case (mp.Scale != nil || mp.Offset != nil) && !number:
		return r.fault("scale", "scale and offset need a number, not %s", cut(string(p.Type), 64))
	case (p.Min != nil || p.Max != nil) && !number:
		return r.fault("min", "min and max need a number, not %s", cut(string(p.Type), 64))
	case p.Min != nil && p.Max != nil && *p.Min > *p.Max:
		return r.fault("min", "it is above max")
	}
	if mp.Scale != nil || mp.Offset != nil {
		p.Type = v1alpha1.TypeFloat64
	}
	if r.has("poll") {
		d, err := time.ParseDuration(r.get("poll"))
		if err != nil || d < time.Millisecond || d > 24*time.Hour {
			return r.fault("poll", "%q is no time from 1ms to 24h", cut(r.get("poll"), 64))
		}
		mp.PollInterval = &v1alpha1.Duration{Duration: d}
	}
	return nil
}

// values reads an enumeration, which is called as the property.
func (r *row) values(p *v1alpha1.Property) (*v1alpha1.TypeDefinition, error) {
	if !isNumber(p.Type) || strings.HasPrefix(string(p.Type), "float") {
		return nil, r.fault("values", "names of numbers need an integer, not %s", p.Type)
	}
	if p.Min != nil || p.Max != nil || p.Unit != "" {
		return nil, r.fault("values", "what has names of numbers has no range and no unit")
	}
	def := &v1alpha1.TypeDefinition{Name: p.Name, Kind: v1alpha1.TypeEnum}
	if len(def.Name) > maxObject {
		def.Name = def.Name[:maxObject-9] + "-" + short(p.Name)
	}
	for part := range strings.SplitSeq(r.get("values"), ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		number, name, ok := strings.Cut(part, "=")
		n, err := strconv.ParseInt(strings.TrimSpace(number), 0, 32)
		name = strings.TrimSpace(name)
		if !ok || err != nil || name == "" || len(name) > maxName {
			return nil, r.fault("values", "%q is not NUMBER=NAME", cut(strings.TrimSpace(part), 64))
		}
		if slices.ContainsFunc(def.Values, func(v v1alpha1.EnumValue) bool { return int64(v.Number) == n }) {
			return nil, r.fault("values", "number %d has two names", n)
		}
		def.Values = append(def.Values, v1alpha1.EnumValue{Number: int32(n), Name: name})
	}
	if len(def.Values) == 0 || len(def.Values) > 512 {
		return nil, r.fault("values", "%s", fmt.Sprintf("%d names; 1 to 512 are possible", len(def.Values)))
	}
	p.Type, p.TypeName = v1alpha1.TypeEnum, def.Name
	return def, nil
}
