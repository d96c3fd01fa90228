// Package staticpods runs pods from files of this machine, as a kubelet's
// staticPodPath does: they need no cloud, not even a first contact with it. The
// agent lays the [Source] over the desired state of the store; the pod workers see
// no difference.
//
// One file is one pod, YAML or JSON. Its name gets the node's as a suffix, its UID
// is a hash of what the file says, so that a changed file is another pod, which
// starts when the one before has ended. Such a pod can use nothing of the API: no
// ConfigMap, Secret, ServiceAccount or claim. It has at most 96 KiB, so that a report
// holds it with its status.
//
// A file that can't be used is a problem, told in the log and by `skerry get pods`;
// it keeps no other file from being used. One that was good before leaves its pod
// running as it was. Only a file that does not exist is gone: of one that the disk does
// not give, or of a folder that is refused, nothing is concluded, and it is tried again,
// see [Source.Unread].
package staticpods
