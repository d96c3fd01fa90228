package results

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figure is a plot that a bench's part of the report shows.
type figure struct{ bench, file, title string }

// markdown makes RESULTS.md.
func (r *Results) markdown(figures []figure) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`# Results

Generated from ` + rowsFile + ` and ` + runsFile + ` by the benchmarks; edits are lost. Figures are medians with (min to max, number
of values). 1 MB is 10⁶ bytes.

| link | round trip time, rate, loss each way |
|---|---|
`)
	for _, l := range Links() {
		fmt.Fprintf(&b, "| %s | %s |\n", l.Name, l.Text)
	}
	r.writeBudgets(&b)
	for _, bench := range r.benches() {
		fmt.Fprintf(&b, "\n## %s\n", bench.name)
		if bench.what != "" {
			fmt.Fprintf(&b, "\n%s\n", bench.what)
		}
		for _, f := range figures {
			if f.bench == bench.name {
				fmt.Fprintf(&b, "\n![%s](%s)\n", f.title, f.file)
			}
		}
		rows := r.of(bench.name)
		writeOverLinks(&b, rows, bench)
		writeWithoutLink(&b, rows, bench)
		writeMetrics(&b, rows, bench)
		if err := r.writeRuns(&b, rows); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// writeBudgets tells which budgets hold, of those that were measured.
func (r *Results) writeBudgets(b *bytes.Buffer) {
	var lines []string
	for _, want := range budgets() {
		i := slices.IndexFunc(r.Rows, func(row Row) bool {
			return row.key() == [4]string{want.bench, want.link, want.system, want.metric}
		})
		if i < 0 {
			continue
		}
		verdict := "met"
		if !want.holds(r.Rows[i]) {
			verdict = "**missed**"
		}
		lines = append(lines, fmt.Sprintf("| %s | %s %s %s | %s | %s |\n", want.what, want.sign(), strconv.FormatFloat(want.limit, 'f', -1, 64), r.Rows[i].Unit, cell(r.Rows[i]), verdict))
	}
	if len(lines) > 0 {
		b.WriteString("\n## Budgets\n\n| what | budget | measured | |\n|---|---|---|---|\n" + strings.Join(lines, ""))
	}
}

// benches are those with rows, in the order of the report.
func (r *Results) benches() []benchText {
	all := benches()
	for _, row := range r.Rows {
		if !slices.ContainsFunc(all, func(t benchText) bool { return t.name == row.Bench }) {
			all = append(all, benchText{name: row.Bench})
		}
	}
	return slices.DeleteFunc(all, func(t benchText) bool { return len(r.of(t.name)) == 0 })
}

// of are the rows of a bench, its metrics in the order of their words.
func (r *Results) of(bench string) []Row {
	var rows []Row
	for _, row := range r.Rows {
		if row.Bench == bench {
			rows = append(rows, row)
		}
	}
	order := map[string]int{}
	for _, t := range benches() {
		for i, m := range t.metrics {
			if t.name == bench {
				order[m.name] = i - len(t.metrics) // those without words come last
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return order[a.Metric] - order[b.Metric] })
	return rows
}

// writeOverLinks writes a table with a column for each link.
func writeOverLinks(b *bytes.Buffer, rows []Row, bench benchText) {
	type line struct {
		head   string
		cells  map[string]string
		commit []string
	}
	var lines []*line
	for _, row := range rows {
		if row.Link == NoLink {
			continue
		}
		head := fmt.Sprintf("| `%s` | %s | %s |", row.Metric, row.System, row.Unit)
		i := slices.IndexFunc(lines, func(l *line) bool { return l.head == head })
		if i < 0 {
			i = len(lines)
			lines = append(lines, &line{head: head, cells: map[string]string{}})
		}
		lines[i].cells[row.Link] = cell(row)
		if !slices.Contains(lines[i].commit, row.Commit) {
			lines[i].commit = append(lines[i].commit, row.Commit)
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n| %s over link | system | unit |", bench.name)
	for _, l := range Links() {
		fmt.Fprintf(b, " %s |", l.Name)
	}
	fmt.Fprintf(b, " commit |\n|---|---|---|%s---|\n", strings.Repeat("---|", len(Links())))
	for _, l := range lines {
		b.WriteString(l.head)
		for _, link := range Links() {
			fmt.Fprintf(b, " %s |", l.cells[link.Name])
		}
		fmt.Fprintf(b, " %s |\n", strings.Join(l.commit, ", "))
	}
}

// writeWithoutLink writes a table of what crosses no link.
func writeWithoutLink(b *bytes.Buffer, rows []Row, bench benchText) {
	head := fmt.Sprintf("\n| %s | system | unit | median | commit |\n|---|---|---|---|---|\n", bench.name)
	for _, row := range rows {
		if row.Link == NoLink {
			fmt.Fprintf(b, "%s| `%s` | %s | %s | %s | %s |\n", head, row.Metric, row.System, row.Unit, cell(row), row.Commit)
			head = ""
		}
	}
}

// writeMetrics says what the metrics are, of those that were measured.
func writeMetrics(b *bytes.Buffer, rows []Row, bench benchText) {
	head := "\n"
	for _, m := range bench.metrics {
		if slices.ContainsFunc(rows, func(row Row) bool { return row.Metric == m.name }) {
			fmt.Fprintf(b, "%s- `%s`: %s.\n", head, m.name, m.what)
			head = ""
		}
	}
}

// writeRuns says what made the rows.
func (r *Results) writeRuns(b *bytes.Buffer, rows []Row) error {
	var told []time.Time
	for _, row := range rows {
		if slices.ContainsFunc(told, row.When.Equal) {
			continue
		}
		told = append(told, row.When)
		i := slices.IndexFunc(r.Runs, func(run Run) bool { return run.When.Equal(row.When) })
		if i < 0 {
			return fmt.Errorf("%s has no run of %s, which made %s of bench %s", runsFile, row.When.Format(time.RFC3339), row.Metric, row.Bench)
		}
		run := r.Runs[i]
		fmt.Fprintf(b, "\nMade by `%s` at commit %s on %s: %s, %d cores, Linux %s, %s.\n", run.Command, run.Commit,
			run.When.Format("2006-01-02 15:04 UTC"), run.CPU, run.Cores, run.Kernel, run.Go)
	}
	return nil
}

// cell is a row's figures.
func cell(r Row) string {
	if r.N == 1 {
		return number(r.Median) + " (1)"
	}
	return fmt.Sprintf("%s (%s to %s, %d)", number(r.Median), number(r.Min), number(r.Max), r.N)
}

// number writes three digits, and all of those before the point.
func number(x float64) string {
	decimals := 2
	switch {
	case x == float64(int64(x)) || x >= 100 || x <= -100:
		decimals = 0
	case x >= 10 || x <= -10:
		decimals = 1
	}
	return strconv.FormatFloat(x, 'f', decimals, 64)
}
