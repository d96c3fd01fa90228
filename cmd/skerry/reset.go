package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/edgeagent/config"
)

type reset struct {
	configDir, stateDir string
	criSocket           string
	yes                 bool
	unit                systemdUnit
	host                hostFacts
}

func newReset() *cobra.Command {
	return resetCommand(&reset{unit: newSystemdUnit(), host: newHostFacts()})
}

func resetCommand(o *reset) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Undo 'skerry join' on this machine",
		Long: `Stop the agent and remove what 'skerry join' and the agent made: the systemd unit, the
pods, which the container runtime stops, edgeagent.yaml and pki/ under --config-dir, the
bridge for pods if join has written one, and the state directory with the database and
the pods' volumes, which are unmounted first. It lists everything and asks.

A state directory without Skerry's marker file is never touched, nor is any other file
in the configuration directory, nor a pod that is not the agent's.

What remains: images, which the container runtime keeps, pods' logs under /var/log/pods,
and the Node object in the cluster ('kubectl delete node'). The certificate is deleted here and stays valid until it
expires; 'skerry revoke NODE' ends it at once.`,
		Example: "  skerry reset\n  skerry reset --yes",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.configDir, "config-dir", defaultConfigDir, "where edgeagent.yaml and pki/ are")
	f.StringVar(&o.stateDir, "state-dir", defaultStateDir, "where the agent's database and volumes are; default what edgeagent.yaml says, then this")
	f.StringVar(&o.criSocket, "cri-socket", "", "the container runtime's socket; default what edgeagent.yaml says")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	return cmd
}

func (o *reset) run(cmd *cobra.Command) error {
	if !cmd.Flags().Changed("state-dir") {
		o.stateDir = o.joinedStateDir()
	}
	steps, notes, err := o.plan(cmd.Context())
	if err != nil {
		return err
	}
	// Nothing is removed under an agent that still runs or below a volume that is still
	// mounted.
	return carryOut(cmd, steps, notes, o.yes, func(s *step, err error) error {
		return fmt.Errorf("%s: %w; what is not done yet is left as it was, run reset again", s.what, err)
	})
}

// joinedStateDir is what the join was told: whoever forgets --state-dir here would
// leave the machine's database and Secrets behind.
func (o *reset) joinedStateDir() string {
	if c, err := config.Load(filepath.Join(o.configDir, filepath.Base(config.DefaultFile))); err == nil && c.StateDir != "" {
		return c.StateDir
	}
	return o.stateDir
}

// plan finds what is there. Notes say what is left alone and why.
func (o *reset) plan(ctx context.Context) (steps []step, notes []string, err error) {
	for _, dir := range []*string{&o.configDir, &o.stateDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, nil, err
		}
	}
	if o.unit.installed() {
		steps = append(steps, step{"stop the agent and remove " + o.unit.file(), o.unit.remove})
	}
	// Before the volumes: what still runs keeps them busy.
	stop, note := o.planPods(ctx)
	if note != "" {
		notes = append(notes, note)
	}
	steps = append(steps, stop...)
	// Before the state, which says where it is.
	if name, ours := o.host.ownNetwork(o.stateDir); ours {
		steps = append(steps, step{"remove " + name, func(context.Context) error { return os.Remove(name) }})
	}
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

// planPods lists the pods that the agent has started and that are still there: those
// of the runtime's that have a folder in the state directory.
func (o *reset) planPods(ctx context.Context) (steps []step, note string) {
	entries, err := os.ReadDir(filepath.Join(o.stateDir, "pods"))
	if err != nil || len(entries) == 0 || !hasMarker(o.stateDir) {
		return nil, ""
	}
	pods, err := runtimePods(ctx, o.runtimeSocket())
	if err != nil {
		return nil, fmt.Sprintf("Leaving containers alone: %v.", err)
	}
	for _, e := range entries {
		for _, p := range pods {
			if p.uid == "" || p.uid != e.Name() {
				continue
			}
			steps = append(steps, step{"stop and remove pod " + p.name, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, podTimeout)
				defer cancel()
				return p.remove(ctx)
			}})
		}
	}
	return steps, ""
}

// podTimeout bounds the end of one pod's containers.
const podTimeout = time.Minute

// runtimePod is a pod as the runtime has it.
type runtimePod struct {
	uid, name string
	remove    func(ctx context.Context) error
}

func (o *reset) runtimeSocket() string {
	if c, err := config.Load(filepath.Join(o.configDir, filepath.Base(config.DefaultFile))); err == nil && o.criSocket == "" {
		return c.CRISocket
	}
	return cmp.Or(o.criSocket, defaultCRISocket)
}

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

// removeState takes the state directory away. The marker goes last, so that an
// interrupted reset can be run again.
func removeState(dir string) error {
	if err := clearState(dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, marker)); err != nil {
		return err
	}
	removeIfEmpty(dir)
	return nil
}

// clearState removes all but the marker. It looks at the mounts again, because
// deleting below one deletes what is mounted, which may be any directory of the host.
func clearState(dir string) error {
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
