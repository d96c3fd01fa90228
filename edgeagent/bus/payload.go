package bus

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	fielddevices "github.com/skerry-io/skerry/devices"
)

// MaxPayload bounds what is published, in bytes. The value of a property that is larger
// is told without it, as badEncodingLimits.
const MaxPayload = 256 << 10

// badEncodingLimits is OPC UA's BadEncodingLimitsExceeded.
const badEncodingLimits fielddevices.Quality = 0x80080000

// valuePayload is a sample: {"value":21.5,"quality":"Good","sourceTime":"...",
// "serverTime":"..."}. A time that nobody knows is left out.
func valuePayload(s fielddevices.Sample) []byte {
	value, err := fielddevices.EncodeJSON(s.Value)
	if err != nil || len(value) > MaxPayload-256 {
		value, s.Quality = []byte("null"), badEncodingLimits
	}
	b := make([]byte, 0, len(value)+128)
	b = append(b, `{"value":`...)
	b = append(b, value...)
	b = append(b, `,"quality":`...)
	b = strconv.AppendQuote(b, s.Quality.String())
	b = appendTime(b, "sourceTime", s.Source)
	b = appendTime(b, "serverTime", s.Server)
	return append(b, '}')
}

func appendTime(b []byte, name string, t time.Time) []byte {
	if t.Year() <= 1 || t.Year() > 9999 {
		return b // unknown, or more than RFC 3339 can say
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// told is a time as JSON has it, nil if nobody knows it.
func told(t time.Time) *time.Time {
	if t.Year() <= 1 || t.Year() > 9999 {
		return nil
	}
	t = t.UTC()
	return &t
}

// gapPayload is a gap; of From and To, what is known.
func gapPayload(g fielddevices.Gap) []byte {
	return encode(struct {
		Property string     `json:"property,omitempty"`
		From     *time.Time `json:"from,omitempty"`
		To       *time.Time `json:"to,omitempty"`
		Lost     uint64     `json:"lost,omitempty"`
		Reason   string     `json:"reason"`
	}{g.Property, told(g.From), told(g.To), g.Lost, g.Reason})
}

// healthPayload is how a device is, and which edge says so.
func healthPayload(node string, h fielddevices.Health) []byte {
	return encode(struct {
		Node            string     `json:"node"`
		Connected       bool       `json:"connected"`
		Reason          string     `json:"reason"`
		Message         string     `json:"message,omitempty"`
		Since           *time.Time `json:"since,omitempty"`
		Degraded        string     `json:"degraded,omitempty"`
		DegradedMessage string     `json:"degradedMessage,omitempty"`
	}{node, h.Connected, h.Reason, h.Message, told(h.Since), h.Degraded, h.DegradedMessage})
}

// EdgePayload says whether the agent of an edge runs.
func EdgePayload(online bool, version string) []byte {
	return encode(struct {
		Online  bool   `json:"online"`
		Version string `json:"version,omitempty"`
	}{online, version})
}

// encode is for what has only strings, numbers, times and raw JSON that was decoded
// before, which can't fail.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
