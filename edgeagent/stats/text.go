package stats

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"time"
)

// Text writes metrics in Prometheus' text format as they come, so that they need
// no memory. The first error sticks and is returned by Flush.
type Text struct {
	w    *bufio.Writer
	name string
	line []byte

	escapeLabel, escapeHelp *strings.Replacer
}

// textBuffer is what is written at once.
const textBuffer = 8 << 10

// NewText writes to w.
func NewText(w io.Writer) *Text {
	return &Text{
		w:           bufio.NewWriterSize(w, textBuffer),
		escapeLabel: strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`),
		escapeHelp:  strings.NewReplacer(`\`, `\\`, "\n", `\n`),
	}
}

// The types of metrics.
const (
	Counter = "counter"
	Gauge   = "gauge"
)

// Family begins the metric of that name. One without a value is left out.
func (t *Text) Family(name, kind, help string) {
	t.name = name
	t.line = append(t.line[:0], "# HELP "+name+" "+t.escapeHelp.Replace(help)+"\n# TYPE "+name+" "+kind+"\n"...)
}

// Value writes one value. The labels are names and values by turns, in the order
// of their names. A zero time is left out.
func (t *Text) Value(v float64, at time.Time, labels ...string) {
	b := append(t.line, t.name...) // the head, if this is the first
	for i := 0; i+1 < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		b = append(b, sep)
		b = append(b, labels[i]...)
		b = append(b, '=', '"')
		b = append(b, t.escapeLabel.Replace(labels[i+1])...)
		b = append(b, '"')
	}
	if len(labels) > 1 {
		b = append(b, '}')
	}
	b = append(b, ' ')
	b = strconv.AppendFloat(b, v, 'g', -1, 64)
	if !at.IsZero() {
		b = append(b, ' ')
		b = strconv.AppendInt(b, at.UnixMilli(), 10)
	}
	b = append(b, '\n')
	_, _ = t.w.Write(b) // Flush tells
	t.line = b[:0]
}

// Number is Value for one that may not be known.
func (t *Text) Number(v *uint64, scale float64, at time.Time, labels ...string) {
	if v != nil {
		t.Value(float64(*v)/scale, at, labels...)
	}
}

// Flush writes what is left.
func (t *Text) Flush() error { return t.w.Flush() }
