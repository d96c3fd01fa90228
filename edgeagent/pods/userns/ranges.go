// Package userns gives pods that have users of their own (hostUsers: false, KEP-127)
// their ranges of the machine's user and group IDs: root inside is the first of them,
// which is nobody outside. It serves the workers of edgeagent/pods.
//
// A pod's range lies in its directory, in the file and the words of a kubelet:
//
//	STATE/pods/UID/userns   {"uidMappings":[{"hostId":131072,"containerId":0,"length":65536}],"gidMappings":[the same]}
//
// There is no other record. What is used is what the files say, so an agent that is
// killed at any instruction leaves nothing to repair: a range is given before anything
// runs with it, and given back with the file, or with the directory, after all of the
// pod has ended.
package userns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// Size is how many users, and how many groups, a pod has. Its first is a multiple of it.
const Size = 1 << 16

const (
	file    = "userns"
	fileTmp = "userns.tmp"
)

// Span is the IDs that there are for pods: Count from First, both multiples of [Size].
type Span struct{ First, Count uint32 }

// ErrNoneFree says that pods have all the ranges there are. One that ends gives its
// own back.
var ErrNoneFree = errors.New("no range of user IDs is free")

// Pods is where pods have their directories; *volumes.Manager is one.
type Pods interface {
	PodDir(uid types.UID) string
	// Pods lists the pods that have a directory, and may list others.
	Pods() ([]types.UID, error)
}

// Ranges gives ranges to pods and takes them back.
type Ranges struct {
	pods Pods
	span func(context.Context) (Span, error)

	mu sync.Mutex // held from looking for a free range to its being taken
}

// New returns Ranges of what span gives, which is asked for each pod that has none;
// nil asks the machine, see [OfMachine].
func New(pods Pods, span func(context.Context) (Span, error)) *Ranges {
	if span == nil {
		span = OfMachine
	}
	return &Ranges{pods: pods, span: span}
}

// First is the ID on the machine of the pod's root; Size IDs from there are the pod's.
// It is the same until Release, and as long as the pod has its directory, even when the
// span is another by then. Calls for one pod may not run at the same time.
func (r *Ranges) First(ctx context.Context, uid types.UID) (uint32, error) {
	first, ok, err := r.read(uid)
	if ok || err != nil {
		return first, err
	}
	span, err := r.span(ctx)
	if err != nil {
		return 0, err
	}
	if err := span.check(); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	used, err := r.used()
	if err != nil {
		return 0, err
	}
	for i := range span.Count / Size {
		if first := span.First + i*Size; !used[first] {
			return first, r.write(uid, first)
		}
	}
	return 0, fmt.Errorf("%w: pods have all %d", ErrNoneFree, span.Count/Size)
}

// Release gives back what a pod has that runs no more. One that has none is no error.
func (r *Ranges) Release(uid types.UID) error {
	err := os.Remove(filepath.Join(r.pods.PodDir(uid), file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release user IDs: %w", err)
	}
	return nil
}

// used are the first IDs of all pods' ranges.
func (r *Ranges) used() (map[uint32]bool, error) {
	uids, err := r.pods.Pods()
	if err != nil {
		return nil, err
	}
	used := map[uint32]bool{}
	for _, uid := range uids {
		first, ok, err := r.read(uid)
		if err != nil {
			return nil, err // whoever runs may have any
		}
		if ok {
			used[first] = true
		}
	}
	return used, nil
}

// mappings is the file's content.
type mappings struct {
	UIDs []mapping `json:"uidMappings"`
	GIDs []mapping `json:"gidMappings"`
}

type mapping struct {
	HostID      uint32 `json:"hostId"`
	ContainerID uint32 `json:"containerId"`
	Length      uint32 `json:"length"`
}

// read is what a pod was given. A file that makes no sense was cut short by power loss,
// which no container outlives: it is none.
func (r *Ranges) read(uid types.UID) (first uint32, ok bool, err error) {
	raw, err := os.ReadFile(filepath.Join(r.pods.PodDir(uid), file))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read user IDs of pod %s: %w", uid, err)
	}
	first, ok = decode(raw)
	return first, ok, nil
}

func decode(raw []byte) (first uint32, ok bool) {
	var m mappings
	if json.Unmarshal(raw, &m) != nil || len(m.UIDs) != 1 || len(m.GIDs) != 1 || m.UIDs[0] != m.GIDs[0] {
		return 0, false
	}
	got := m.UIDs[0]
	return got.HostID, got.ContainerID == 0 && got.Length == Size && got.HostID >= Size && got.HostID%Size == 0
}

// write needs no sync, see read: after power loss a pod may have another range, and
// its files belong to the same users, since its mounts map them.
func (r *Ranges) write(uid types.UID, first uint32) error {
	m := []mapping{{HostID: first, Length: Size}}
	raw, err := json.Marshal(mappings{UIDs: m, GIDs: m})
	if err != nil {
		return fmt.Errorf("encode user IDs: %w", err)
	}
	dir := r.pods.PodDir(uid)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("save user IDs: %w", err)
	}
	tmp := filepath.Join(dir, fileTmp)
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("save user IDs: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, file)); err != nil {
		return fmt.Errorf("save user IDs: %w", err)
	}
	return nil
}
