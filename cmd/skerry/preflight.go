package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry-io/skerry/certs/bootstrap"
)

// check is one thing that must hold before a token is spent.
type check struct {
	what string
	run  func(ctx context.Context) error
}

// preflight runs all checks, so that a person repairs everything in one go.
func preflight(ctx context.Context, checks []check, say func(string)) error {
	failed := 0
	for _, c := range checks {
		if err := c.run(ctx); err != nil {
			failed++
			say("FAIL  " + c.what + ": " + err.Error())
			continue
		}
		say("ok    " + c.what)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed; nothing was changed", failed, len(checks))
	}
	return nil
}

func (o *join) checks() []check {
	checks := []check{
		{"this machine has not joined yet", func(context.Context) error {
			if !o.force && bootstrap.Joined(o.configDir) {
				return fmt.Errorf("%s holds a join; use --force to replace it, or 'skerry reset' first", o.configDir)
			}
			return nil
		}},
		{"the container runtime answers at " + o.criSocket, func(ctx context.Context) error { return dialRuntime(ctx, o.criSocket) }},
		{o.configDir + " can be written", func(context.Context) error { return writable(o.configDir) }},
		{o.stateDir + " can be written", func(context.Context) error { return writable(o.stateDir) }},
		{o.stateDir + " is empty or Skerry's", func(context.Context) error { return ownOrEmpty(o.stateDir) }},
	}
	if o.root {
		checks = append([]check{{"running as root", func(context.Context) error {
			if os.Geteuid() != 0 {
				return errors.New("run it with sudo")
			}
			return nil
		}}}, checks...)
	}
	if !o.noService {
		checks = append(checks, check{"the agent's binary is there", func(context.Context) error {
			agent, err := o.findAgent()
			if err != nil {
				return err
			}
			if info, err := os.Stat(agent); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
				return fmt.Errorf("%s is not a program", agent)
			}
			return nil
		}})
	}
	return checks
}

// dialRuntime connects and asks nothing: that is enough to tell a runtime that is
// not installed or not running, and it needs no client for the protocol.
func dialRuntime(ctx context.Context, socket string) error {
	const timeout = 5 * time.Second
	path, ok := strings.CutPrefix(socket, "unix://")
	if !ok {
		return errors.New("the address must start with unix://")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("%w; is containerd or CRI-O installed and running? (--cri-socket names another socket)", err)
	}
	return conn.Close()
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
