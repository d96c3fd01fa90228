package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/skerry-io/skerry/certs"
)

const (
	unitName       = "skerry-edgeagent.service"
	systemdTimeout = 90 * time.Second
)

//go:embed skerry-edgeagent.service
var unitTemplate string

// lookPath is exec.LookPath with an absolute answer.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// systemdUnit is the agent's service.
type systemdUnit struct {
	dir    string // where units of the administrator are
	booted string // there when systemd runs the machine, see sd_booted(3)
	// run is systemctl; replaced in tests.
	run func(ctx context.Context, args ...string) error
}

func newSystemdUnit() systemdUnit {
	return systemdUnit{dir: "/etc/systemd/system", booted: "/run/systemd/system", run: systemctl}
}

func systemctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, systemdTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (u systemdUnit) file() string { return filepath.Join(u.dir, unitName) }

func (u systemdUnit) runs() bool {
	info, err := os.Stat(u.booted)
	return err == nil && info.IsDir()
}

func (u systemdUnit) installed() bool {
	_, err := os.Lstat(u.file())
	return err == nil
}

// install writes the unit, and starts it where systemd runs.
func (u systemdUnit) install(ctx context.Context, agent, config string, say func(string)) error {
	text, err := renderUnit(agent, config)
	if err != nil {
		return err
	}
	if _, err := os.Stat(u.dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no %s: start %s --config %s by other means (--no-service says you will)", u.dir, agent, config)
	}
	if err := certs.WriteFileAtomic(u.file(), text, 0o644); err != nil {
		return err
	}
	say("wrote " + u.file())
	if !u.runs() {
		say("systemd does not run here; start the agent with: " + agent + " --config " + config)
		return nil
	}
	// restart, not start: after --force an old agent still has the old identity.
	for _, args := range [][]string{{"daemon-reload"}, {"enable", unitName}, {"restart", unitName}} {
		if err := u.run(ctx, args...); err != nil {
			return err
		}
	}
	say("started " + unitName)
	return nil
}

// remove stops the agent before its unit is gone.
func (u systemdUnit) remove(ctx context.Context) error {
	if u.runs() {
		if err := u.run(ctx, "disable", "--now", unitName); err != nil {
			return err
		}
	}
	if err := os.Remove(u.file()); err != nil {
		return fmt.Errorf("remove unit: %w", err)
	}
	if u.runs() {
		return u.run(ctx, "daemon-reload")
	}
	return nil
}

// discard takes away what a failed install has left, as far as it got.
func (u systemdUnit) discard(ctx context.Context) error {
	if !u.installed() {
		return nil
	}
	if u.runs() {
		// It may not even be known; what counts is that the file goes.
		_ = u.run(ctx, "disable", "--now", unitName)
	}
	if err := os.Remove(u.file()); err != nil {
		return fmt.Errorf("remove unit: %w", err)
	}
	if u.runs() {
		_ = u.run(ctx, "daemon-reload")
	}
	return nil
}

func renderUnit(agent, config string) ([]byte, error) {
	t, err := template.New("unit").Parse(unitTemplate)
	if err != nil {
		return nil, fmt.Errorf("unit template: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]string{"Agent": unitQuote(agent), "Config": unitQuote(config)})
	return out.Bytes(), err
}

// unitQuote quotes for ExecStart=: C escapes, and no specifiers or variables.
func unitQuote(s string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(strconv.Quote(s))
}
