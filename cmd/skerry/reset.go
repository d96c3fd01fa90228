package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/edgeagent/config"
)

type reset struct {
	configDir, stateDir string
	yes                 bool
	unit                systemdUnit
}

func newReset() *cobra.Command { return resetCommand(&reset{unit: newSystemdUnit()}) }

func resetCommand(o *reset) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Undo 'skerry join' on this machine",
		Long: `Stop the agent and remove what 'skerry join' and the agent made: the systemd unit,
edgeagent.yaml and pki/ under --config-dir, and the state directory with the database
and the pods' volumes, which are unmounted first. It lists everything and asks.

A state directory without Skerry's marker file is never touched, nor is any other file
in the configuration directory.

What remains: containers and images, which the container runtime keeps ('crictl pods',
'crictl rmp -fa'), pods' logs under /var/log/pods, and the Node object in the cluster
('kubectl delete node'). The certificate is deleted here and stays valid until it
expires; 'skerry revoke NODE' ends it at once.`,
		Example: "  skerry reset\n  skerry reset --yes",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.configDir, "config-dir", defaultConfigDir, "where edgeagent.yaml and pki/ are")
	f.StringVar(&o.stateDir, "state-dir", defaultStateDir, "where the agent's database and volumes are; default what edgeagent.yaml says, then this")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	return cmd
}

// step is one thing that a reset does.
type step struct {
	what string
	run  func(ctx context.Context) error
}

func (o *reset) run(cmd *cobra.Command) error {
	if !cmd.Flags().Changed("state-dir") {
		o.stateDir = o.joinedStateDir()
	}
	steps, notes, err := o.plan()
	if err != nil {
		return err
	}
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
	if !o.yes {
		if err := confirm(cmd); err != nil {
			return err
		}
	}
	// In order, and no further after a failure: nothing is removed under an agent
	// that still runs or below a volume that is still mounted.
	for _, s := range steps {
		if cmd.Context().Err() != nil {
			return errors.New("interrupted; what is not done yet is left as it was, run reset again")
		}
		if err := s.run(cmd.Context()); err != nil {
			return fmt.Errorf("%s: %w; what is not done yet is left as it was, run reset again", s.what, err)
		}
		fmt.Fprintln(out, "done: "+s.what)
	}
	return nil
}

// joinedStateDir is what the join was told: whoever forgets --state-dir here would
// leave the machine's database and Secrets behind.
func (o *reset) joinedStateDir() string {
	if c, err := config.Load(filepath.Join(o.configDir, filepath.Base(config.DefaultFile))); err == nil && c.StateDir != "" {
		return c.StateDir
	}
	return o.stateDir
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

// plan finds what is there. Notes say what is left alone and why.
func (o *reset) plan() (steps []step, notes []string, err error) {
	for _, dir := range []*string{&o.configDir, &o.stateDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, nil, err
		}
	}
	if o.unit.installed() {
		steps = append(steps, step{"stop the agent and remove " + o.unit.file(), o.unit.remove})
	}
	steps = append(steps, podCleanup()...)
	state, note, err := o.planState()
	if err != nil {
		return nil, nil, err
	}
	if note != "" {
		notes = append(notes, note)
	}
	steps = append(steps, state...)
	for _, name := range bootstrap.Files(o.configDir) {
		if _, err := os.Lstat(name); err == nil {
			steps = append(steps, step{"remove " + name, func(context.Context) error { return os.Remove(name) }})
		}
	}
	return append(steps, o.emptyDirs()...), notes, nil
}

// podCleanup is where containers and sandboxes of the agent's pods get stopped
// and removed. Only the agent speaks the runtime's protocol, so until it has a
// command for that, reset does nothing here and its help says what remains.
func podCleanup() []step { return nil }

func (o *reset) planState() (steps []step, note string, err error) {
	dir, err := filepath.EvalSymlinks(o.stateDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("state directory: %w", err)
	}
	// Without root a state directory can't be looked into; that is not the same as
	// one without a marker.
	if _, err := os.Lstat(filepath.Join(dir, marker)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("state directory: %w; run reset as root", err)
	}
	if !hasMarker(dir) {
		return nil, fmt.Sprintf("Leaving %s alone: it has no file %s, so it is not the agent's.", dir, marker), nil
	}
	mounts, err := readMounts()
	if err != nil {
		return nil, "", fmt.Errorf("list mounts: %w", err)
	}
	for _, point := range mountsBelow(mounts, dir) {
		steps = append(steps, step{"unmount " + point, func(context.Context) error { return unmount(point) }})
	}
	return append(steps, step{"remove " + dir, func(context.Context) error { return removeState(dir) }}), "", nil
}

// removeState looks at the mounts again, because deleting below one deletes what
// is mounted, which may be any directory of the host. The marker goes last, so
// that an interrupted reset can be run again.
func removeState(dir string) error {
	mounts, err := readMounts()
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	if left := mountsBelow(mounts, dir); len(left) > 0 {
		return fmt.Errorf("still mounted: %s", strings.Join(left, ", "))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == marker || e.Name() == "lost+found" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, marker)); err != nil {
		return err
	}
	removeIfEmpty(dir)
	return nil
}

// emptyDirs removes directories that nobody else put anything into.
func (o *reset) emptyDirs() []step {
	if _, err := os.Stat(o.configDir); err != nil {
		return nil
	}
	return []step{{"remove " + o.configDir + " if nothing else is in it", func(context.Context) error {
		removeIfEmpty(filepath.Join(o.configDir, "pki"))
		removeIfEmpty(o.configDir)
		return nil
	}}}
}

// removeIfEmpty relies on rmdir: it fails on a directory with anything in it, and
// on a mount point, and both may stay.
func removeIfEmpty(dir string) { _ = os.Remove(dir) }
