package lab

import (
	"context"
)

// A guest is a further program on an edge's machine, for instance another agent
// that is compared with ours. It is killed with the edge.

// StartGuest starts a guest in the edge's network, in the background.
func (e *Edge) StartGuest(ctx context.Context, name string, args ...string) error {
	if err := makeCgroups(e.cgroupRoot()); err != nil {
		return err
	}
	return e.start(ctx, daemon{name: e.daemon(name), netns: e.netns(), args: args})
}

// GuestPID is the guest's process, if it runs.
func (e *Edge) GuestPID(name string) (int, bool) { return e.lab.PID(e.daemon(name)) }

// StopGuest asks a guest to end, and kills it if it does not.
func (e *Edge) StopGuest(ctx context.Context, name string) error {
	return e.lab.stop(ctx, e.daemon(name), stopGrace)
}

// GuestLog is the log file of a guest.
func (e *Edge) GuestLog(name string) string { return e.lab.LogFile(e.daemon(name)) }

// CgroupRoot is the cgroup, in each hierarchy, below which the edge's pods live.
func (e *Edge) CgroupRoot() string { return e.cgroupRoot() }

// BoundAgent starts the agent inside a memory cgroup of its own, with limit bytes,
// and returns where the kernel keeps that cgroup's figures. The agent must not run.
// It runs from a copy of its program that is made inside: the pages of a program that
// somebody else has read before are charged to nobody who runs it after.
func (e *Edge) BoundAgent(ctx context.Context, limit int64) (string, error) {
	dir, err := makeMemoryCgroup(e.lab.cgroupRoot()+"/agent-"+e.Name, limit)
	if err != nil {
		return "", err
	}
	e.agentCgroup = dir
	defer func() { e.agentCgroup = "" }()
	return dir, e.StartAgent(ctx)
}

// agentCommand is how the agent is started.
func (e *Edge) agentCommand() []string {
	args := []string{e.lab.Bin("edgeagent"), "--config", e.ConfigFile()}
	if e.agentCgroup == "" {
		return args
	}
	script := `echo $$ >"$0"/cgroup.procs && cp "$2" "$1" && copy=$1 && shift 2 && exec "$copy" "$@"`
	return append([]string{"sh", "-c", script, e.agentCgroup, e.Path("edgeagent")}, args...)
}
