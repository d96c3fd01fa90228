package controlplane

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// grace is how long a component may take to end by itself. kube-apiserver waits
// for requests in flight, such as an exec that nobody ends; it keeps nothing in
// memory, so killing it after that costs nothing.
func grace(component string) time.Duration {
	if component == APIServer {
		return 20 * time.Second
	}
	return 10 * time.Second
}

// Down stops all components, those that depend on others first. With purge it
// also removes data, certificates and logs, and kills at once, for there is
// nothing to be saved. Doing it again does nothing.
func (p *Plane) Down(ctx context.Context, purge bool) error {
	if _, err := os.Stat(p.cfg.Dir); os.IsNotExist(err) {
		p.say("nothing to stop: %s does not exist", p.cfg.Dir)
		return nil
	}
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	stopped, err := p.stopAll(ctx, purge)
	if err != nil {
		return err
	}
	if stopped == 0 {
		p.say("nothing was running in %s", p.cfg.Dir)
	}
	if purge {
		return p.purge()
	}
	return nil
}

// stopAll stops every component and returns how many ran.
func (p *Plane) stopAll(ctx context.Context, kill bool) (stopped int, err error) {
	for _, wave := range slices.Backward(waves()) {
		for _, name := range wave {
			did, err := p.stopOne(ctx, name, kill)
			if err != nil {
				return stopped, err
			}
			if did {
				stopped++
			}
		}
	}
	return stopped, nil
}

func (p *Plane) stopOne(ctx context.Context, name string, kill bool) (did bool, err error) {
	proc, err := p.process(name)
	if err != nil {
		return false, err
	}
	did = proc.running()
	patience := grace(name)
	if kill {
		patience = 0
	}
	killed, err := proc.stop(ctx, patience)
	switch {
	case err != nil:
		return did, err
	case killed && !kill:
		p.say("%s: killed, it did not end within %v", name, patience)
	case did:
		p.say("%s: stopped", name)
	}
	return did, nil
}

// purge removes what a control plane wrote, and the directory if nothing else
// is in it: a wrong --dir must not cost anyone a home directory.
func (p *Plane) purge() error {
	for _, name := range []string{"etcd", "pki", "log", "run", "cache", "kubeconfig"} {
		if err := os.RemoveAll(p.path(name)); err != nil {
			return err
		}
	}
	if left, err := os.ReadDir(p.cfg.Dir); err == nil && len(left) > 0 {
		p.say("removed the control plane from %s", p.cfg.Dir)
		return nil
	}
	if err := os.Remove(p.cfg.Dir); err != nil {
		return err
	}
	p.say("removed %s", p.cfg.Dir)
	return nil
}

// State is what Status tells about one component.
type State struct {
	Component string
	PID       int // zero when it does not run
	Ready     bool
	Reason    string // why it is not ready
}

// Status looks at every component and changes nothing.
func (p *Plane) Status(ctx context.Context) ([]State, error) {
	var states []State
	health, healthErr := p.newHealth()
	for _, wave := range waves() {
		for _, name := range wave {
			proc, err := p.process(name)
			if err != nil {
				return nil, err
			}
			st := State{Component: name}
			switch {
			case !proc.running():
				st.Reason = "not running"
			case healthErr != nil:
				st.PID, st.Reason = proc.desc.PID, fmt.Sprintf("cannot ask: %v", healthErr)
			default:
				st.PID = proc.desc.PID
				if err := health.ok(ctx, proc.desc.ReadyURL); err != nil {
					st.Reason = err.Error()
				}
				st.Ready = st.Reason == ""
			}
			states = append(states, st)
		}
	}
	return states, nil
}
