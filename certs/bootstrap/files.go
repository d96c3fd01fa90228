package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/skerry-io/skerry/certs"
)

// Names under Config.Dir.
const (
	configFile = "edgeagent.yaml"
	oldConfig  = "edgeagent.yaml.old"
	pkiDir     = "pki"
	caFile     = "ca.crt"
	certFile   = "edge.crt"
	keyFile    = "edge.key"
)

// Files gives the paths under dir that a join makes, for whoever removes them.
func Files(dir string) []string {
	return []string{
		filepath.Join(dir, configFile),
		filepath.Join(dir, oldConfig),
		filepath.Join(dir, pkiDir, caFile),
		filepath.Join(dir, pkiDir, certFile),
		filepath.Join(dir, pkiDir, keyFile),
	}
}

type fileSet struct{ ca, cert, key, yaml []byte }

// install puts all files in place or none: everything is written and synced in a
// directory beside them first, then three renames follow, each of which is taken
// back when a later one fails. Power loss between two renames is not covered; it
// leaves a machine that `skerry join --force` repairs.
func install(cfg Config, set fileSet) (files []string, err error) {
	made, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	stage, err := os.MkdirTemp(cfg.Dir, ".join-*")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write to %s: %w", cfg.Dir, err), removeMade(made))
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(stage))
		if err != nil {
			err = errors.Join(err, removeMade(made))
		}
	}()
	if err := fillStage(stage, set); err != nil {
		return nil, err
	}
	moves := [][2]string{
		{filepath.Join(cfg.Dir, pkiDir), filepath.Join(stage, "old-pki")},
		{filepath.Join(stage, pkiDir), filepath.Join(cfg.Dir, pkiDir)},
		// What a person wrote into the old file is kept beside the new one.
		{filepath.Join(cfg.Dir, configFile), filepath.Join(cfg.Dir, oldConfig)},
		{filepath.Join(stage, configFile), filepath.Join(cfg.Dir, configFile)},
	}
	undo, err := moveAll(moves)
	if err != nil {
		return nil, err
	}
	if err := certs.SyncDir(cfg.Dir); err != nil {
		return nil, errors.Join(err, undo())
	}
	for _, name := range Files(cfg.Dir) {
		if filepath.Base(name) != oldConfig {
			files = append(files, name)
		}
	}
	return files, nil
}

func fillStage(stage string, set fileSet) error {
	pki := filepath.Join(stage, pkiDir)
	if err := os.Mkdir(pki, 0o700); err != nil {
		return fmt.Errorf("write files: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{filepath.Join(pki, caFile), set.ca, 0o644},
		{filepath.Join(pki, certFile), set.cert, 0o644},
		{filepath.Join(pki, keyFile), set.key, 0o600},
		{filepath.Join(stage, configFile), set.yaml, 0o644},
	} {
		if err := certs.WriteFileAtomic(f.name, f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// moveAll renames in order and returns what takes it back; a source that is not
// there is skipped. When one rename fails, those before it are taken back.
func moveAll(moves [][2]string) (undo func() error, err error) {
	var done [][2]string
	undo = func() error {
		var errs []error
		for _, m := range slices.Backward(done) {
			errs = append(errs, os.Rename(m[1], m[0]))
		}
		return errors.Join(errs...)
	}
	for _, m := range moves {
		err := os.Rename(m[0], m[1])
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("put files in place: %w", err), undo())
		}
		done = append(done, m)
	}
	return undo, nil
}

// makeDir makes dir and its parents and returns those it made, deepest first.
func makeDir(dir string) (made []string, err error) {
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil || d == filepath.Dir(d) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, errors.Join(fmt.Errorf("make directory: %w", err), removeMade(made))
	}
	return made, nil
}

func removeMade(made []string) error {
	for _, d := range made {
		if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
