package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/bootstrap"
	"github.com/skerry-io/skerry/edgeagent/config"
)

// check is one thing that is looked at. What run says beside its verdict is shown,
// too; a *warning is told and keeps nobody from going on.
type check struct {
	what string
	run  func(ctx context.Context) (note string, err error)
}

// warning is a thing that may be as it should.
type warning struct{ text string }

func (w *warning) Error() string { return w.text }

func warn(format string, args ...any) error { return &warning{fmt.Sprintf(format, args...)} }

// examine runs all checks, so that a person repairs everything in one go, and gives
// how many have failed.
func examine(ctx context.Context, checks []check, say func(string)) (failed int) {
	for _, c := range checks {
		note, err := c.run(ctx)
		line := "ok    " + c.what
		switch _, soft := errors.AsType[*warning](err); {
		case soft:
			line = "warn  " + c.what + ": " + err.Error()
		case err != nil:
			failed++
			line = "FAIL  " + c.what + ": " + err.Error()
		case note != "":
			line += ": " + note
		}
		say(line)
	}
	return failed
}

// preflight wants all checks to hold.
func preflight(ctx context.Context, checks []check, say func(string)) error {
	failed := examine(ctx, checks, say)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case failed > 0:
		return fmt.Errorf("%d of %d checks failed; nothing was changed", failed, len(checks))
	}
	return nil
}

// plain is a check that has nothing to note.
func plain(run func() error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return "", run() }
}

// checks are all that must hold before the token is spent.
func (o *join) checks(hash certs.CAHash) []check {
	var checks []check
	if o.root {
		checks = append(checks, check{"running as root", plain(func() error {
			if os.Geteuid() != 0 {
				return errors.New("run it with sudo")
			}
			return nil
		})})
	}
	var runtime runtimeState
	answers := false
	checks = append(checks, []check{
		{"this machine has not joined yet", plain(func() error {
			if !o.force && bootstrap.Joined(o.configDir) {
				return fmt.Errorf("%s holds a join; use --force to replace it, or 'skerry reset' first", o.configDir)
			}
			return nil
		})},
		{"no kubelet runs here", func(ctx context.Context) (string, error) { return "", o.host.noKubelet(ctx) }},
		{fmt.Sprintf("the kernel is %d.%d or later", oldestKernelMajor, oldestKernelMinor), func(context.Context) (string, error) { return o.host.kernel() }},
		{"cgroups hold cpu, memory and pids", func(context.Context) (string, error) { return o.host.cgroups() }},
		{"the container runtime answers at " + o.criSocket, func(ctx context.Context) (note string, err error) {
			note, runtime, err = o.host.runtime(ctx, o.criSocket)
			answers = err == nil
			return note, err
		}},
		{"the runtime's cgroup driver is one that works here", func(context.Context) (string, error) {
			if !answers {
				return "", warn("the runtime could not be asked")
			}
			return o.host.cgroupDriver(config.Auto, runtime)
		}},
		{"pods have a network (CNI)", func(context.Context) (note string, err error) {
			if !answers {
				return "", warn("the runtime could not be asked")
			}
			o.cniDir, note, err = o.host.network(runtime)
			return note, err
		}},
		{o.configDir + " can be written", plain(func() error { return writable(o.configDir) })},
		{o.stateDir + " can be written", plain(func() error { return writable(o.stateDir) })},
		{o.stateDir + " is empty or Skerry's", plain(func() error { return ownOrEmpty(o.stateDir) })},
		{"the disk of " + o.stateDir + " has room", func(context.Context) (string, error) { return free(o.stateDir) }},
	}...)
	if !o.noService {
		checks = append(checks, check{"the agent's binary is there", plain(o.checkAgent)})
	}
	return append(checks, proxyChecks(o.server, hash.Matches)...)
}

func (o *join) checkAgent() error {
	agent, err := o.findAgent()
	if err != nil {
		return err
	}
	if info, err := os.Stat(agent); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not a program", agent)
	}
	return nil
}

// writable tries it in the nearest directory that exists, and leaves nothing.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		dir = filepath.Dir(dir)
	}
	f, err := os.CreateTemp(dir, ".skerry-preflight-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
