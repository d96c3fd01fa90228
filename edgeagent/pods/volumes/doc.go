// Package volumes puts a pod's volumes on disk and takes them away again. It
// serves the workers of edgeagent/pods.
//
// What it makes lives under the kubelet's layout, so that tools written for a
// kubelet find it:
//
//	STATE/pods/UID/volumes/kubernetes.io~empty-dir/NAME
//	STATE/pods/UID/volumes/kubernetes.io~configmap/NAME/..data -> ..2026_01_02_15_04_05.123
//	STATE/pods/UID/volume-subpaths/VOLUME/CONTAINER/INDEX
//
// emptyDir (on the disk, in memory, of huge pages), hostPath, configMap, secret, downwardAPI and projected volumes (with trust
// bundles and certificates of pods) are supported, and claims that are bound to a local or hostPath PersistentVolume: [Resolve]
// makes hostPath volumes of them. The claim of an ephemeral volume must be owned by the
// pod. fsGroup is for emptyDir and payload volumes, and for claimed local volumes that are
// not read-only, see [Manager.SetUpLocal]; hostPath is left as it is. Any other source fails SetUp with an [UnsupportedError], so that a
// pod never runs with a part of its volumes.
//
// SetUp is idempotent and keeps what is there: it is called again after each
// restart of the agent, under running containers. TearDown deletes nothing
// while a mount is left below the pod's directory.
package volumes
