package certificates

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// Store keeps what nobody but this edge knows; *store.Store is one.
type Store interface {
	Private(fn func(name string, value []byte)) error
	SetPrivate(name string, value []byte) error
	DeletePrivate(names ...string) error
}

// Answers reads what the cloud says. Its errors for what is not there wrap
// [volumes.ErrNotFound].
type Answers interface {
	// PodCertificateRequest reads the answer to what was asked.
	PodCertificateRequest(namespace, name string) (*certificatesv1.PodCertificateRequest, error)
	// TakesCertificateRequests says whether the cluster takes any for pods of the node;
	// ErrNotFound means that nobody knows yet.
	TakesCertificateRequests(node string) (bool, error)
}

// Reporter takes what the cloud should hear. Its methods must not block on the network.
type Reporter interface {
	// CertificateRequest asks for a certificate for a source of a pod's volume.
	CertificateRequest(volume string, source int, req *certificatesv1.PodCertificateRequest)
	// PodEvent records an event about a pod.
	PodEvent(namespace, name string, uid types.UID, fieldPath, kind, reason, message string)
}

// Config is what a Keeper needs. All but Log is required.
type Config struct {
	Store    Store
	Answers  Answers
	Reporter Reporter
	// NodeName is this node.
	NodeName string
	// Now is the clock by which certificates are due, which may not be the machine's.
	Now func() time.Time
	// Online says whether there is a session to the cloud: without one nothing is asked
	// twice.
	Online func() bool
	// Shown is called with the key of an answer when what it changes can be read, and with
	// that of any other change under such keys. It must not block.
	Shown func(key string)
	// Log may be nil, which discards.
	Log *slog.Logger
}

// Keeper makes keys for pods, has them certified and keeps both. Its methods may be called
// concurrently, but for one pod only Forget beside others.
type Keeper struct {
	cfg  Config
	bell chan struct{} // capacity 1: there is something to do

	mu      sync.Mutex // guards the following fields; nothing is waited for under it
	entries map[string]*entry
	left    map[string]types.UID // names that may be in the store, of pods that are gone
	woken   map[string]bool      // keys of answers that came, changed or went
}

// entry is a record and what this agent knows beside it.
type entry struct {
	record
	askAt   time.Time // when to ask, or to try to, again; of this machine's clock. Zero is now
	refused *refusal
	overdue bool // that has been told
	expired bool // likewise
}

// New reads what is kept. Keys for pods are made from then on; Run has them certified.
func New(cfg Config) (*Keeper, error) {
	if cfg.Store == nil || cfg.Answers == nil || cfg.Reporter == nil || cfg.NodeName == "" || cfg.Now == nil || cfg.Online == nil || cfg.Shown == nil {
		return nil, errors.New("certificates config: all but Log is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{cfg: cfg, bell: make(chan struct{}, 1), entries: map[string]*entry{}, left: map[string]types.UID{}, woken: map[string]bool{}}
	err := cfg.Store.Private(func(name string, value []byte) {
		if !strings.HasPrefix(name, storePrefix) {
			return
		}
		r, err := unmarshal(name, value)
		if err != nil {
			cfg.Log.Error("key of a pod counts as lost", "name", name, "error", err)
			return
		}
		k.entries[name] = &entry{record: r}
	})
	if err != nil {
		return nil, fmt.Errorf("certificates of pods: %w", err)
	}
	return k, nil
}

// Wake says that the object under a key of the desired state may have changed, come or
// gone. It reports whether the key is the Keeper's to tell of. It never blocks.
func (k *Keeper) Wake(key string) bool {
	if r, _, _, _, ok := wire.SplitKey(key); !ok || r != wire.ResourceCertificates {
		return false
	}
	k.mu.Lock()
	k.woken[key] = true
	k.mu.Unlock()
	k.ring()
	return true
}

func (k *Keeper) ring() {
	select {
	case k.bell <- struct{}{}:
	default:
	}
}

// Certificate implements [volumes.Certificates]. When there is nothing yet it makes a key
// and has it asked for.
func (k *Keeper) Certificate(pod *corev1.Pod, volume string, source int) (key, chain []byte, err error) {
	want := wanted(pod, volume, source)
	if want == nil {
		return nil, nil, fmt.Errorf("pod has no source %d of volume %q that is a certificate", source, volume)
	}
	name := recordName(pod.UID, volume, source)
	e, asked := k.entry(name)
	switch {
	case e.Chain != nil:
		return e.Key, e.Chain, nil
	case e.refused != nil:
		return nil, nil, e.refused.err()
	}
	takes, err := k.cfg.Answers.TakesCertificateRequests(k.cfg.NodeName)
	switch {
	case errors.Is(err, volumes.ErrNotFound):
		return nil, nil, notYet(want)
	case err != nil:
		return nil, nil, err
	case !takes:
		return nil, nil, &volumes.UnsupportedError{
			Volume: volume, Source: "podCertificate",
			Why: "the cluster does not take PodCertificateRequests of certificates.k8s.io/v1, or its cloud proxy may not make them",
		}
	case asked:
		return nil, nil, notYet(want)
	}
	r := newRecord(pod, volume, source, want)
	if r.Next, err = newRequest(want.KeyType); err != nil {
		return nil, nil, err
	}
	if err := k.save(&r); err != nil {
		return nil, nil, err
	}
	k.mu.Lock()
	k.entries[name] = &entry{record: r}
	k.mu.Unlock()
	k.ring()
	return nil, nil, notYet(want)
}

// entry gives what there is by that name.
func (k *Keeper) entry(name string) (e entry, there bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.entries[name]; now != nil {
		return *now, true
	}
	return entry{}, false
}

// wanted finds the source of a pod's volume.
func wanted(pod *corev1.Pod, volume string, source int) *corev1.PodCertificateProjection {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == volume && v.Projected != nil && source < len(v.Projected.Sources) {
			return v.Projected.Sources[source].PodCertificate
		}
	}
	return nil
}

func notYet(want *corev1.PodCertificateProjection) error {
	return fmt.Errorf("certificate of signer %q %w", want.SignerName, volumes.ErrNotYet)
}

// save keeps a record across restarts.
func (k *Keeper) save(r *record) error {
	b, err := r.marshal()
	if err != nil {
		return err
	}
	return k.cfg.Store.SetPrivate(r.name(), b)
}

// Forget implements [volumes.Certificates].
func (k *Keeper) Forget(pod types.UID) error {
	var names []string
	k.mu.Lock()
	for name, e := range k.entries {
		if e.UID == pod {
			// Whoever is about to save it sees that it has gone.
			delete(k.entries, name)
			k.left[name] = pod
		}
	}
	for name, uid := range k.left {
		if uid == pod {
			names = append(names, name)
		}
	}
	k.mu.Unlock()
	if err := k.remove(names...); err != nil {
		return fmt.Errorf("delete keys of pod %s: %w", pod, err)
	}
	return nil
}

// remove deletes from the store what is left of pods that are gone.
func (k *Keeper) remove(names ...string) error {
	if len(names) == 0 {
		return nil
	}
	if err := k.cfg.Store.DeletePrivate(names...); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		delete(k.left, name)
	}
	return nil
}

// Pods implements [volumes.Certificates].
func (k *Keeper) Pods() []types.UID {
	pods := map[types.UID]bool{}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.entries {
		pods[e.UID] = true
	}
	for _, uid := range k.left {
		pods[uid] = true
	}
	return slices.Collect(maps.Keys(pods))
}

var _ volumes.Certificates = (*Keeper)(nil)
