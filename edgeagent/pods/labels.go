package pods

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The kubelet's own names, so that crictl and other tools read what we run.
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainerName = "io.kubernetes.container.name"

	annotationHash          = "io.kubernetes.container.hash"
	annotationRestarts      = "io.kubernetes.container.restartCount"
	annotationMessagePath   = "io.kubernetes.container.terminationMessagePath"
	annotationMessagePolicy = "io.kubernetes.container.terminationMessagePolicy"
	annotationPreStop       = "io.kubernetes.container.preStopHandler"
	annotationPorts         = "io.kubernetes.container.ports"
	annotationDeletionGrace = "io.kubernetes.pod.deletionGracePeriod"
	annotationSize          = "skerry.io/resources" // ours: what it was made with
	annotationGrace         = "io.kubernetes.pod.terminationGracePeriod"
)

// defaultGrace is the API's default of terminationGracePeriodSeconds.
const defaultGrace = 30 * time.Second

func sandboxLabels(pod *corev1.Pod) map[string]string {
	out := make(map[string]string, len(pod.Labels)+3)
	maps.Copy(out, pod.Labels)
	out[labelPodName] = pod.Name
	out[labelPodNamespace] = pod.Namespace
	out[labelPodUID] = string(pod.UID)
	return out
}

func containerLabels(pod *corev1.Pod, name string) map[string]string {
	return map[string]string{
		labelPodName: pod.Name, labelPodNamespace: pod.Namespace,
		labelPodUID: string(pod.UID), labelContainerName: name,
	}
}

func containerAnnotations(pod *corev1.Pod, c *corev1.Container, restarts int32) (map[string]string, error) {
	out := map[string]string{
		annotationHash:          strconv.FormatUint(containerHash(c), 16),
		annotationRestarts:      strconv.FormatInt(int64(restarts), 10),
		annotationMessagePath:   c.TerminationMessagePath,
		annotationMessagePolicy: string(c.TerminationMessagePolicy),
		annotationSize:          amountsOf(pod, c).String(),
	}
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		out[annotationDeletionGrace] = strconv.FormatInt(*g, 10)
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		out[annotationGrace] = strconv.FormatInt(*g, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		raw, err := json.Marshal(c.Lifecycle.PreStop)
		if err != nil {
			return nil, fmt.Errorf("encode preStop hook: %w", err)
		}
		out[annotationPreStop] = string(raw)
	}
	if len(c.Ports) > 0 {
		raw, err := json.Marshal(c.Ports)
		if err != nil {
			return nil, fmt.Errorf("encode ports: %w", err)
		}
		out[annotationPorts] = string(raw)
	}
	return out, nil
}

func readAnnotations(a map[string]string) (restarts int32, hash uint64, hashed bool, grace time.Duration) {
	if n, err := strconv.ParseInt(a[annotationRestarts], 10, 32); err == nil {
		restarts = int32(n)
	}
	h, err := strconv.ParseUint(a[annotationHash], 16, 64)
	hash, hashed = h, err == nil
	grace = defaultGrace
	if s, err := strconv.ParseInt(a[annotationGrace], 10, 64); err == nil {
		grace = time.Duration(s) * time.Second
	}
	return restarts, hash, hashed, grace
}

// containerHash is over what may change in the API without a new pod and needs
// a new container: the image. Resources change in place, the rest is immutable.
func containerHash(c *corev1.Container) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.Name + "\x00" + c.Image)) // never fails
	return h.Sum64()
}

// logDirectory is where all logs of a pod are.
func logDirectory(logsDir, namespace, name string, uid types.UID) string {
	return filepath.Join(logsDir, namespace+"_"+name+"_"+string(uid))
}

// logPath is a container's log below the pod's log directory.
func logPath(name string, restarts int32) string {
	return filepath.Join(name, strconv.FormatInt(int64(restarts), 10)+".log")
}
