package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/bench/sync/objects"
	"github.com/skerry-io/skerry/bench/sync/websocket"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// WearPlan is what is written: Count changes of a fixed mix, of ten in a hundred
// each what a busy edge has: six statuses of pods, two events, and two changes of
// desired state, of which one is a pod and one a ConfigMap.
type WearPlan struct {
	Dir       string `json:"dir"`
	Count     int    `json:"count"`
	Websocket bool   `json:"websocket"`
}

// Wear is what it came to.
type Wear struct {
	// Changed are the bytes of the changes as Kubernetes protobuf, for both.
	Changed int64 `json:"changed"`
	// Written are those that the kernel has sent to the disk for this process.
	Written int64 `json:"written"`
}

// disk is where changes are kept, each on the disk when the method returns.
type disk interface {
	// put is a change of desired state.
	put(key string, o object) error
	// status is a report that replaces the one before, and is acknowledged.
	status(key string, o object) error
	// event is a report of its own, and is acknowledged; false: none is kept.
	event(key string, o object) (bool, error)
	close() error
}

// object has protobuf and JSON.
type object interface{ Marshal() ([]byte, error) }

func (w WearPlan) run(ctx context.Context) (_ Wear, err error) {
	if err := os.MkdirAll(w.Dir, 0o700); err != nil {
		return Wear{}, err
	}
	before, err := writeBytes()
	if err != nil {
		return Wear{}, err
	}
	var d disk = fileDisk{websocket.Files{Dir: w.Dir}}
	if !w.Websocket {
		s, err := store.Open(store.Config{Dir: filepath.Join(w.Dir, "db")})
		if err != nil {
			return Wear{}, err
		}
		d = storeDisk{s}
	}
	changed, err := w.write(ctx, d)
	// What waits in memory belongs to it.
	if err := errors.Join(err, d.close()); err != nil {
		return Wear{}, err
	}
	after, err := writeBytes()
	return Wear{Changed: changed, Written: after - before}, err
}

func (w WearPlan) write(ctx context.Context, d disk) (changed int64, err error) {
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const pods, configMaps = 10, 20
	for i := range w.Count {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		at = at.Add(time.Second)
		n := r.IntN(pods)
		name := fmt.Sprintf("press-%d", n)
		pod := objects.Pod(name, "edge", "registry.example.com/line/press:1.4.2", []string{fmt.Sprintf("press-%d", n)})
		kept := true
		var o object
		switch i % 10 {
		case 0:
			pod.Annotations[Mark] = strconv.Itoa(i)
			o = pod
			err = d.put("pods/"+objects.Namespace+"/"+name, pod)
		case 5:
			name := fmt.Sprintf("press-%d", r.IntN(configMaps))
			cm := objects.ConfigMap(name, uint64(i))
			o = cm
			err = d.put("configmaps/"+objects.Namespace+"/"+name, cm)
		case 3, 7:
			o = event(pod, i, at)
			kept, err = d.event(strconv.Itoa(i), o)
		default:
			running := objects.Running(pod, int32(i), at)
			running.Spec = corev1.PodSpec{}
			o = running
			err = d.status(objects.Namespace+"/"+name, running)
		}
		if err != nil {
			return 0, err
		}
		if kept {
			b, err := o.Marshal()
			if err != nil {
				return 0, err
			}
			changed += int64(len(b))
		}
	}
	return changed, nil
}

func event(pod *corev1.Pod, i int, at time.Time) *corev1.Event {
	t := metav1.NewTime(at)
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: pod.Namespace, Name: fmt.Sprintf("%s.%016x", pod.Name, i)},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427", FieldPath: "spec.containers{main}"},
		Type:           corev1.EventTypeWarning, Reason: "Unhealthy", Message: fmt.Sprintf("Readiness probe failed: connection %d refused", i),
		Count: 1, FirstTimestamp: t, LastTimestamp: t, Source: corev1.EventSource{Component: "kubelet", Host: "edge"},
	}
}

// storeDisk is the product's store.
type storeDisk struct{ store *store.Store }

func (d storeDisk) put(key string, o object) error {
	b, err := o.Marshal()
	if err != nil {
		return err
	}
	return d.store.Apply(store.Batch{Upserts: []store.Object{{Key: key, Version: "1b4e28ba-2fa1-11d2-883f-0016d3cca427/123456", Value: b}}})
}

func (d storeDisk) status(key string, o object) error {
	b, err := o.Marshal()
	if err != nil {
		return err
	}
	seq, err := d.store.Outbox().PutKeyed(1, key, b)
	if err != nil {
		return err
	}
	return d.store.Outbox().Trim(seq)
}

func (d storeDisk) event(key string, o object) (bool, error) {
	b, err := o.Marshal()
	if err != nil {
		return false, err
	}
	seq, err := d.store.Outbox().Append(2, key, b)
	if err != nil {
		return false, err
	}
	return true, d.store.Outbox().Trim(seq)
}

func (d storeDisk) close() error { return d.store.Close() }

// fileDisk is that of the WebSocket's edge. It keeps no events, as edgecore does
// not.
type fileDisk struct{ files websocket.Files }

func (d fileDisk) put(key string, o object) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return d.files.Put(key, b)
}

func (d fileDisk) status(key string, o object) error { return d.put("podstatus/"+key, o) }

func (d fileDisk) event(string, object) (bool, error) { return false, nil }

func (d fileDisk) close() error { return nil }

// writeBytes are the bytes that this process has had sent to disks.
func writeBytes() (int64, error) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	return parseWriteBytes(string(b))
}

func parseWriteBytes(io string) (int64, error) {
	_, rest, ok := strings.Cut("\n"+io, "\nwrite_bytes:")
	line, _, _ := strings.Cut(rest, "\n")
	if !ok {
		return 0, errors.New("no write_bytes in /proc/self/io")
	}
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}
