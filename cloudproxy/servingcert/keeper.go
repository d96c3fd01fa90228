package servingcert

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// grace is how long a request may go unanswered before people are told.
	grace = 30 * time.Second
	// retryMin and retryMax bound the pause after a failure.
	retryMin, retryMax = 5 * time.Second, time.Hour
	// soon is the pause between two steps of a request.
	soon = 100 * time.Millisecond
	// lookAgain bounds the sleep of a Keeper that has what it needs.
	lookAgain = 24 * time.Hour
)

// Condition is the type of the condition that Keeper.Condition gives.
const Condition corev1.NodeConditionType = "ServingCertificateIssued"

// Config is what a Keeper needs.
type Config struct {
	// Client needs get and create on certificatesigningrequests, get and update on
	// the Secret and create on Secrets. With update on
	// certificatesigningrequests/approval, and approve on the signer, the Keeper
	// approves its own requests. Required.
	Client kubernetes.Interface
	// Namespace is the Secret's. Required.
	Namespace string
	// Names are the host names and IP addresses that Nodes carry. At least one.
	Names []string
	// Fallback serves while there is no certificate of the cluster. Required.
	Fallback func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Log nil discards.
	Log *slog.Logger
}

// Keeper gets a serving certificate and renews it.
type Keeper struct {
	cfg     Config
	log     *slog.Logger
	current atomic.Pointer[certificate]

	mu    sync.Mutex // guards the following fields
	state state
	since time.Time // when state became what it is
	told  bool      // the log knows of state
}

// certificate is one with the time at which it is to be replaced.
type certificate struct {
	*tls.Certificate
	renew time.Time
}

// state is how things stand; its zero value is that nothing is known yet.
type state struct {
	ok              bool
	reason, message string
}

// New checks cfg and asks nobody anything.
func New(cfg Config) (*Keeper, error) {
	if cfg.Client == nil || cfg.Namespace == "" || len(cfg.Names) == 0 || cfg.Fallback == nil {
		return nil, errors.New("serving certificate: Client, Namespace, Names and Fallback are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{cfg: cfg, log: cfg.Log}, nil
}

// GetCertificate fits tls.Config.
func (k *Keeper) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil && validAt(c.Leaf, time.Now()) {
		return c.Certificate, nil
	}
	return k.cfg.Fallback(hello)
}

// Condition tells people what they have to do; nil is nothing new to tell.
func (k *Keeper) Condition() *corev1.NodeCondition {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state == (state{}) || !k.toTellLocked() {
		return nil
	}
	status := corev1.ConditionFalse
	if k.state.ok {
		status = corev1.ConditionTrue
	}
	return &corev1.NodeCondition{
		Type: Condition, Status: status, Reason: k.state.reason, Message: k.state.message,
		LastHeartbeatTime: metav1.NewTime(k.since), LastTransitionTime: metav1.NewTime(k.since),
	}
}

// toTellLocked says whether a state has lasted long enough to be told.
func (k *Keeper) toTellLocked() bool {
	return k.state.ok || time.Since(k.since) >= grace
}

// set notes how things stand and logs it once.
func (k *Keeper) set(s state) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s != k.state {
		if s.ok || k.state.ok || k.state == (state{}) {
			k.since = time.Now() // trouble that changes its face is the same trouble
		}
		k.state, k.told = s, false
	}
	if k.told || !k.toTellLocked() {
		return
	}
	k.told = true
	if s.ok {
		k.log.Info("serving certificate is the cluster's", "detail", s.message)
		return
	}
	k.log.Warn("serving certificate is not the cluster's; a kube-apiserver that has --kubelet-certificate-authority refuses it",
		"reason", s.reason, "todo", s.message)
}

// Run keeps the certificate until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	failures := 0
	for {
		wait, err := k.pass(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			k.set(state{reason: "Error", message: err.Error()})
			wait = min(retryMin<<min(failures, 20), retryMax)
			wait -= rand.N(wait / 4)
			failures++
		case k.issuedNow():
			// Not sooner: to ask anew works each time, and may be refused each time.
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

func (k *Keeper) issuedNow() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.ok
}

// use serves a certificate from now on, and says for how long.
func (k *Keeper) use(pair *tls.Certificate) *certificate {
	if c := k.current.Load(); c != nil && slices.EqualFunc(c.Certificate.Certificate, pair.Certificate, slices.Equal) {
		return c
	}
	life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore)
	// Before two thirds of its life, and not all replicas at once.
	c := &certificate{pair, pair.Leaf.NotBefore.Add(life*2/3 - rand.N(life/15+1))}
	k.current.Store(c)
	return c
}

// sansOf splits names into host names and addresses.
func sansOf(names []string) (hosts []string, ips []net.IP) {
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			hosts = append(hosts, name)
		}
	}
	return hosts, ips
}
