package samples

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/devices"
)

// lines writes a frame in line protocol. A sample is
//
//	device,node=N,namespace=S,device=D,property=P value=1.5,quality="Good",status=0i 1767225600000000000
//
// with the time of the source, or of the server where there is none. A number is the
// field value, as a float so that its type never changes; false and true are 0 and 1.
// Text, and whatever else a value can be, as JSON, is the field text; so are integers
// beyond 2^53, which a float rounds. A value that is bad has neither. A gap is
//
//	device_gap,node=N,namespace=S,device=D,property=P lost=3i,from=1767225600000000000i,reason="Outage" 1767225660000000000
func lines(node string, f devices.Frame) (b []byte) {
	tags := ",node=" + tag(node) + ",namespace=" + tag(f.Namespace) + ",device=" + tag(f.Name)
	for _, s := range f.Samples {
		b = append(b, "device"+tags+",property="+tag(s.Property)+" "...)
		b = appendValue(b, s.Value)
		b = fmt.Appendf(b, `quality=%s,status=%di`, quoted(s.Quality.String()), uint32(s.Quality))
		b = appendTime(b, s.Time())
	}
	for _, g := range f.Gaps {
		b = append(b, "device_gap"+tags...)
		if g.Property != "" {
			b = append(b, ",property="+tag(g.Property)...)
		}
		b = fmt.Appendf(b, " lost=%di,reason=%s", min(g.Lost, math.MaxInt64), quoted(g.Reason))
		if !g.From.IsZero() {
			b = fmt.Appendf(b, ",from=%di", g.From.UnixNano())
		}
		to := g.To
		if to.IsZero() {
			to = g.From
		}
		b = appendTime(b, to)
	}
	return b
}

// appendTime ends a line. Without a time the receiver takes its own.
func appendTime(b []byte, t time.Time) []byte {
	if !t.IsZero() {
		b = append(b, ' ')
		b = strconv.AppendInt(b, t.UnixNano(), 10)
	}
	return append(b, '\n')
}

// appendValue writes the fields value and text, with a comma behind each.
func appendValue(b []byte, v devices.Value) []byte {
	if v == nil {
		return b
	}
	if n, ok := number(v); ok {
		b = append(b, "value="...)
		b = strconv.AppendFloat(b, n, 'g', -1, 64)
		b = append(b, ',')
		if _, isEnum := v.(devices.Enum); !isEnum && (math.Abs(n) < 1<<53 || isFloat(v)) || isBool(v) {
			return b
		}
	}
	text, ok := v.(string)
	if !ok {
		encoded, err := devices.EncodeJSON(v)
		if err != nil {
			return b // of what was decoded nothing fails to be encoded
		}
		if json.Unmarshal(encoded, &text) != nil {
			text = string(encoded) // no string
		}
	}
	return append(b, "text="+quoted(text)+","...)
}

func isFloat(v devices.Value) bool {
	switch v.(type) {
	case float32, float64:
		return true
	}
	return false
}

func isBool(v devices.Value) bool { _, ok := v.(bool); return ok }

// number gives what of a value is one, as long as a receiver can have it.
func number(v devices.Value) (float64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case float32:
		// As its shortest decimal, which is what people see elsewhere.
		n, err := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
		return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
	case devices.Enum:
		return float64(v.Number), true
	}
	n, ok := devices.Float(v)
	return n, ok && !math.IsInf(n, 0) && !math.IsNaN(n)
}

// tag writes a name as the API has them; an edge may say anything, and the protocol has
// no way to write some of it.
func tag(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r) {
			return r
		}
		return '_'
	}, s)
	if clean == "" {
		return "_"
	}
	return clean
}

// quoted writes a string field, in one line.
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", " ", "\r", " ", "\x00", " ").Replace(strings.ToValidUTF8(s, "�")) + `"`
}
