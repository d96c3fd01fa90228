package pods

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/demand"
)

// Active gives the pods that have been admitted and are not ending. They are
// shared: do not change them.
func (m *Manager) Active() []*corev1.Pod {
	var out []*corev1.Pod
	m.each(func(w *worker) {
		v := w.snapshotView()
		if v.pod != nil && v.status != nil && !v.gone && !v.ending && !terminal(v.status.Phase) && m.env.ledger.has(w.ref.UID) {
			out = append(out, v.pod)
		}
	})
	return out
}

// Ended says that nothing of a pod runs any more, and that it has given back what it
// held: its volumes too, which may take long to remove.
func (m *Manager) Ended(uid types.UID) bool {
	m.mu.Lock()
	w := m.workers[uid]
	m.mu.Unlock()
	if w == nil {
		return true
	}
	v := w.snapshotView()
	return v.ending && v.released && v.obs != nil && !v.obs.running()
}

// DiskUsage is what something takes on the disk.
type DiskUsage struct{ Bytes, Inodes int64 }

// EmptyDirUsage measures the emptyDirs of a pod that are on the disk, by name. It
// looks at every file.
func (m *Manager) EmptyDirUsage(ctx context.Context, pod *corev1.Pod) map[string]DiskUsage {
	out := map[string]DiskUsage{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !demand.OnDisk(v) {
			continue
		}
		u, err := diskUsage(ctx, m.env.volumes.Path(pod, v))
		if err != nil {
			m.env.Log.Debug("volume can't be measured", "pod", pod.Name, "namespace", pod.Namespace, "volume", v.Name, "error", err)
			continue
		}
		out[v.Name] = u
	}
	return out
}

// diskUsage adds up what is below dir, as du does.
func diskUsage(ctx context.Context, dir string) (sum DiskUsage, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum.Bytes += st.Blocks * 512
			sum.Inodes++
		}
		return nil
	})
	return sum, err
}
