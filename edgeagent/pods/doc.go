// Package pods runs the pods of this node: the kubelet's heart without the
// kubelet. edgeagent builds one [Manager]; the desired state wakes it by key,
// and it publishes status, events and the end of pods.
//
// There is one worker per pod UID. A worker is level-triggered: it reads the
// desired pod from the store and the observed one from the runtime, and lets a
// pure function decide:
//
//	desired pod --+
//	observed CRI -+--> decide(input, now) --> status, actions, "look again at T"
//	memory -------+
//
// Actions run beside the worker, at most one per subject (the volumes, the
// sandbox, the start of a container, the kill of a container, ...), so that the
// status is always of now and a deletion is seen while an image is pulled. What
// an action did is not believed but observed again.
//
// Memory is only what can be lost: back-off, probe counters, failures of the
// last attempt. After kill -9 a new agent finds sandboxes and containers by the
// kubelet's own labels and goes on; a container is replaced only when its hash
// (name and image) differs from the desired one.
//
// What wakes a worker: Wake for its pod or an object it uses, the end of one of
// its actions, its timer, and the relist, which lists all pods of the runtime
// in one call and compares fingerprints. Runtimes with an event stream shorten
// the wait.
//
// Pods that are in the runtime but not in the store are stopped and removed,
// though only after the store could be read once.
package pods
