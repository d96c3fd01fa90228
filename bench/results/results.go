// Package results keeps what the benchmarks measure: rows in results.json, the
// runs that made them in runs.json, and RESULTS.md with its plots, which are
// generated from both. The benchmarks are its users; it guarantees that a new
// run replaces the rows that it measured again and no others, and that no
// figure in RESULTS.md has another source than these two files.
package results

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The files below the directory of the benchmarks.
const (
	rowsFile   = "results.json"
	runsFile   = "runs.json"
	reportFile = "RESULTS.md"
	plotsDir   = "plots"
)

// NoLink is the link of what crosses none.
const NoLink = "-"

// Row is one figure: a metric of a system over a link.
type Row struct {
	Bench  string    `json:"bench"`
	Link   string    `json:"link"`   // A to E, or NoLink
	System string    `json:"system"` // skerry, or what it is compared with
	Metric string    `json:"metric"`
	Unit   string    `json:"unit"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	N      int       `json:"n"` // how many values the three are of
	When   time.Time `json:"when"`
	Commit string    `json:"commit"`
}

// key is what a new row replaces an old one by.
func (r Row) key() [4]string { return [4]string{r.Bench, r.Link, r.System, r.Metric} }

// Results are all rows, and the runs that made them.
type Results struct {
	Rows []Row
	Runs []Run
}

// Load reads the results below dir; without files they are empty.
func Load(dir string) (*Results, error) {
	r := &Results{}
	for file, to := range map[string]any{rowsFile: &r.Rows, runsFile: &r.Runs} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, to); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return r, nil
}

// Add takes in the rows of a run, in place of older ones of the same bench,
// link, system and metric, and forgets runs of which no row is left.
func (r *Results) Add(run Run, rows []Row) {
	fresh := map[[4]string]bool{}
	for _, row := range rows {
		fresh[row.key()] = true
	}
	r.Rows = slices.DeleteFunc(r.Rows, func(row Row) bool { return fresh[row.key()] })
	for _, row := range rows {
		row.When, row.Commit = run.When, run.Commit
		r.Rows = append(r.Rows, row)
	}
	slices.SortStableFunc(r.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Bench, b.Bench), cmp.Compare(a.Metric, b.Metric),
			cmp.Compare(a.System, b.System), cmp.Compare(a.Link, b.Link))
	})
	r.Runs = append(r.Runs, run)
	r.Runs = slices.DeleteFunc(r.Runs, func(run Run) bool {
		return !slices.ContainsFunc(r.Rows, func(row Row) bool { return row.When.Equal(run.When) })
	})
}

// Save writes the two files, RESULTS.md and the plots below dir.
func (r *Results) Save(dir string) error {
	files, err := r.render()
	if err != nil {
		return err
	}
	for file, v := range map[string]any{rowsFile: r.Rows, runsFile: r.Runs} {
		if files[file], err = encode(v); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, plotsDir), 0o755); err != nil {
		return err
	}
	for file, b := range files {
		//nolint:gosec // results are for everybody to read
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// encode writes one element a line, so that a diff shows which figure changed.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var elems []json.RawMessage
	if err := json.Unmarshal(b, &elems); err != nil {
		return nil, err
	}
	out := []byte("[")
	for i, e := range elems {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, "\n  "...), e...)
	}
	return append(out, "\n]\n"...), nil
}

// render makes the files that are generated from the rows.
func (r *Results) render() (map[string][]byte, error) {
	files := map[string][]byte{}
	var links []figure
	for _, s := range plots() {
		p, ok := r.plot(s)
		if !ok {
			continue
		}
		file := plotsDir + "/" + s.file
		files[file] = p.svg()
		links = append(links, figure{bench: s.bench, file: file, title: s.title})
	}
	b, err := r.markdown(links)
	files[reportFile] = b
	return files, err
}
