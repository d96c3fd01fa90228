package certificates

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/volumes"
	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// askAgain is when what nobody answers is asked again, and up to half of it later.
	askAgain = 10 * time.Minute
	// overdueAfter is when a certificate should have been renewed; kubelets say so then.
	overdueAfter = 10 * time.Minute
	// lookEvery bounds how long nobody looks whether a certificate is due: clocks are set.
	lookEvery = time.Minute
)

// Run has keys certified, and anew when it is time, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		var timer <-chan time.Time
		if k.tendAll(ctx) {
			timer = time.After(lookEvery)
		}
		select {
		case <-k.bell:
		case <-timer:
		case <-ctx.Done():
			return nil
		}
	}
}

// tendAll looks at all there is. It reports whether there is anything to look at again
// without being woken.
func (k *Keeper) tendAll(ctx context.Context) bool {
	k.mu.Lock()
	names := slices.Sorted(maps.Keys(k.entries))
	shown := k.woken
	k.woken = map[string]bool{}
	k.mu.Unlock()
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		if key := k.tend(name); key != "" {
			shown[key] = true
		}
	}
	for key := range shown {
		k.cfg.Shown(key)
	}
	return len(names) > 0
}

// tend does what there is to do about one certificate. It gives the key of the answer that
// it has taken, if any.
func (k *Keeper) tend(name string) (answered string) {
	k.mu.Lock()
	e := k.entries[name]
	var now entry
	if e != nil {
		now = *e
	}
	k.mu.Unlock()
	if e == nil {
		return ""
	}
	after := now
	switch {
	case now.Next != nil:
		if answered = k.settle(&after); answered == "" {
			k.ask(&after)
		}
	case now.Chain != nil && now.refused == nil && k.due(&now) && !k.vain():
		k.renew(&after)
	}
	k.warn(&after)
	k.mu.Lock()
	there := k.entries[name] == e
	if there {
		*e = after
	} else {
		k.left[name] = now.UID // the pod has gone meanwhile, and this may have been saved since
	}
	k.mu.Unlock()
	if !there {
		if err := k.remove(name); err != nil {
			k.cfg.Log.Warn("key of a pod that is gone is not deleted yet", "name", name, "error", err)
		}
		return ""
	}
	return answered
}

// settle takes the answer to what is asked, if it has come.
func (k *Keeper) settle(e *entry) (answered string) {
	name := e.answerName()
	log := k.cfg.Log.With("namespace", e.Namespace, "pod", e.Pod, "signer", e.Signer, "request", name)
	answer, err := k.cfg.Answers.PodCertificateRequest(e.Namespace, name)
	if err != nil {
		if !errors.Is(err, volumes.ErrNotFound) {
			log.Error("answer of a signer is not readable", "error", err)
		}
		return ""
	}
	issued, refused := judge(e.record, answer)
	after := entry{record: e.record}
	switch {
	case issued != nil:
		after.record = *issued
	case refused != nil:
		after.Next, after.refused = nil, refused
		after.overdue, after.expired = e.overdue, e.expired
	default:
		return ""
	}
	if err := k.keep(&after.record); err != nil {
		log.Warn("answer of a signer waits for the store", "error", err)
		return ""
	}
	*e = after
	if refused != nil {
		log.Warn("certificate of a pod is refused", "condition", refused.condition, "reason", refused.reason, "message", refused.message)
		k.event(e, refused.condition, refused.event(e.Namespace+"/"+name))
	} else {
		log.Info("certificate of a pod is issued", "not_after", e.NotAfter, "refresh_at", e.RefreshAt)
	}
	return wire.ObjectKey(wire.ResourceCertificates, e.Namespace, name)
}

// keep saves a record, if there is anything in it that another agent could go on with.
func (k *Keeper) keep(r *record) error {
	if r.Chain == nil && r.Next == nil {
		return k.cfg.Store.DeletePrivate(r.name())
	}
	return k.save(r)
}

// ask sends what is asked, the first time or once more.
func (k *Keeper) ask(e *entry) {
	now := time.Now()
	if now.Before(e.askAt) || !e.askAt.IsZero() && !k.cfg.Online() || k.vain() {
		return
	}
	e.askAt = now.Add(askAgain + rand.N(askAgain/2))
	k.cfg.Reporter.CertificateRequest(e.Volume, e.Source, e.question())
}

// vain says that the cluster is known to take no requests.
func (k *Keeper) vain() bool {
	takes, err := k.cfg.Answers.TakesCertificateRequests(k.cfg.NodeName)
	return err == nil && !takes
}

func (k *Keeper) due(e *entry) bool {
	return !k.cfg.Now().Before(e.RefreshAt) && !time.Now().Before(e.askAt)
}

// renew makes the key of the next certificate, and asks for that.
func (k *Keeper) renew(e *entry) {
	after := e.record
	var err error
	if after.Next, err = newRequest(e.KeyType); err == nil {
		err = k.save(&after)
	}
	if err != nil {
		k.cfg.Log.Warn("certificate of a pod can't be renewed yet", "namespace", e.Namespace, "pod", e.Pod, "signer", e.Signer, "error", err)
		e.askAt = time.Now().Add(askAgain)
		return
	}
	e.record, e.askAt = after, time.Time{}
	k.ask(e)
}

// warn tells once that a certificate should have been renewed, and that it has ended.
func (k *Keeper) warn(e *entry) {
	if e.Chain == nil {
		return
	}
	now := k.cfg.Now()
	if !e.overdue && now.After(e.RefreshAt.Add(overdueAfter)) {
		e.overdue = true
		k.event(e, "CertificateOverdueForRefresh", "PodCertificate refresh overdue")
	}
	if !e.expired && now.After(e.NotAfter) {
		e.expired = true
		k.event(e, "CertificateExpired", "PodCertificate expired")
	}
}

func (k *Keeper) event(e *entry, reason, message string) {
	k.cfg.Reporter.PodEvent(e.Namespace, e.Pod, e.UID, "", corev1.EventTypeWarning, reason, message)
}
