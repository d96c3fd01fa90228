package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// waves are the components in the order in which they start: each wave needs
// the one before it to be ready.
func waves() [][]string {
	return [][]string{{Etcd}, {APIServer}, {ControllerManager, Scheduler}}
}

// Up brings the control plane to the state that the Config describes: it
// starts what does not run, restarts what runs with other arguments, and
// returns when pods can be created. With everything in place it only looks.
//
// When it fails, what it started keeps running; another Up goes on from there.
func (p *Plane) Up(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.Timeout,
		fmt.Errorf("not ready after %v", p.cfg.Timeout))
	defer cancel()
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(p.path("log"), 0o700); err != nil {
		return err
	}
	renewed, err := p.preparePKI(time.Now())
	if err != nil {
		return fmt.Errorf("prepare certificates: %w", err)
	}
	if renewed {
		p.say("certificates and kubeconfigs written below %s", p.cfg.Dir)
		// Who runs already has read the old ones.
		if _, err := p.stopAll(ctx, false); err != nil {
			return err
		}
	}
	health, err := p.newHealth()
	if err != nil {
		return fmt.Errorf("prepare certificates: %w", err)
	}
	started := 0
	for _, wave := range waves() {
		var procs []*process
		for _, name := range wave {
			proc, fresh, err := p.ensure(ctx, name)
			if err != nil {
				return err
			}
			if fresh {
				started++
			}
			procs = append(procs, proc)
		}
		if err := p.waitReady(ctx, health, procs, started > 0); err != nil {
			return err
		}
	}
	if err := p.waitDefaultServiceAccount(ctx, health); err != nil {
		return err
	}
	if started == 0 {
		p.say("the control plane runs already: %s", p.serverURL())
	} else {
		p.say("the control plane is ready: %s", p.serverURL())
	}
	p.say("export KUBECONFIG=%s", p.Kubeconfig())
	return nil
}

// ensure makes a component run with today's arguments. fresh tells whether it
// was started for that.
func (p *Plane) ensure(ctx context.Context, name string) (proc *process, fresh bool, err error) {
	proc, err = p.process(name)
	if err != nil {
		return nil, false, err
	}
	args := p.arguments(name)
	switch {
	case !proc.running():
	case proc.stale(args, p.readyURL(name)):
		p.say("%s: stopping, it is to run with other arguments", name)
		if _, err := proc.stop(ctx, grace(name)); err != nil {
			return nil, false, err
		}
	default:
		return proc, false, nil
	}
	for _, addr := range p.listens(name) {
		if err := portFree(ctx, addr); err != nil {
			return nil, false, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return proc, true, proc.start(p.cfg.Program, args, p.readyURL(name))
}

// waitReady waits until all procs serve, or one dies.
func (p *Plane) waitReady(ctx context.Context, h *health, procs []*process, say bool) error {
	pending := map[string]*process{}
	for _, proc := range procs {
		pending[proc.name] = proc
	}
	return p.poll(ctx, func() error {
		var waits []error
		for name, proc := range pending {
			if !proc.running() {
				return &DiedError{Component: name, Exit: proc.exit(), Log: proc.log, Tail: tail(proc.log)}
			}
			if err := h.ok(ctx, proc.desc.ReadyURL); err != nil {
				waits = append(waits, &waitError{name, err})
				continue
			}
			delete(pending, name)
			if say {
				p.say("%s: ready, process %d", name, proc.desc.PID)
			}
		}
		return errors.Join(waits...)
	})
}

// waitDefaultServiceAccount waits for what pods in the namespace default need:
// it is the last thing to appear in a new cluster.
func (p *Plane) waitDefaultServiceAccount(ctx context.Context, h *health) error {
	url := p.serverURL() + "/api/v1/namespaces/default/serviceaccounts/default"
	return p.poll(ctx, func() error {
		if err := h.ok(ctx, url); err != nil {
			return &waitError{"ServiceAccount default/default", err}
		}
		return nil
	})
}

// waitError is a reason to look again; any other error ends poll.
type waitError struct {
	what string
	err  error
}

func (e *waitError) Error() string { return e.what + ": " + e.err.Error() }
func (e *waitError) Unwrap() error { return e.err }

// poll repeats check until it returns nil or an error that waiting does not
// cure. Every ten seconds it says what it waits for.
func (p *Plane) poll(ctx context.Context, check func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	remind := time.NewTicker(10 * time.Second)
	defer remind.Stop()
	for {
		err := check()
		var wait *waitError
		if err == nil || !errors.As(err, &wait) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w; the logs are in %s", context.Cause(ctx), err, p.path("log"))
		case <-remind.C:
			p.say("waiting: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		case <-tick.C:
		}
	}
}

// DiedError is a component that ended while it was waited for.
type DiedError struct {
	Component string
	Exit      string // how it ended
	Log       string // path of its log
	Tail      string // end of its log
}

func (e *DiedError) Error() string {
	return fmt.Sprintf("%s died (%s). The end of its log %s:\n%s\n%s",
		e.Component, e.Exit, e.Log, e.Tail, advice(e.Tail))
}

// advice says what to do about the failures seen so far.
func advice(log string) string {
	switch {
	case strings.Contains(log, "address already in use"):
		return "A port was taken in the meantime: stop its holder, or choose other ports with --port-base."
	case strings.Contains(log, "no space left on device"):
		return "The disk is full."
	case strings.Contains(log, "unknown flag"):
		return "A flag given with --extra is not one of this component."
	default:
		return "Run up again to restart it; if it dies again, 'down --purge' and up begin with an empty cluster."
	}
}
