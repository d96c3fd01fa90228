package edgeagent

import (
	"cmp"
	"context"
	"io"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/cri"
	"github.com/skerry-io/skerry/edgeagent/deviceapi"
	"github.com/skerry-io/skerry/edgeagent/devices"
	"github.com/skerry-io/skerry/edgeagent/kubeletapi"
	"github.com/skerry-io/skerry/edgeagent/pods"
	"github.com/skerry-io/skerry/edgeagent/pods/cgroups"
	"github.com/skerry-io/skerry/edgeagent/stats"
)

// machineLogs is what /logs/ shows of every kubelet.
const machineLogs = "/var/log"

// kubeletAPI answers what a kubelet answers.
func (a *Agent) kubeletAPI(on machineParts, mgr *pods.Manager, measure *stats.Collector, field *devices.Manager, own *agentMetrics) (*kubeletapi.Server, error) {
	node := a.nodeAPI(on, mgr, measure, own)
	node.Devices = deviceapi.New(field, a.log)
	return kubeletapi.New(kubeletapi.Config{Pods: podLookup{mgr}, Runtime: on.client, Node: node, Log: a.log})
}

// nodeAPI is what the kubelet API tells of this machine.
func (a *Agent) nodeAPI(on machineParts, mgr *pods.Manager, measure *stats.Collector, own *agentMetrics) kubeletapi.NodeConfig {
	return kubeletapi.NodeConfig{
		Pods:        mgr.EachPod,
		RunningPods: func(ctx context.Context) ([]*corev1.Pod, error) { return runningPods(ctx, on.client) },
		Summary:     func(ctx context.Context, only bool) (any, error) { return measure.Summary(ctx, only) },
		Metrics: map[string]func(ctx context.Context, w io.Writer) error{
			"/metrics":          own.write,
			"/metrics/resource": measure.WriteResource,
			"/metrics/cadvisor": measure.WriteCadvisor,
			"/metrics/probes":   func(_ context.Context, w io.Writer) error { return probeMetrics(w, mgr) },
		},
		Configz:       func() any { return a.configz(on.groups.Driver) },
		LogDir:        machineLogs,
		Checkpoint:    on.client.CheckpointContainer,
		CheckpointDir: filepath.Join(a.cfg.StateDir, "checkpoints"),
	}
}

// configz shows the agent's configuration, which holds no secret, and before it as
// much of a kubelet's as there is one for.
func (a *Agent) configz(driver cgroups.Driver) any {
	return map[string]any{
		"kubeletconfig": map[string]any{
			"staticPodPath":            a.cfg.StaticPodPath,
			"clusterDNS":               a.cfg.ClusterDNS,
			"clusterDomain":            a.cfg.ClusterDomain,
			"cgroupRoot":               a.cfg.CgroupRoot,
			"cgroupDriver":             driver,
			"containerRuntimeEndpoint": a.cfg.CRISocket,
			"podLogsDir":               a.cfg.PodLogsDir,
			"maxPods":                  cmp.Or(a.cfg.MaxPods, config.DefaultMaxPods),
			"podPidsLimit":             cmp.Or(a.cfg.PodPidsLimit, -1),
			"systemReserved":           a.cfg.SystemReserved,
			"kubeReserved":             a.cfg.KubeReserved,
			"evictionHard":             a.cfg.EvictionHard,
			"evictionSoft":             a.cfg.EvictionSoft,
			"allowedUnsafeSysctls":     a.cfg.AllowedUnsafeSysctls,
			"containerLogMaxSize":      a.cfg.ContainerLogMaxSize,
			"containerLogMaxFiles":     a.cfg.ContainerLogMaxFiles,
			"serializeImagePulls":      a.cfg.MaxParallelImagePulls == 1,
			"maxParallelImagePulls":    a.cfg.MaxParallelImagePulls,
			"imageMinimumGCAge":        a.cfg.ImageMinimumGCAge,
			"imageMaximumGCAge":        a.cfg.ImageMaximumGCAge,

			"imageGCHighThresholdPercent": a.cfg.ImageGCHighThresholdPercent,
			"imageGCLowThresholdPercent":  a.cfg.ImageGCLowThresholdPercent,

			"enableServer":            true,
			"enableDebuggingHandlers": true,
			"enableSystemLogHandler":  true,
		},
		"edgeagentconfig": a.cfg.Config,
	}
}

// runningPods is what the runtime has, with as much as it knows: names, images.
func runningPods(ctx context.Context, client *cri.Client) ([]*corev1.Pod, error) {
	sandboxes, err := client.ListSandboxes(ctx, nil)
	if err != nil {
		return nil, err
	}
	containers, err := client.ListContainers(ctx, nil)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*corev1.Pod, len(sandboxes))
	var list []*corev1.Pod
	for i := range sandboxes {
		sb := &sandboxes[i]
		if !sb.Ready || sb.UID == "" {
			continue
		}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: sb.Namespace, Name: sb.Name, UID: types.UID(sb.UID)}}
		byID[sb.ID] = p
		list = append(list, p)
	}
	for i := range containers {
		c := &containers[i]
		if p := byID[c.SandboxID]; p != nil && c.State == cri.StateRunning {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c.Name, Image: cmp.Or(c.ImageRef, c.Image)})
		}
	}
	slices.SortFunc(list, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return list, nil
}
