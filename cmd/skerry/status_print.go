package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/cloudproxy/status"
)

// printer writes edges in the form that was asked for.
type printer struct {
	w      io.Writer
	output string
	single bool // json and yaml are of the edge itself, not of a list
	widths []int
}

func newPrinter(w io.Writer, output string, single bool) *printer {
	return &printer{w: w, output: output, single: single}
}

// all writes edges as one document or one table.
func (p *printer) all(edges []edge, now time.Time) error {
	if p.output != "json" && p.output != "yaml" {
		return p.table(edges, now)
	}
	if p.single && len(edges) == 1 {
		return p.document(edges[0])
	}
	if edges == nil {
		edges = []edge{} // JSON wants [], not null
	}
	return p.document(edges)
}

// some writes edges as a document each, or as further lines of the table.
func (p *printer) some(edges []edge, now time.Time) error {
	if p.output != "json" && p.output != "yaml" {
		return p.table(edges, now)
	}
	for _, e := range edges {
		if p.output == "yaml" {
			fmt.Fprintln(p.w, "---")
		}
		if err := p.document(e); err != nil {
			return err
		}
	}
	return nil
}

func (p *printer) document(v any) error {
	if p.output == "json" {
		enc := json.NewEncoder(p.w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	b, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	_, err = p.w.Write(b)
	return err
}

// table writes lines, and the head before the first. Columns keep the widths of
// the lines before, so that those of --watch stand below one another.
func (p *printer) table(edges []edge, now time.Time) error {
	var lines [][]string
	if p.widths == nil {
		lines = append(lines, p.head())
		p.widths = make([]int, len(lines[0]))
	}
	for i := range edges {
		lines = append(lines, p.line(&edges[i], now))
	}
	for _, line := range lines {
		for i, cell := range line {
			p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		var row strings.Builder
		for i, cell := range line {
			fmt.Fprintf(&row, "%-*s", p.widths[i]+3, cell)
		}
		b.WriteString(strings.TrimRight(row.String(), " ") + "\n")
	}
	_, err := io.WriteString(p.w, b.String())
	return err
}

func (p *printer) head() []string {
	h := []string{"NAME", "STATE", "LINK", "RTT", "LOSS", "SENT", "RECEIVED", "STREAMS", "RESUMES", "BEHIND", "REMOTE", "AGENT"}
	if p.output == "wide" {
		h = append(h, "FOR", "SESSION", "LINKS", "MIGRATIONS", "REPLAYED", "DUPLICATE", "BUFFERED", "OBJECTS", "UNSTORED", "UNAPPLIED", "EXPIRES", "CA EXPIRES", "ADDRESSES")
	}
	return h
}

func (p *printer) line(e *edge, now time.Time) []string {
	link, remote := []string{"", "", "", "", "", "", "", ""}, "" // no session, no figures
	wide := []string{age(e.Since, now), "", "", "", "", "", "", "", "", ""}
	if s := e.Session; s != nil {
		link = []string{
			oneLine(s.Link), rtt(s.RTT), loss(s.PacketsLost, s.PacketsSent), size(s.BytesSent), size(s.BytesReceived),
			strconv.Itoa(s.Streams), strconv.FormatUint(s.Resumes, 10), "",
		}
		remote = oneLine(s.Remote)
		wide = []string{
			wide[0], age(s.SessionSince, now), strconv.FormatUint(s.Links, 10), strconv.FormatUint(s.Migrations, 10),
			size(s.ReplayedBytes), size(s.DuplicateBytes), size(uint64(max(s.BufferedBytes, 0))), "", "", "",
		}
		if d := s.Desired; d != nil {
			link[len(link)-1] = behind(d.Unrunning)
			copy(wide[len(wide)-3:], []string{strconv.Itoa(d.Objects), behind(d.Unstored), behind(d.Unapplied)})
		}
	}
	line := append([]string{e.Node, e.state(now)}, link...)
	line = append(line, remote, oneLine(e.AgentVersion))
	if p.output == "wide" {
		line = append(append(line, wide...), e.expiries(now)...)
		line = append(line, oneLine(strings.Join(e.Addresses, ",")))
	}
	for i, cell := range line {
		if cell == "" {
			line[i] = "-"
		}
	}
	return line
}

// expiries are of the certificate and of the CA that signed it.
func (e *edge) expiries(now time.Time) []string {
	if e.Certificate == nil {
		return []string{"", ""}
	}
	return []string{expiry(e.Certificate.NotAfter, now), expiry(e.Certificate.CANotAfter, now)}
}

func (e *edge) state(now time.Time) string {
	if e.State == stateOffline && !e.Since.IsZero() {
		return "offline since " + age(e.Since, now)
	}
	return e.State
}

func rtt(ms float64) string {
	switch {
	case ms <= 0:
		return ""
	case ms < 10:
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.0fms", ms)
}

// age is how long ago something was; nothing for the zero time.
func age(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration.HumanDuration(max(now.Sub(t), 0)) // clocks differ
}

// behind is a number of objects and for how long the oldest has been waiting.
func behind(b status.Behind) string {
	if b.Objects == 0 {
		return "0"
	}
	return strconv.Itoa(b.Objects) + " for " + duration.HumanDuration(time.Duration(b.LagSeconds*float64(time.Second)))
}

func loss(lost, sent uint64) string {
	if sent == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f%%", 100*float64(lost)/float64(sent))
}

// size is a count of bytes with at most three digits.
func size(n uint64) string {
	f := float64(n)
	unit := "B"
	for _, u := range []string{"kB", "MB", "GB", "TB"} {
		if f < 999.5 {
			break
		}
		f, unit = f/1000, u
	}
	if f < 9.95 && unit != "B" {
		return fmt.Sprintf("%.1f%s", f, unit)
	}
	return fmt.Sprintf("%.0f%s", f, unit)
}
