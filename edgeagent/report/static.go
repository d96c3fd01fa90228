package report

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// staticKey is the key of the list of static pods.
const staticKey = "static"

// staticPods is what was last reported of the pods that run from files. There are
// few, and the cloud may ask for them again.
type staticPods struct {
	mu    sync.Mutex             // guards the following fields
	known bool                   // uids is what there is
	uids  map[string]string      // by key
	last  map[string]*corev1.Pod // by key
	// early is what was reported of pods that are not in uids yet, which may wait for
	// the disk to give other files. Each says what it says once.
	early map[string]*corev1.Pod // by key
	left  map[string]string      // UIDs by key that were in uids: those pods end
}

// maxLeft bounds what is remembered of pods that are no more.
const maxLeft = 256

// listLocked takes a new list. It returns the pods that are gone, and those that were
// early.
func (s *staticPods) listLocked(uids map[string]string) (gone, found map[string]*corev1.Pod) {
	other := func(key string, pod *corev1.Pod) bool { return uids[key] != string(pod.UID) }
	gone, found = maps.Clone(s.last), s.early
	maps.DeleteFunc(gone, func(key string, _ *corev1.Pod) bool { return uids[key] != "" })
	maps.DeleteFunc(s.last, other)
	maps.DeleteFunc(found, other)
	maps.Copy(s.last, found)
	s.early = make(map[string]*corev1.Pod)
	if len(s.left) > maxLeft {
		clear(s.left)
	}
	maps.Copy(s.left, s.uids)
	maps.DeleteFunc(s.left, func(key, uid string) bool { return uids[key] == uid })
	s.known, s.uids = true, maps.Clone(uids)
	return gone, found
}

// takeLocked remembers what is reported of a pod, and says whether it is to be sent
// now: not that of one that ends because its file is gone, or another.
func (s *staticPods) takeLocked(key string, pod *corev1.Pod) bool {
	uid := string(pod.UID)
	switch {
	case !s.known || s.uids[key] == uid:
		s.last[key] = pod
		return true
	case s.left[key] != uid:
		s.early[key] = pod
	}
	return false
}

func newStaticPods() *staticPods {
	return &staticPods{last: map[string]*corev1.Pod{}, early: map[string]*corev1.Pod{}, left: map[string]string{}}
}

// StaticPod publishes a pod that runs from a file: what it is and how it does. The
// cloud has never heard of it, and shows a mirror of it.
func (r *Reporter) StaticPod(pod *corev1.Pod) {
	key := wire.ObjectKey(wire.ResourcePods, pod.Namespace, pod.Name)
	if err := fits(key, pod.Size()); err != nil { // what the cloud may ask for is what it had
		r.note(err, "static pod", pod.Namespace, pod.Name)
		return
	}
	r.static.mu.Lock()
	now := r.static.takeLocked(key, pod)
	r.static.mu.Unlock()
	if now {
		r.putStatic(key, pod)
	}
}

// StaticPods publishes which static pods there are: their UIDs by key.
func (r *Reporter) StaticPods(uids map[string]string) {
	r.static.mu.Lock()
	gone, found := r.static.listLocked(uids)
	r.static.mu.Unlock()
	for key, pod := range gone {
		// In place of its last status, which could make the mirror anew.
		err := r.putKeyed(wire.SubjectStaticPod, key, nil)
		r.note(err, "static pod gone", pod.Namespace, pod.Name)
	}
	for key := range found {
		r.putLast(key)
	}
	r.putStatics()
}

func (r *Reporter) putStatic(key string, pod *corev1.Pod) {
	value, err := pod.Marshal()
	if err == nil {
		err = r.putKeyed(wire.SubjectStaticPod, key, value)
	}
	r.note(err, "static pod", pod.Namespace, pod.Name)
}

// putLast publishes once more what was last reported, and not over what is reported at
// this moment.
func (r *Reporter) putLast(key string) {
	var put *corev1.Pod
	for {
		r.static.mu.Lock()
		last := r.static.last[key]
		r.static.mu.Unlock()
		if last == nil || last == put {
			return
		}
		r.putStatic(key, last)
		put = last
	}
}

func (r *Reporter) putStatics() {
	r.static.mu.Lock()
	known, uids := r.static.known, r.static.uids
	r.static.mu.Unlock()
	if !known {
		return // to name none would take the mirrors of those that are not read yet
	}
	var list []byte
	for _, key := range slices.Sorted(maps.Keys(uids)) {
		list = append(list, key+" "+uids[key]+"\n"...)
	}
	err := r.putKeyed(wire.SubjectStaticPods, staticKey, list)
	r.note(err, "static pods", "", "")
}

// greetStatic tells a new stream which static pods there are: their mirrors may have
// been deleted meanwhile, or have outlived the last of them. Before it is known which
// there are it tells nothing.
func (r *Reporter) greetStatic() { r.putStatics() }

// resendStatic does as the cloud asks.
func (r *Reporter) resendStatic(key string) {
	r.static.mu.Lock()
	pod, there := r.static.last[key], r.static.uids[key] != ""
	r.static.mu.Unlock()
	switch {
	case pod != nil:
		r.putLast(key)
	case !there:
		r.putStatics() // its mirror is nobody's
	}
}
