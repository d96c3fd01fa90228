package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/skerry-io/skerry/bench/results"
)

// prefixes are those of the metrics of a scenario that has another name.
func prefixes(scenario string) []string {
	switch scenario {
	case "bulk":
		return []string{"bulk_", "echo_bulk_"}
	case "echo":
		return []string{"echo_p"}
	case "idle":
		return []string{"idle_", "handshakes_"}
	default:
		return []string{scenario + "_"}
	}
}

// printTable prints the medians of a scenario's metrics, a column for each
// system.
func printTable(w io.Writer, scenario string, rows []results.Row) {
	type line struct{ metric, unit, link string }
	var lines []line
	cells := map[line]map[string]string{}
	for _, row := range rows {
		if !slices.ContainsFunc(prefixes(scenario), func(p string) bool { return strings.HasPrefix(row.Metric, p) }) {
			continue
		}
		l := line{row.Metric, row.Unit, row.Link}
		if cells[l] == nil {
			cells[l] = map[string]string{}
			lines = append(lines, l)
		}
		cells[l][row.System] = fmt.Sprintf("%s (%s to %s, %d)", figure(row.Median), figure(row.Min), figure(row.Max), row.N)
	}
	slices.SortStableFunc(lines, func(a, b line) int {
		return strings.Compare(a.metric+" "+a.link, b.metric+" "+b.link)
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%s\tlink\tunit\t%s\n", scenario, strings.Join(systemNames(), "\t"))
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s\t%s", l.metric, l.link, l.unit)
		for _, s := range systemNames() {
			text := cells[l][s]
			if text == "" {
				text = "-"
			}
			fmt.Fprintf(t, "\t%s", text)
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintln(t)
	_ = t.Flush() // text for a person
}

// figure writes three digits, and all of those before the point.
func figure(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.3g", x)
}
