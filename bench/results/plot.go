package results

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
)

// plot is a chart of grouped bars.
type plot struct {
	title, xLabel, yLabel string
	unit                  string
	groups                []string
	series                []bars
	floor                 *bar // a line across; nil is none
	floorName             string
}

// bars are one series: a bar for each group, nil where nothing was measured.
type bars struct {
	name string
	bars []*bar
}

type bar struct{ median, min, max float64 }

// plot collects what a plot shows; it returns false when that is nothing.
func (r *Results) plot(s plotSpec) (plot, bool) {
	p := plot{title: s.title, xLabel: "link, and its round trip time", yLabel: s.axis + ", " + s.unit, unit: s.unit}
	find := func(link, system, metric string) *bar {
		for _, row := range r.Rows {
			if row.key() == [4]string{s.bench, link, system, metric} {
				return &bar{row.Median, row.Min, row.Max}
			}
		}
		return nil
	}
	var systems []string
	for _, row := range r.of(s.bench) {
		shown := slices.ContainsFunc(s.metrics, func(m series) bool { return m.metric == row.Metric })
		if shown && row.Link != NoLink && !slices.Contains(systems, row.System) {
			systems = append(systems, row.System)
		}
		if row.Metric == s.floor.metric && row.Link == NoLink {
			p.floor, p.floorName = &bar{row.Median, row.Min, row.Max}, s.floor.name
		}
	}
	// A link that nothing was measured over would be a hole in the sheet.
	var links []Link
	for _, l := range Links() {
		measured := func(system string) bool {
			return slices.ContainsFunc(s.metrics, func(m series) bool { return find(l.Name, system, m.metric) != nil })
		}
		if slices.ContainsFunc(systems, measured) {
			text, _, _ := strings.Cut(l.Text, ",")
			links = append(links, l)
			p.groups = append(p.groups, l.Name+" · "+text)
		}
	}
	for _, system := range systems {
		for _, m := range s.metrics {
			one := bars{name: m.name}
			switch {
			case len(s.metrics) == 1: // the title names it
				one.name = system
			case len(systems) > 1:
				one.name = system + ": " + m.name
			}
			for _, l := range links {
				one.bars = append(one.bars, find(l.Name, system, m.metric))
			}
			if slices.ContainsFunc(one.bars, func(b *bar) bool { return b != nil }) {
				p.series = append(p.series, one)
			}
		}
	}
	return p, len(p.series) > 0
}

// The sheet, in pixels. The legend's lines are added to the height.
const (
	width      = 860
	plotHeight = 320
	left       = 66
	right      = 18
	top        = 84
	bottom     = 58
	lineHeight = 20
	colors     = 6
)

// style colours the sheet for readers of both kinds: who prefers dark gets dark.
const style = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .small { font-size: 11px; }
  .sheet { fill: #ffffff; }
  .grid { stroke: #d1d9e0; }
  .axis { stroke: #59636e; }
  .whisker { stroke: #1f2328; stroke-width: 1.5; }
  .floor { stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 6 4; }
  .c0 { fill: #2f6fd6; } .c1 { fill: #e08a2c; } .c2 { fill: #3c9d5d; }
  .c3 { fill: #a45bc4; } .c4 { fill: #c94f4f; } .c5 { fill: #7a828c; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .sheet { fill: #0d1117; }
    .grid { stroke: #2d333b; }
    .axis, .floor { stroke: #9198a1; }
    .whisker { stroke: #e6edf3; }
    .c0 { fill: #4d8bf0; } .c1 { fill: #d98324; } .c2 { fill: #45a566; }
    .c3 { fill: #b070d0; } .c4 { fill: #d96060; } .c5 { fill: #8b949e; }
  }
`

// svg draws the plot.
func (p plot) svg() []byte {
	entries := len(p.series)
	if p.floor != nil {
		entries++
	}
	height := top + plotHeight + bottom + (entries+1)/2*lineHeight
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>%s</style>
<rect class="sheet" width="%d" height="%d" rx="6"/>
<text class="title" x="%d" y="28">%s</text>
<text class="small" x="%d" y="46">bar and number: median; line: min to max, and ↑ a max beyond the axis</text>
`, width, height, width, height, escape(p.title), style, width, height, left, escape(p.title), left)

	step, limit := scale(p.highest())
	y := func(v float64) float64 { return top + plotHeight*(1-v/limit) }
	for v := 0.0; v <= limit+step/2; v += step {
		fmt.Fprintf(&b, `<line class="%s" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`+"\n", lineClass(v), left, y(v), width-right, y(v))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left-8, y(v)+4.5, number(v))
	}
	labelX := 18
	if limit >= 10_000 { // five digits need its place
		labelX = 11
	}
	fmt.Fprintf(&b, `<text text-anchor="middle" transform="translate(%d %d) rotate(-90)">%s</text>`+"\n", labelX, top+plotHeight/2, escape(p.yLabel))
	p.drawGroups(&b, y)
	if p.floor != nil {
		fmt.Fprintf(&b, `<line class="floor" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`+"\n", left, y(p.floor.median), width-right, y(p.floor.median))
	}
	p.drawLegend(&b)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func lineClass(v float64) string {
	if v == 0 {
		return "axis"
	}
	return "grid"
}

// drawGroups draws the bars of each group, its name below and the axis' label.
func (p plot) drawGroups(b *bytes.Buffer, y func(float64) float64) {
	group := float64(width-left-right) / float64(len(p.groups))
	each := group * 0.84 / float64(len(p.series))
	for g, name := range p.groups {
		begin := left + group*(float64(g)+0.08)
		for s, one := range p.series {
			if v := one.bars[g]; v != nil {
				drawBar(b, *v, begin+each*float64(s), each, s, y)
			}
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", begin+group*0.42, top+plotHeight+20, escape(name))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", left+(width-left-right)/2, top+plotHeight+42, escape(p.xLabel))
}

// drawBar draws a median as a bar, min and max as a whisker, and writes the
// median above both. A whisker that leaves the sheet ends below two numbers.
func drawBar(b *bytes.Buffer, v bar, x, w float64, series int, y func(float64) float64) {
	middle, high := x+w/2, y(v.max)
	const numbers = 18
	if high < top {
		high = top + numbers
		fmt.Fprintf(b, `<text class="small" x="%.1f" y="%d" text-anchor="middle">↑%s</text>`+"\n", middle, top-4, number(v.max))
	}
	fmt.Fprintf(b, `<rect class="c%d" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`+"\n", series%colors, x+1, y(v.median), w-2, y(0)-y(v.median))
	fmt.Fprintf(b, `<path class="whisker" d="M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8"/>`+"\n",
		middle, y(v.min), high, middle-4, y(v.min), middle-4, high)
	fmt.Fprintf(b, `<text class="small" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", middle, high-5, number(v.median))
}

// drawLegend names the series in two columns.
func (p plot) drawLegend(b *bytes.Buffer) {
	place := func(i int) (x, y int) {
		return left + i%2*(width-left-right)/2, top + plotHeight + bottom + i/2*lineHeight
	}
	for i, one := range p.series {
		x, y := place(i)
		fmt.Fprintf(b, `<rect class="c%d" x="%d" y="%d" width="12" height="12"/><text x="%d" y="%d">%s</text>`+"\n",
			i%colors, x, y, x+20, y+11, escape(one.name))
	}
	if p.floor != nil {
		x, y := place(len(p.series))
		fmt.Fprintf(b, `<line class="floor" x1="%d" y1="%d" x2="%d" y2="%d"/><text x="%d" y="%d">%s: %s %s</text>`+"\n",
			x-6, y+6, x+14, y+6, x+20, y+11, escape(p.floorName), number(p.floor.median), escape(p.unit))
	}
}

// highest is what must be on the sheet: all, unless one bad moment would press
// the medians flat.
func (p plot) highest() float64 {
	const most = 2.5 // times the highest median
	var high, median float64
	for _, one := range p.series {
		for _, v := range one.bars {
			if v != nil {
				high, median = max(high, v.max), max(median, v.median)
			}
		}
	}
	return min(high, most*median)
}

// scale chooses the distance of the grid's lines, 1, 2 or 5 times a power of
// ten, and the end of the axis, with room for a number above the highest bar.
func scale(high float64) (step, limit float64) {
	if high <= 0 {
		return 1, 1
	}
	high *= 1.06
	step = math.Pow(10, math.Floor(math.Log10(high)))
	for _, f := range []float64{0.1, 0.2, 0.5} {
		if high/(step*f) <= 8 {
			step *= f
			break
		}
	}
	return step, step * math.Ceil(high/step)
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
