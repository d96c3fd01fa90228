package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// A static pod runs from a file of its edge, and the API has only a mirror of it, which
// no edge is ever sent. As with a kubelet the mirror is made when the pod is reported,
// made again when somebody deletes it or when the file changes, and goes when the pod
// does. What says mirror and is bound to an edge is the edge's to replace or remove,
// whoever made it: nothing can be run, or kept from running, by an object that only says
// so. For this the annotation is asked, which the API lets nobody add or take away.

// maxMirrors is more static pods than an edge may have.
const maxMirrors = 256

// isMirror says whether a pod is the mirror of a static pod of the node.
func isMirror(pod *corev1.Pod, node string) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok && pod.Spec.NodeName == node
}

// MirrorChanged is told of a pod that is, or was, a mirror of an edge: the edge is asked
// what it runs. Nothing is concluded from the object itself.
func (r *Receiver) MirrorChanged(pod *corev1.Pod) {
	r.askStatic(pod.Spec.NodeName, wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name))
}

func (r *Receiver) askStatic(node, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.streams[node]; l != nil {
		l.tell(&wire.Resend{Key: key}) // lock order: Receiver.mu, then lanes.mu
	}
}

// writeStaticPod makes the mirror of a static pod, brings its status up to date, or
// takes it away.
func (r *Receiver) writeStaticPod(ctx context.Context, node, key string, place stamp, value []byte) error {
	resource, namespace, name, _, ok := wire.SplitKey(key)
	if !ok || resource != wire.ResourcePods || !strings.HasSuffix(name, "-"+strings.ToLower(node)) {
		return &badReportError{fmt.Errorf("static pod with key %q", key)}
	}
	current, err := r.mirror(ctx, node, namespace, name)
	if err != nil {
		return err
	}
	if current != nil {
		if err := place.overPod(&current.Status); err != nil {
			return fmt.Errorf("mirror pod %s/%s: %w", namespace, name, err)
		}
	}
	if len(value) == 0 {
		return r.deleteMirror(ctx, current)
	}
	var report corev1.Pod
	if err := report.Unmarshal(value); err != nil {
		return &badReportError{fmt.Errorf("decode static pod: %w", err)}
	}
	if report.Namespace != namespace || report.Name != name || report.UID == "" {
		return &badReportError{fmt.Errorf("static pod %s/%s, UID %q, under key %s", report.Namespace, report.Name, report.UID, key)}
	}
	if err := mayMirror(&report.Spec, node); err != nil {
		return &badReportError{err}
	}
	if current != nil && (current.DeletionTimestamp != nil || current.Annotations[corev1.MirrorPodAnnotationKey] != string(report.UID)) {
		if err := r.deleteMirror(ctx, current); err != nil {
			return err
		}
		current = nil
	}
	if current == nil {
		if current, err = r.createMirror(ctx, node, &report); err != nil {
			return err
		}
	}
	return r.patchMirror(ctx, place, current, &report.Status)
}

// mirror reads a mirror from the API itself; nil is none.
func (r *Receiver) mirror(ctx context.Context, node, namespace, name string) (*corev1.Pod, error) {
	pod, err := r.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get mirror pod %s/%s: %w", namespace, name, err)
	case !isMirror(pod, node):
		return nil, fmt.Errorf("pod %s/%s is no mirror of node %s: %w", namespace, name, node, errForeign)
	}
	return pod, nil
}

func (r *Receiver) createMirror(ctx context.Context, node string, report *corev1.Pod) (*corev1.Pod, error) {
	have, err := r.mirrors(ctx, node)
	if err != nil {
		return nil, err
	}
	if len(have) >= maxMirrors {
		return nil, &badReportError{fmt.Errorf("node %s has %d mirror pods", node, len(have))}
	}
	owner, err := r.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("owner of a mirror pod: %w", errNodeAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("get node: %w", err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: report.Namespace, Name: report.Name, Labels: report.Labels, Annotations: maps.Clone(report.Annotations),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: owner.UID, Controller: new(true)}},
		},
		Spec: report.Spec,
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[corev1.MirrorPodAnnotationKey] = string(report.UID)
	pod.Spec.Priority = nil // the API server works it out of the class
	made, err := r.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil, fmt.Errorf("namespace %s of a static pod: %w", pod.Namespace, errGone)
	}
	if apierrors.IsForbidden(err) {
		err = fmt.Errorf("%w: %w", errUnwelcome, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create mirror pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	r.log.Info("static pod has a mirror", "edge", node, "namespace", pod.Namespace, "pod", pod.Name)
	return made, nil
}

// deleteMirror takes a mirror away at once: there is nothing to wait for. Nil is none.
// It holds only for what was read, as a patch does: a later report may have come.
func (r *Receiver) deleteMirror(ctx context.Context, mirror *corev1.Pod) error {
	if mirror == nil {
		return nil
	}
	err := r.client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: precondition(mirror),
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete mirror pod %s/%s: %w", mirror.Namespace, mirror.Name, err)
	}
	return nil
}

func precondition(mirror *corev1.Pod) *metav1.Preconditions {
	p := &metav1.Preconditions{UID: &mirror.UID}
	if mirror.ResourceVersion != "" {
		p.ResourceVersion = &mirror.ResourceVersion
	}
	return p
}

func (r *Receiver) patchMirror(ctx context.Context, place stamp, mirror *corev1.Pod, reported *corev1.PodStatus) error {
	status := mergePodStatus(&mirror.Status, reported)
	if err := place.onPod(&mirror.Status, status); err != nil {
		return fmt.Errorf("mirror pod %s/%s: %w", mirror.Namespace, mirror.Name, err)
	}
	if equality.Semantic.DeepEqual(&mirror.Status, status) {
		return nil
	}
	patch, err := statusPatch(corev1.Pod{Status: mirror.Status},
		corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: mirror.UID, ResourceVersion: mirror.ResourceVersion}, Status: *status})
	if err != nil {
		return err
	}
	_, err = r.client.CoreV1().Pods(mirror.Namespace).Patch(ctx, mirror.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("patch status of mirror pod %s/%s: %w", mirror.Namespace, mirror.Name, err)
	}
	return nil
}

// writeStaticPods compares the mirrors of an edge with the static pods that it has.
func (r *Receiver) writeStaticPods(ctx context.Context, node string, place stamp, value []byte) error {
	uids := make(map[string]string)
	for line := range strings.Lines(string(value)) {
		key, uid, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || len(uids) >= maxMirrors {
			return &badReportError{fmt.Errorf("line %d of the static pods", len(uids)+1)}
		}
		uids[key] = uid
	}
	mirrors, err := r.mirrors(ctx, node)
	if err != nil {
		return err
	}
	lacks := maps.Clone(uids)
	for _, mirror := range mirrors {
		key := wire.ObjectKey(wire.ResourcePods, mirror.Namespace, mirror.Name)
		switch uid, ok := uids[key]; {
		case !ok:
			if err := r.dropMirror(ctx, node, place, mirror); err != nil {
				return err
			}
		case mirror.DeletionTimestamp == nil && mirror.Annotations[corev1.MirrorPodAnnotationKey] == uid:
			delete(lacks, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(lacks)) {
		r.askStatic(node, key)
	}
	return nil
}

// dropMirror takes a mirror away that a list lacks, unless its pod was reported later
// than the list.
func (r *Receiver) dropMirror(ctx context.Context, node string, place stamp, listed *corev1.Pod) error {
	current, err := r.mirror(ctx, node, listed.Namespace, listed.Name)
	if errors.Is(err, errForeign) {
		return nil // another pod has the name by now
	}
	if err != nil || current == nil || place.overPod(&current.Status) != nil {
		return err
	}
	return r.deleteMirror(ctx, current)
}

// mirrors gives the mirror pods that are bound to a node.
func (r *Receiver) mirrors(ctx context.Context, node string) ([]*corev1.Pod, error) {
	var pods []*corev1.Pod
	if r.podsOf != nil {
		pods = slices.Clone(r.podsOf(node))
	} else {
		list, err := r.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
		})
		if err != nil {
			return nil, fmt.Errorf("list pods of node %s: %w", node, err)
		}
		for i := range list.Items {
			pods = append(pods, &list.Items[i])
		}
	}
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return !isMirror(p, node) }), nil
}

// mayMirror holds an edge to what kube-apiserver holds a kubelet to: a mirror is of its
// own node, and names nothing of the API that it could then be given.
func mayMirror(s *corev1.PodSpec, node string) error {
	switch {
	case s.NodeName != node:
		return fmt.Errorf("static pod of node %q", s.NodeName)
	case s.ServiceAccountName != "" || s.DeprecatedServiceAccount != "":
		return errors.New("a mirror pod may not reference service accounts")
	case len(s.ImagePullSecrets) > 0:
		return errors.New("a mirror pod may not reference secrets")
	case len(s.ResourceClaims) > 0:
		return errors.New("a mirror pod may not reference resource claims")
	case len(s.EphemeralContainers) > 0:
		return errors.New("a mirror pod may not have ephemeral containers")
	}
	for i := range s.Volumes {
		v := &s.Volumes[i]
		ok := v.EmptyDir != nil || v.HostPath != nil || v.DownwardAPI != nil || v.Projected != nil
		if v.Projected != nil {
			ok = !slices.ContainsFunc(v.Projected.Sources, func(p corev1.VolumeProjection) bool { return p.DownwardAPI == nil })
		}
		if !ok {
			return fmt.Errorf("a mirror pod may not reference what volume %q does", v.Name)
		}
	}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		named := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.ValueFrom != nil && (e.ValueFrom.ConfigMapKeyRef != nil || e.ValueFrom.SecretKeyRef != nil)
		})
		if named || len(c.EnvFrom) > 0 {
			return fmt.Errorf("a mirror pod may not reference what the environment of container %q does", c.Name)
		}
	}
	return nil
}
