package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The last status of a pod lies in its directory, for the next agent: the store
// of desired state has none, since what an edge reports is not sent back to it.
// It is synced only where it says that the pod is over, which is never taken back.
// For others power loss costs what only it knows: when things came to be as they
// are, and what the runtime has forgotten.
const (
	statusFile    = "status"
	statusFileTmp = "status.tmp"
)

// saveStatus keeps a status that was reported.
func (e *env) saveStatus(uid types.UID, s *corev1.PodStatus) error {
	dir := e.volumes.PodDir(uid)
	raw, err := s.Marshal()
	if err != nil {
		return fmt.Errorf("encode pod status: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("save pod status: %w", err)
	}
	tmp, lasting := filepath.Join(dir, statusFileTmp), terminal(s.Phase)
	if err := writeFile(tmp, raw, lasting); err != nil {
		return fmt.Errorf("save pod status: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, statusFile)); err != nil {
		return fmt.Errorf("save pod status: %w", err)
	}
	if lasting {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("save pod status: %w", err)
		}
	}
	return nil
}

func writeFile(path string, raw []byte, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes what was renamed in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// savedStatus reads what a former agent kept, nil if there is nothing of use.
func (e *env) savedStatus(uid types.UID) *corev1.PodStatus {
	raw, err := os.ReadFile(filepath.Join(e.volumes.PodDir(uid), statusFile))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.Log.Warn("last status of a pod not readable", "pod_uid", uid, "error", err)
		}
		return nil
	}
	s := &corev1.PodStatus{}
	if err := s.Unmarshal(raw); err != nil || s.Phase == "" {
		return nil // cut short by power loss
	}
	return s
}

// adopt takes the verdicts of probes over from the status that a former agent
// reported: a container that was ready is so until a probe says otherwise.
func (m *memory) adopt(before *corev1.PodStatus, obs *observed) {
	for t, to := range map[corev1.PodConditionType]**notice{corev1.PodResizePending: &m.pending, corev1.PodResizeInProgress: &m.progress} {
		if c := findCondition(before.Conditions, t); c != nil {
			*to = &notice{reason: c.Reason, message: c.Message, generation: c.ObservedGeneration}
		}
	}
	for _, list := range [][]corev1.ContainerStatus{before.InitContainerStatuses, before.ContainerStatuses} {
		for i := range list {
			s := &list[i]
			_, id, ok := strings.Cut(s.ContainerID, "://")
			if !ok || obs.find(id) == nil {
				continue
			}
			if s.Started != nil && *s.Started {
				m.probes[probeKey{id, probeStartup}] = &probeRecord{passed: true}
			}
			if s.Ready {
				m.probes[probeKey{id, probeReadiness}] = &probeRecord{passed: true}
			}
		}
	}
}
