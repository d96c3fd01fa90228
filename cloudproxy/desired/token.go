package desired

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxTokenAge is when a token is replaced whatever its life, as kubelets do.
const maxTokenAge = 24 * time.Hour

// usualTokenSeconds is what admission gives the token of every pod. API servers let
// tokens of just this life be valid for a year, unless told otherwise, so asking
// for a longer life would shorten it.
const usualTokenSeconds = 3607

// token is a service account token that a pod of the edge projects.
type token struct {
	namespace, pod, account string
	uid                     types.UID
	spec                    tokenSpec
	due                     time.Time // when to ask for a new one
	wait                    time.Duration
	asking                  bool
	fresh                   *tokenResult // arrived and not yet sent
}

// tokenResult is what came of a TokenRequest.
type tokenResult struct {
	key    string
	uid    types.UID
	value  []byte
	expiry time.Time
	err    error
}

// wantToken notes that the edge should hold a token. One that the edge has and
// that is young enough needs no request.
func (s *stream) wantToken(key string, pod *corev1.Pod, spec tokenSpec) {
	if s.tokens[key] != nil {
		return
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	t := &token{namespace: pod.Namespace, pod: pod.Name, account: account, uid: pod.UID, spec: spec, wait: minRetry, due: time.Now()}
	version, _ := s.version(key)
	if _, text, ok := strings.Cut(version, "/"); ok {
		if unix, err := strconv.ParseInt(text, 10, 64); err == nil {
			t.due = t.renewal(time.Unix(unix, 0))
		}
	}
	s.tokens[key] = t
}

// renewal says when a token that expires at expiry is to be replaced: when 80 % of
// its life are over, as kubelets do; one that was asked to live longer than usual
// when half is, so that an edge that goes offline has much of it left. A little
// earlier or later, so that the tokens of pods that started together do not come
// due together.
func (t *token) renewal(expiry time.Time) time.Time {
	life := time.Duration(t.spec.seconds) * time.Second
	issued := expiry.Add(-life)
	age := life / 5 * 4
	if t.spec.seconds > usualTokenSeconds {
		age = life / 2
	}
	age = min(age, maxTokenAge)
	return issued.Add(age - rand.N(life/50+1))
}

// lookAtToken sends a token that has come, or asks for one when it is time.
func (s *stream) lookAtToken(ctx context.Context, key string) error {
	t := s.tokens[key]
	if t == nil {
		return s.remove(key)
	}
	if r := t.fresh; r != nil {
		t.fresh = nil
		version := string(t.uid) + "/" + strconv.FormatInt(r.expiry.Unix(), 10)
		return s.put(key, version, func() ([]byte, error) { return r.value, nil })
	}
	if !t.asking && !time.Now().Before(t.due) {
		t.asking = true
		namespace, account, request := t.namespace, t.account, t.request()
		s.wg.Go(func() { s.ask(ctx, key, namespace, account, request) })
	}
	return nil
}

func (t *token) request() *authenticationv1.TokenRequest {
	tr := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &t.spec.seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: t.pod, UID: t.uid},
	}}
	if t.spec.audience != "" {
		tr.Spec.Audiences = []string{t.spec.audience}
	}
	return tr
}

// ask fetches one token, in a goroutine of its own.
func (s *stream) ask(ctx context.Context, key, namespace, account string, tr *authenticationv1.TokenRequest) {
	select {
	case s.pub.tokenSlots <- struct{}{}:
		defer func() { <-s.pub.tokenSlots }()
	case <-ctx.Done():
		return
	}
	r := tokenResult{key: key, uid: tr.Spec.BoundObjectRef.UID}
	got, err := s.pub.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, tr, metav1.CreateOptions{})
	if err == nil {
		got.ManagedFields = nil
		r.expiry = got.Status.ExpirationTimestamp.Time
		r.value, err = got.Marshal()
	}
	if err != nil {
		r.err = fmt.Errorf("request token of service account %s/%s: %w", namespace, account, err)
	}
	s.mu.Lock()
	s.results = append(s.results, r)
	s.mu.Unlock()
	s.ring()
}

// takeResults notes what came of requests.
func (s *stream) takeResults() {
	s.mu.Lock()
	results := s.results
	s.results = nil
	s.mu.Unlock()
	for i := range results {
		r := &results[i]
		t := s.tokens[r.key]
		if t == nil {
			continue // nobody wants it any more
		}
		t.asking = false
		if r.err != nil {
			t.due = time.Now().Add(t.wait/2 + rand.N(t.wait))
			t.wait = min(2*t.wait, maxRetry)
			s.log.Warn("token can't be had", "key", r.key, "error", r.err)
			continue
		}
		t.wait = minRetry
		t.due = t.renewal(r.expiry)
		if !t.due.After(time.Now()) {
			// A life shorter than was asked for: do not ask in a circle.
			t.due = time.Now().Add(max(time.Until(r.expiry)/2, maxRetry))
		}
		t.fresh = r
		s.mark(r.key)
	}
}

// nextDue says when the next token is due, or the API to be asked about Devices.
func (s *stream) nextDue() (time.Time, bool) {
	var next time.Time
	for key, t := range s.tokens {
		if s.waits(key, t) && (next.IsZero() || t.due.Before(next)) {
			next = t.due
		}
	}
	if at := s.doubts.again; !at.IsZero() && (next.IsZero() || at.Before(next)) {
		next = at
	}
	return next, !next.IsZero()
}

func (s *stream) markDue() {
	now := time.Now()
	for key, t := range s.tokens {
		if s.waits(key, t) && !now.Before(t.due) {
			s.mark(key)
		}
	}
	s.markDoubted(now)
}

// waits says whether nothing but time stands between a token and its renewal.
func (s *stream) waits(key string, t *token) bool {
	return !t.asking && t.fresh == nil && !s.flies(key)
}
