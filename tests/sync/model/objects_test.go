package model

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

type object interface {
	runtime.Object
	metav1.Object
}

// id names one object.
type id struct{ resource, namespace, name string }

func (k id) group() schema.GroupResource { return schema.GroupResource{Resource: k.resource} }

// change is one write. before is nil for one that made the object, after for one
// that took it away. Objects in it are never altered.
type change struct {
	rv            uint64
	at            time.Time
	id            id
	before, after object
}

// objects is what etcd and the registries of an API server are: objects, their
// history, and the rules that Skerry leans on. UIDs and versions are checked, a pod
// goes in two steps, finalizers hold, and a write that alters nothing is none.
type objects struct {
	// written is told of each change, with mu held.
	written func(change)

	mu      sync.Mutex // guards the following fields
	current map[id]object
	history []change      // of version i+2
	grown   chan struct{} // closed by the next change
}

func newObjects() *objects {
	return &objects{written: func(change) {}, current: make(map[id]object), grown: make(chan struct{})}
}

func (s *objects) get(k id) object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current[k]
}

// all gives the objects of a resource as they were at t, and the version then.
func (s *objects) all(resource string, t time.Time) (map[id]object, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[id]object)
	rv := uint64(1)
	for i := range s.history {
		c := &s.history[i]
		if c.at.After(t) {
			break
		}
		rv = c.rv
		switch {
		case c.id.resource != resource:
		case c.after == nil:
			delete(found, c.id)
		default:
			found[c.id] = c.after
		}
	}
	return found, rv
}

// since gives the changes behind version rv that had come to pass at t, and what
// to wait for: a time when more will have, or a change.
func (s *objects) since(rv uint64, t time.Time) (changes []change, next time.Time, grown <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := int(max(rv, 1)) - 1; i < len(s.history); i++ {
		if s.history[i].at.After(t) {
			return changes, s.history[i].at, s.grown
		}
		changes = append(changes, s.history[i])
	}
	return changes, time.Time{}, s.grown
}

func (s *objects) putLocked(k id, after object) object {
	c := change{rv: uint64(len(s.history)) + 2, at: time.Now(), id: k, before: s.current[k], after: after}
	if after == nil {
		delete(s.current, k)
	} else {
		after.SetResourceVersion(strconv.FormatUint(c.rv, 10))
		s.current[k] = after
	}
	s.history = append(s.history, c)
	close(s.grown)
	s.grown = make(chan struct{})
	s.written(c)
	return after
}

func (s *objects) create(k id, o object) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current[k] != nil {
		return nil, apierrors.NewAlreadyExists(k.group(), k.name)
	}
	o = clone(o)
	if o.GetUID() == "" {
		o.SetUID(types.UID(fmt.Sprintf("uid-%d", len(s.history))))
	}
	o.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	o.SetGeneration(1)
	return s.putLocked(k, o), nil
}

func clone(o object) object {
	c, ok := o.DeepCopyObject().(object)
	if !ok {
		panic(fmt.Sprintf("%T is no object", o))
	}
	return c
}

// update brings an object to what alter makes of a copy of it.
func (s *objects) update(k id, subresource string, alter func(o object) (object, error)) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.current[k]
	if before == nil {
		return nil, apierrors.NewNotFound(k.group(), k.name)
	}
	after, err := alter(clone(before))
	if err != nil {
		return nil, err
	}
	if rv := after.GetResourceVersion(); rv != "" && rv != before.GetResourceVersion() {
		return nil, apierrors.NewConflict(k.group(), k.name, fmt.Errorf("it has version %s, not %s", before.GetResourceVersion(), rv))
	}
	if after.GetUID() != before.GetUID() {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: k.resource}, k.name, nil) // a UID can't be changed
	}
	keep(before, after, subresource)
	after.SetResourceVersion(before.GetResourceVersion())
	if equality.Semantic.DeepEqual(before, after) {
		return before, nil
	}
	if after.GetDeletionTimestamp() != nil && len(after.GetFinalizers()) == 0 && grace(after) == 0 {
		s.putLocked(k, nil)
		return after, nil
	}
	return s.putLocked(k, after), nil
}

// keep undoes what a write may not touch.
func keep(before, after object, subresource string) {
	switch b := before.(type) {
	case *corev1.Pod:
		if a, ok := after.(*corev1.Pod); ok && subresource == "status" {
			a.Spec = b.Spec
		} else if ok {
			a.Status = b.Status
			if !equality.Semantic.DeepEqual(&a.Spec, &b.Spec) {
				a.Generation = b.Generation + 1
			}
		}
	case *corev1.Node:
		if a, ok := after.(*corev1.Node); ok && subresource == "status" {
			a.Spec = b.Spec
		} else if ok {
			a.Status = b.Status
		}
	}
	after.SetDeletionTimestamp(before.GetDeletionTimestamp())
	after.SetDeletionGracePeriodSeconds(before.GetDeletionGracePeriodSeconds())
}

func grace(o object) int64 {
	if g := o.GetDeletionGracePeriodSeconds(); g != nil {
		return *g
	}
	return 0
}

// remove deletes an object, or begins to.
func (s *objects) remove(k id, opt *metav1.DeleteOptions) (object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.current[k]
	if before == nil {
		return nil, apierrors.NewNotFound(k.group(), k.name)
	}
	if p := opt.Preconditions; p != nil && p.UID != nil && *p.UID != before.GetUID() {
		return nil, apierrors.NewConflict(k.group(), k.name, fmt.Errorf("it has UID %s, not %s", before.GetUID(), *p.UID))
	}
	seconds := int64(0)
	if pod, ok := before.(*corev1.Pod); ok && pod.Spec.NodeName != "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		seconds = 30
		if opt.GracePeriodSeconds != nil {
			seconds = *opt.GracePeriodSeconds
		}
	}
	going := before.GetDeletionTimestamp() != nil
	if going {
		seconds = min(seconds, grace(before))
	}
	if seconds == 0 && len(before.GetFinalizers()) == 0 {
		s.putLocked(k, nil)
		return before, nil
	}
	if going && seconds == grace(before) {
		return before, nil
	}
	after := clone(before)
	if !going {
		now := metav1.NewTime(time.Now().Truncate(time.Second))
		after.SetDeletionTimestamp(&now)
		after.SetGeneration(after.GetGeneration() + 1)
	}
	after.SetDeletionGracePeriodSeconds(&seconds)
	return s.putLocked(k, after), nil
}

// patched gives o with a patch of the given type applied.
func patched(o object, kind types.PatchType, patch []byte) (object, error) {
	var version struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(patch, &version); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	switch kind {
	case types.StrategicMergePatchType:
		b, err = strategicpatch.StrategicMergePatch(b, patch, o)
	case types.MergePatchType:
		b, err = merged(b, patch)
	default:
		return nil, apierrors.NewBadRequest(string(kind) + " is not played here")
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	after, ok := reflect.TypeAssert[object](reflect.New(reflect.TypeOf(o).Elem()))
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%T is no object", o))
	}
	if err := json.Unmarshal(b, after); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	after.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	after.SetResourceVersion(version.Metadata.ResourceVersion)
	return after, nil
}

// merged is RFC 7396.
func merged(target, patch []byte) ([]byte, error) {
	var a, b any
	if err := json.Unmarshal(target, &a); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(patch, &b); err != nil {
		return nil, err
	}
	return json.Marshal(merge(a, b))
}

func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = make(map[string]any)
	}
	for k, v := range p {
		if v == nil {
			delete(t, k)
		} else {
			t[k] = merge(t[k], v)
		}
	}
	return t
}
