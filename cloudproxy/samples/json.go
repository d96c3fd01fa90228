package samples

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/skerry-io/skerry/devices"
)

// line is a sample or a gap in a line of JSON. Values are written as in a Device's
// status; from, to, lost and reason are of gaps alone. Times are RFC 3339.
type line struct {
	Node       string          `json:"node"`
	Namespace  string          `json:"namespace"`
	Device     string          `json:"device"`
	UID        string          `json:"uid"`
	Property   string          `json:"property,omitempty"`
	Value      json.RawMessage `json:"value,omitempty"`
	Quality    string          `json:"quality,omitempty"`
	SourceTime *time.Time      `json:"sourceTime,omitempty"`
	ServerTime *time.Time      `json:"serverTime,omitempty"`
	Gap        *gap            `json:"gap,omitempty"`
}

type gap struct {
	From   *time.Time `json:"from,omitempty"`
	To     *time.Time `json:"to,omitempty"`
	Lost   uint64     `json:"lost"`
	Reason string     `json:"reason"`
}

func jsonLines(node string, f devices.Frame) (b []byte, err error) {
	add := func(l line) error {
		l.Node, l.Namespace, l.Device, l.UID = node, f.Namespace, f.Name, f.UID
		text, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("encode sample: %w", err)
		}
		b = append(append(b, text...), '\n')
		return nil
	}
	for _, s := range f.Samples {
		l := line{Property: s.Property, Quality: s.Quality.String(), SourceTime: moment(s.Source), ServerTime: moment(s.Server)}
		if s.Value != nil {
			if l.Value, err = devices.EncodeJSON(s.Value); err != nil {
				return nil, fmt.Errorf("encode sample: %w", err)
			}
		}
		if err := add(l); err != nil {
			return nil, err
		}
	}
	for _, g := range f.Gaps {
		if err := add(line{Property: g.Property, Gap: &gap{moment(g.From), moment(g.To), g.Lost, g.Reason}}); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
