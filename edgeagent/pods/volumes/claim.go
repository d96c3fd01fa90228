package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Claims reads claims and the volumes that they are bound to.
type Claims interface {
	PersistentVolumeClaim(namespace, name string) (*corev1.PersistentVolumeClaim, error)
	PersistentVolume(name string) (*corev1.PersistentVolume, error)
}

// claimName is the claim of a volume, empty if it has none.
func claimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

// Claimed says whether a volume of the pod is a claim of that name; an empty name
// stands for any.
func Claimed(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.Volumes {
		if c := claimName(pod, &pod.Spec.Volumes[i]); c != "" && (name == "" || c == name) {
			return true
		}
	}
	return false
}

// annotationGID is of a PersistentVolume: a group that containers get besides.
const annotationGID = "pv.beta.kubernetes.io/gid"

// Resolve gives the pod with its claims replaced by what they are bound to on this
// node: a path, mounted read-only where the claim is. Those of which it may have to be
// made the owner are given besides. A pod without claims is given back as it is.
func Resolve(pod *corev1.Pod, claims Claims) (*corev1.Pod, []Local, error) {
	if pod == nil || !Claimed(pod, "") {
		return pod, nil, nil
	}
	var locals []Local
	pod = pod.DeepCopy()
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		name := claimName(pod, v)
		if name == "" {
			continue
		}
		if claims == nil {
			return nil, nil, &UnsupportedError{Volume: v.Name, Source: sourceName(v)}
		}
		volume, err := bound(pod, v, name, claims)
		var source *corev1.HostPathVolumeSource
		if err == nil {
			source, err = sourceOf(v, volume)
		}
		if err != nil {
			if _, ok := errors.AsType[*UnsupportedError](err); ok {
				return nil, nil, err
			}
			return nil, nil, &SetUpError{Volume: v.Name, Err: err}
		}
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly {
			mountReadOnly(pod, v.Name)
		} else if volume.Spec.Local != nil {
			locals = append(locals, Local{Name: volume.Name, Path: volume.Spec.Local.Path})
		}
		if gid, err := strconv.ParseInt(volume.Annotations[annotationGID], 10, 64); err == nil {
			addGroup(pod, gid)
		}
		v.VolumeSource = corev1.VolumeSource{HostPath: source}
	}
	return pod, locals, nil
}

// bound gives the volume that a claim is bound to. The words are the kubelet's.
func bound(pod *corev1.Pod, v *corev1.Volume, name string, claims Claims) (*corev1.PersistentVolume, error) {
	claim, err := claims.PersistentVolumeClaim(pod.Namespace, name)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("persistentvolumeclaim %q not found", name)
	}
	if err != nil {
		return nil, err
	}
	// Whoever may make claims could otherwise have a pod that is yet to come use one.
	if v.Ephemeral != nil && !metav1.IsControlledBy(claim, pod) {
		return nil, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", claim.Namespace, claim.Name, pod.Namespace, pod.Name)
	}
	if claim.DeletionTimestamp != nil && !slices.Contains(claim.Finalizers, claimProtection) {
		return nil, fmt.Errorf("error processing PVC %s/%s: PVC is being deleted", pod.Namespace, name)
	}
	if claim.Spec.VolumeName == "" || claim.Status.Phase != corev1.ClaimBound {
		return nil, fmt.Errorf("error processing PVC %s/%s: PVC is not bound", pod.Namespace, name)
	}
	volume, err := claims.PersistentVolume(claim.Spec.VolumeName)
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("persistentvolume %q not found", claim.Spec.VolumeName)
	}
	if err != nil {
		return nil, err
	}
	if ref := volume.Spec.ClaimRef; ref == nil || ref.UID != claim.UID {
		return nil, fmt.Errorf("PVC %s/%s is not bound to PV %s, which is of another claim", pod.Namespace, name, volume.Name)
	}
	return volume, nil
}

// claimProtection keeps a claim that pods use from going.
const claimProtection = "kubernetes.io/pvc-protection"

// sourceOf gives the path of a PersistentVolume.
func sourceOf(v *corev1.Volume, volume *corev1.PersistentVolume) (*corev1.HostPathVolumeSource, error) {
	switch {
	case volume.Spec.VolumeMode != nil && *volume.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return nil, &UnsupportedError{Volume: v.Name, Source: "block"}
	case volume.Spec.Local != nil:
		info, err := os.Stat(volume.Spec.Local.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("path %q of PV %s does not exist", volume.Spec.Local.Path, volume.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("path of PV %s: %w", volume.Name, err)
		}
		if !info.IsDir() {
			return nil, &UnsupportedError{Volume: v.Name, Source: "local (of another thing than a directory)"}
		}
		return &corev1.HostPathVolumeSource{Path: volume.Spec.Local.Path}, nil
	case volume.Spec.HostPath != nil:
		return volume.Spec.HostPath, nil
	}
	return nil, &UnsupportedError{Volume: v.Name, Source: "persistentVolumeClaim of another source than local and hostPath"}
}

// addGroup gives the pod's containers one more group.
func addGroup(pod *corev1.Pod, gid int64) {
	sc := pod.Spec.SecurityContext
	if sc == nil {
		sc = &corev1.PodSecurityContext{}
		pod.Spec.SecurityContext = sc
	}
	if !slices.Contains(sc.SupplementalGroups, gid) && (sc.FSGroup == nil || *sc.FSGroup != gid) {
		sc.SupplementalGroups = append(sc.SupplementalGroups, gid)
	}
}

func mountReadOnly(pod *corev1.Pod, volume string) {
	set := func(mounts []corev1.VolumeMount) {
		for i := range mounts {
			if mounts[i].Name == volume {
				mounts[i].ReadOnly = true
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		set(pod.Spec.InitContainers[i].VolumeMounts)
	}
	for i := range pod.Spec.Containers {
		set(pod.Spec.Containers[i].VolumeMounts)
	}
	for i := range pod.Spec.EphemeralContainers {
		set(pod.Spec.EphemeralContainers[i].VolumeMounts)
	}
}
