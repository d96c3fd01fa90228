package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// step is one thing that a command removes.
type step struct {
	what string
	run  func(ctx context.Context) error
}

// carryOut lists what a command will do, asks unless yes, and does it: in order, and no
// further after a failure, of which failed makes the error.
func carryOut(cmd *cobra.Command, steps []step, notes []string, yes bool, failed func(*step, error) error) error {
	out := cmd.OutOrStdout()
	for _, note := range notes {
		fmt.Fprintln(out, note)
	}
	if len(steps) == 0 {
		fmt.Fprintln(out, "Nothing to remove.")
		return nil
	}
	fmt.Fprintln(out, "This will:")
	for _, s := range steps {
		fmt.Fprintln(out, "  - "+s.what)
	}
	if !yes {
		if err := confirm(cmd); err != nil {
			return err
		}
	}
	for i := range steps {
		s := &steps[i]
		if cmd.Context().Err() != nil {
			return fmt.Errorf("interrupted; what is not done yet is left as it was, run %s again", cmd.Name())
		}
		if err := s.run(cmd.Context()); err != nil {
			return failed(s, err)
		}
		fmt.Fprintln(out, "done: "+s.what)
	}
	return nil
}

// confirm asks a person; a script has to say --yes.
func confirm(cmd *cobra.Command) error {
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return badUsage(cmd, "there is no terminal to ask on; say --yes if you mean it")
	}
	fmt.Fprint(cmd.OutOrStdout(), "Go on? [y/N] ")
	line, err := interruptible(cmd.Context(), func() (string, error) { return bufio.NewReader(in).ReadString('\n') })
	if errors.Is(err, errInterrupted) {
		return errors.New("interrupted; nothing was changed")
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	default:
		return errors.New("nothing was changed")
	}
}
