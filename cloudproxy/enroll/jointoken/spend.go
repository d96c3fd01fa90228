package jointoken

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/certs"
)

const (
	// retryWindow is how long the one who used a token up may ask again with the
	// same key, because the answer got lost on a bad link.
	retryWindow = 10 * time.Minute
	// maxUsed bounds the record of uses in the Secret.
	maxUsed = 32
)

// Refusal says why a token was not taken.
type Refusal struct {
	Code certs.EnrollCode
	Text string
}

// Error gives the text for humans.
func (r *Refusal) Error() string { return r.Text }

// Unauthorized is the answer to everybody who does not know a token's secret. It
// is one answer, so that nobody learns which tokens exist and how they stand.
func Unauthorized() *Refusal {
	return &Refusal{certs.CodeUnauthorized, "the token is unknown or its secret is wrong"}
}

// Claim is an attempt to use a token.
type Claim struct {
	Token Token
	Node  string
	Key   string // KeyHash of the key to be certified
	// Revoked is up to when the node's certificates are refused; a use before it may
	// not be repeated. Zero means that the node was never revoked.
	Revoked time.Time
}

// KeyHash names a public key in the record of uses.
func KeyHash(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("hash key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// Spend decides whether the token behind secret buys the claimed certificate. It
// returns the Secret to write before anything is signed, with the resourceVersion
// it was read with: only one of two concurrent writers gets through, so a token
// for one use certifies one key. A nil Secret means that nothing has to be written.
// The error is always a *Refusal.
func Spend(secret *corev1.Secret, c Claim, now time.Time) (*corev1.Secret, error) {
	// The length first: an emptied Secret must not match an empty token.
	if len(secret.Data[keySecret]) != secretLen ||
		subtle.ConstantTimeCompare(secret.Data[keySecret], []byte(c.Token.secret)) != 1 ||
		subtle.ConstantTimeCompare(secret.Data[keyID], []byte(c.Token.ID)) != 1 {
		return nil, Unauthorized()
	}
	// From here on the caller knows the secret and is told what is wrong.
	g, ok := ReadGrant(secret)
	switch {
	case !ok:
		return nil, &Refusal{certs.CodeTokenPurpose, "the token is not for joining edges (usage-skerry-join is not true)"}
	case g.Expired(now):
		return nil, &Refusal{certs.CodeTokenExpired, "the token expired " + g.Expires.UTC().Format(time.RFC3339)}
	case g.Node != "" && g.Node != c.Node:
		return nil, &Refusal{certs.CodeOtherNode, fmt.Sprintf("the token is for node %q only", g.Node)}
	case !g.Limited:
		return nil, nil
	}
	if slices.ContainsFunc(g.Used, func(u Use) bool {
		return u.Key == c.Key && u.Node == c.Node && now.Before(u.Time.Add(retryWindow)) && u.Time.After(c.Revoked)
	}) {
		return nil, nil // the same key again: the answer was lost, the use is paid
	}
	if g.UsesLeft == 0 {
		text := "the token was used up"
		if n := len(g.Used); n > 0 {
			last := g.Used[n-1]
			text = fmt.Sprintf("the token was used up by node %q at %s", last.Node, last.Time.UTC().Format(time.RFC3339))
		}
		return nil, &Refusal{certs.CodeTokenUsed, text}
	}
	return spent(secret, g, Use{Node: c.Node, Key: c.Key, Time: now.UTC().Truncate(time.Second)})
}

func spent(secret *corev1.Secret, g Grant, use Use) (*corev1.Secret, error) {
	used := append(g.Used, use)
	used = used[max(0, len(used)-maxUsed):]
	record, err := json.Marshal(used)
	if err != nil {
		return nil, &Refusal{certs.CodeUnavailable, "the use of the token could not be recorded"}
	}
	next := secret.DeepCopy()
	next.Data[keyUses] = []byte(strconv.Itoa(g.UsesLeft - 1))
	next.Data[keyUsed] = record
	return next, nil
}
