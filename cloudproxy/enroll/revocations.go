package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/skerry-io/skerry/certs"
)

const revokedName = "skerry-revoked"

// forever stands for an entry that nobody can read: no certificate of that node
// is let in until a person repairs it.
func forever() time.Time { return time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }

// revocations is the set of revoked nodes: a certificate of one that joined at the
// time given or earlier is refused, whenever it was renewed.
type revocations struct {
	log *slog.Logger

	mu        sync.Mutex // guards the following fields
	until     map[string]time.Time
	callbacks []func(node string)
}

// Revoked reports whether a verified certificate is refused. It fits
// certs.ServerConfig and is asked on every handshake.
func (s *Service) Revoked(id certs.Identity, cert *x509.Certificate) bool {
	return s.revoked.covers(id.Node, certs.JoinedAt(cert))
}

// OnRevoked registers what is called, from the goroutine of Run, with each node
// that was revoked or revoked again, so that its live session can be checked
// against Revoked and closed. It must not block. Register before Run.
func (s *Service) OnRevoked(f func(node string)) {
	s.revoked.mu.Lock()
	defer s.revoked.mu.Unlock()
	s.revoked.callbacks = append(s.revoked.callbacks, f)
}

func (r *revocations) covers(node string, joined time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.until[node]
	return ok && !joined.After(until)
}

// when gives up to when the node is revoked, zero for one that is not.
func (r *revocations) when(node string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.until[node]
}

// set takes a new state of the ConfigMap and tells what became stricter.
func (r *revocations) set(data map[string]string) {
	next := parseRevocations(data)
	for node, until := range next {
		if until.Equal(forever()) {
			r.log.Error("unreadable revocation, refusing the node", "node", node, "value", data[node])
		}
	}
	r.mu.Lock()
	before, callbacks := r.until, r.callbacks
	r.until = next
	r.mu.Unlock()

	for _, node := range slices.Sorted(maps.Keys(next)) {
		if old, ok := before[node]; ok && !next[node].After(old) {
			continue
		}
		r.log.Info("node revoked", "node", node, "until", next[node])
		for _, f := range callbacks {
			f(node)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(before)) {
		if _, ok := next[node]; !ok {
			r.log.Warn("revocation removed", "node", node)
		}
	}
}

// parseRevocations reads the ConfigMap's data.
func parseRevocations(data map[string]string) map[string]time.Time {
	list := make(map[string]time.Time, len(data))
	for node, text := range data {
		until, err := time.Parse(time.RFC3339, text)
		if err != nil {
			until = forever() // somebody wanted this node out and mistyped; letting it in is worse
		}
		list[node] = until
	}
	return list
}

// ReadRevocations gives up to when which nodes are revoked.
func ReadRevocations(ctx context.Context, client kubernetes.Interface, namespace string) (map[string]time.Time, error) {
	cm, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, revokedName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return map[string]time.Time{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	return parseRevocations(cm.Data), nil
}

// readRevocations fills the set before the first session is accepted: an informer
// alone would leave a window in which nobody is revoked.
func (s *Service) readRevocations(ctx context.Context) error {
	cm, err := s.cfg.Client.CoreV1().ConfigMaps(s.cfg.Namespace).Get(ctx, revokedName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read revocations: %w", err)
	}
	if err == nil {
		s.revoked.set(cm.Data)
	}
	return nil
}

// watchRevocations follows the ConfigMap until ctx ends. While the API is away
// the last known set stays in force.
func (s *Service) watchRevocations(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(s.cfg.Client, 0,
		informers.WithNamespace(s.cfg.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, revokedName).String()
		}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	update := func(obj any) {
		if cm, ok := obj.(*corev1.ConfigMap); ok && cm.Name == revokedName {
			s.revoked.set(cm.Data)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    update,
		UpdateFunc: func(_, obj any) { update(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if cm, ok := obj.(*corev1.ConfigMap); ok && cm.Name == revokedName {
				s.revoked.set(nil)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch revocations: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	<-ctx.Done()
	return ctx.Err()
}

// Revoke refuses every certificate of the node that was signed so far, and says
// up to when. It never moves a revocation back.
func Revoke(ctx context.Context, client kubernetes.Interface, namespace, node string) (time.Time, error) {
	if err := certs.ValidateNodeName(node); err != nil {
		return time.Time{}, err
	}
	now, err := serverTime(ctx, client, namespace)
	if err != nil {
		return time.Time{}, err
	}
	// Certificates have whole seconds: the next one covers all of this one.
	until := now.UTC().Truncate(time.Second).Add(time.Second)
	err = updateConfigMap(ctx, client, namespace, revokedName, func(data map[string]string) bool {
		if old, err := time.Parse(time.RFC3339, data[node]); err == nil && old.After(until) {
			until = old
			return false
		}
		data[node] = until.Format(time.RFC3339)
		return true
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("write revocation: %w", err)
	}
	return until, nil
}

// serverTime asks the API server for the time: a revocation is compared with what
// the proxies' clocks wrote into certificates, and the clock of the laptop that
// revokes may be minutes behind, which would let the newest certificate live. A
// create that is only tried comes back with a time and leaves nothing.
func serverTime(ctx context.Context, client kubernetes.Interface, namespace string) (time.Time, error) {
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "skerry-clock-", Namespace: namespace}}
	got, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the API server for the time: %w", err)
	}
	if got.CreationTimestamp.IsZero() {
		return time.Time{}, errors.New("ask the API server for the time: it gave none")
	}
	return got.CreationTimestamp.Time, nil
}
