package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells a user what happens and how long it takes.
type progress struct {
	out      io.Writer
	terminal bool // a line may be written twice
	begin    time.Time
}

func newProgress(out *os.File) *progress {
	p := &progress{out: out, begin: time.Now()}
	if st, err := out.Stat(); err == nil {
		p.terminal = st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// step runs f and tells how it went.
func (p *progress) step(what string, f func() error) error {
	if p.terminal {
		fmt.Fprintf(p.out, "  ...     %s", what)
	}
	begin := time.Now()
	err := f()
	verdict := "ok"
	if err != nil {
		verdict = "FAILED"
	}
	if p.terminal {
		fmt.Fprint(p.out, "\r")
	}
	fmt.Fprintf(p.out, "  %-7s %-58s %6.1f s\n", verdict, what, time.Since(begin).Seconds())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (p *progress) done(what string) {
	fmt.Fprintf(p.out, "%s in %.1f s.\n", what, time.Since(p.begin).Seconds())
}
