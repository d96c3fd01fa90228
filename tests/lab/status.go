package lab

// DaemonStatus is one process of a lab.
type DaemonStatus struct {
	Daemon string
	PID    int // 0: it does not run
	Log    string
}

// Status tells of each process that the lab has or should have; those of the
// control plane are devcluster's.
func (l *Lab) Status() []DaemonStatus {
	names := []string{proxyDaemon}
	edges, err := l.Edges()
	if err == nil {
		for _, e := range edges {
			for _, kind := range []string{"linkemu", "containerd", "edgeagent"} {
				names = append(names, e.daemon(kind))
			}
		}
	}
	var all []DaemonStatus
	for _, name := range names {
		pid, ok := l.PID(name)
		if !ok {
			pid = 0
		}
		all = append(all, DaemonStatus{Daemon: name, PID: pid, Log: l.LogFile(name)})
	}
	return all
}
