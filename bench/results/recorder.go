package results

import (
	"context"
	"fmt"
	"strings"
)

// Recorder takes the rows of one run into the results.
type Recorder struct {
	dir     string
	run     Run
	results *Results
}

// Begin describes a run of a make target that begins now, with flags for its
// bench, and reads the results below dir: a file that can't be read is told
// before anything is measured.
func Begin(ctx context.Context, dir, target string, flags []string) (*Recorder, error) {
	old, err := Load(dir)
	if err != nil {
		return nil, err
	}
	run, err := NewRun(ctx, command(target, flags))
	if err != nil {
		return nil, err
	}
	return &Recorder{dir: dir, run: run, results: old}, nil
}

// Keep writes the results with the rows of this run.
func (r *Recorder) Keep(rows []Row) error {
	r.results.Add(r.run, rows)
	return r.results.Save(r.dir)
}

// command is what a reader types to have the same.
func command(target string, flags []string) string {
	if len(flags) == 0 {
		return "make " + target
	}
	return fmt.Sprintf("make %s BENCHFLAGS=%q", target, strings.Join(flags, " "))
}
