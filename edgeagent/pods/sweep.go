package pods

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/logrotate"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
)

// sweepEvery is the pause between looks for leftovers. They come from an agent
// that was killed while it cleaned up, and from mounts that did not go.
const sweepEvery = time.Minute

// sweeper removes leftovers again and again. The first sweep, of what former
// agents have left, was begin's.
func (m *Manager) sweeper(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var seen map[string]bool
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// What is new may belong to a pod that is about to get its worker.
		left := m.leftovers()
		m.remove(left, seen)
		seen = left
	}
}

// leftovers are the UIDs and the log directories on the host that belong to no
// worker, so neither the store nor the runtime has their pods.
func (m *Manager) leftovers() map[string]bool {
	left := map[string]bool{}
	add := func(uid string) {
		if !m.has(types.UID(uid)) {
			left[uid] = true
		}
	}
	if dirs, err := m.env.volumes.Pods(); err == nil {
		for _, uid := range dirs {
			add(string(uid))
		}
	} else {
		m.env.Log.Warn("pod directories not listed", "error", err)
	}
	for _, l := range m.env.layouts() {
		m.env.grouped(l, add)
	}
	entries, err := os.ReadDir(m.env.LogsDir)
	if err != nil {
		return left // nothing was logged yet
	}
	for _, e := range entries {
		if uid, ok := loggedUID(e.Name()); ok && !m.has(types.UID(uid)) {
			left[e.Name()] = true
		}
	}
	return left
}

// grouped calls f for the UIDs that have a group.
func (e *env) grouped(l cgroups.Layout, f func(uid string)) {
	for _, class := range cgroups.Classes() {
		names, err := e.Cgroups.Children(l.Group(class))
		if err != nil {
			e.Log.Warn("control groups not listed", "error", err)
			continue
		}
		for _, n := range names {
			if uid, ok := l.PodUID(n); ok && isUID(uid) {
				f(uid)
			}
		}
	}
}

// isUID says whether s looks like the API's UIDs or those of static pods, 16 bytes in
// hex: a group such as podman is nobody's leftover.
func isUID(s string) bool {
	if len(s) == 36 {
		s = strings.ReplaceAll(s, "-", "")
	}
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 32
}

// loggedUID tells whose logs are in a directory NAMESPACE_NAME_UID.
func loggedUID(directory string) (string, bool) {
	parts := strings.Split(directory, "_")
	if len(parts) != 3 {
		return "", false
	}
	return parts[2], true
}

// remove removes those leftovers that are in seen too.
func (m *Manager) remove(left, seen map[string]bool) {
	for name := range left {
		if !seen[name] {
			continue
		}
		if uid, ok := loggedUID(name); ok {
			if m.has(types.UID(uid)) {
				continue
			}
			if err := os.RemoveAll(path.Join(m.env.LogsDir, name)); err != nil {
				m.env.Log.Warn("logs of a pod not removed", "directory", name, "error", err)
			}
			continue
		}
		if m.has(types.UID(name)) {
			continue
		}
		if err := m.env.cleanHost(types.UID(name)); err != nil {
			m.env.Log.Warn("leftovers of a pod not removed", "pod_uid", name, "error", err)
		}
	}
}

// DeleteDead removes the dead containers and sandboxes of pods that have finished,
// with their logs: what may go when the disk is full. Of pods that run there are
// none to spare.
func (m *Manager) DeleteDead(ctx context.Context) error {
	var errs []error
	m.each(func(w *worker) {
		v := w.snapshotView()
		if v.obs == nil || v.status == nil || !terminal(v.status.Phase) || v.unsaved || v.obs.running() {
			return
		}
		s := &snapshot{ref: w.ref, pod: v.pod, obs: v.obs}
		for i := range v.obs.containers {
			errs = append(errs, m.env.collect(ctx, s, action{kind: actCollect, id: v.obs.containers[i].id}))
		}
		for i := range v.obs.sandboxes {
			if !v.obs.sandboxes[i].Ready {
				errs = append(errs, m.env.collect(ctx, s, action{kind: actCollect, id: v.obs.sandboxes[i].ID, sandbox: true}))
			}
		}
		w.ring(false, false, true)
	})
	return errors.Join(errs...)
}

// Logs lists the logs of all containers that the runtime has.
func (m *Manager) Logs() []logrotate.Log {
	var out []logrotate.Log
	m.each(func(w *worker) {
		v := w.snapshotView()
		if v.obs == nil {
			return
		}
		for i := range v.obs.containers {
			c := &v.obs.containers[i]
			out = append(out, logrotate.Log{ContainerID: c.id, Path: c.logPath, Running: c.state == cri.StateRunning})
		}
	})
	return out
}
