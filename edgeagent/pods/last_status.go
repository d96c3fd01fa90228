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
// It is written without a sync. Power loss costs what only it knows: when things
// came to be as they are, and what the runtime has forgotten.
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
	tmp := filepath.Join(dir, statusFileTmp)
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("save pod status: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, statusFile)); err != nil {
		return fmt.Errorf("save pod status: %w", err)
	}
	return nil
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
