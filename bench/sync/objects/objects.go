// Package objects makes what the benchmark puts into the API and onto disks: pods
// and ConfigMaps of a size and a kind that edges have, with the same content in
// every run.
package objects

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Namespace is that of all objects.
const Namespace = "bench-sync"

// ConfigMap is one with some 600 bytes of settings; seed makes their values.
func ConfigMap(name string, seed uint64) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: name,
			Labels: map[string]string{"app.kubernetes.io/name": "press", "app.kubernetes.io/part-of": "line-4"},
		},
		Data: map[string]string{"settings.yaml": Settings(seed)},
	}
}

// Settings is the text in a ConfigMap.
func Settings(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	for i := range 10 {
		fmt.Fprintf(&b, "sensor-%d:\n  address: 192.168.%d.%d\n  threshold: %.3f\n", i, r.IntN(256), r.IntN(256), r.Float64()*100)
	}
	return b.String()
}

// Pod is one of two containers on a node, with ConfigMaps as a volume.
func Pod(name, node, image string, configMaps []string) *corev1.Pod {
	no, grace := false, int64(1)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: name,
			Labels:      map[string]string{"app.kubernetes.io/name": "press", "app.kubernetes.io/instance": name, "pod-template-hash": "6f9c7d8b5"},
			Annotations: map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "9102"},
		},
		Spec: corev1.PodSpec{
			NodeName: node, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
			// Nothing evicts what nobody runs.
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
	for _, c := range []string{"main", "exporter"} {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: c, Image: image, Command: []string{"sleep", "1000000"},
			Env: []corev1.EnvVar{{Name: "LINE", Value: "4"}, {Name: "PRESS", Value: name}, {Name: "LOG_LEVEL", Value: "info"}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("1Mi")},
			},
		})
	}
	if len(configMaps) == 0 {
		return p
	}
	settings := &corev1.ProjectedVolumeSource{}
	for _, name := range configMaps {
		settings.Sources = append(settings.Sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: name},
			Items:                []corev1.KeyToPath{{Key: "settings.yaml", Path: name + ".yaml"}},
		}})
	}
	p.Spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{Projected: settings}}}
	return p
}

// Running is pod with the status that a kubelet reports; restarts makes one differ
// from another.
func Running(pod *corev1.Pod, restarts int32, at time.Time) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.UID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
	t := metav1.NewTime(at)
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: "192.168.7.20", HostIPs: []corev1.HostIP{{IP: "192.168.7.20"}},
		PodIP: "10.88.0.17", PodIPs: []corev1.PodIP{{IP: "10.88.0.17"}}, StartTime: &t, QOSClass: corev1.PodQOSBurstable,
	}
	for _, c := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: t})
	}
	for i, c := range pod.Spec.Containers {
		started := true
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &started, RestartCount: restarts,
			ImageID:     "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
			ContainerID: fmt.Sprintf("containerd://%032x%032x", uint64(restarts)*7919, i),
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: t}},
		})
	}
	return pod
}
