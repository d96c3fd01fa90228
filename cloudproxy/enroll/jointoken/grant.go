package jointoken

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
)

// SecretType is the type of the Secrets.
const SecretType = corev1.SecretTypeBootstrapToken

const (
	keyID          = "token-id"
	keySecret      = "token-secret"
	keyExpiration  = "expiration"
	keyDescription = "description"
	keyUsage       = "usage-skerry-join"
	keyNode        = "skerry-node"
	keyUses        = "skerry-uses"
	keyUsed        = "skerry-used"

	yes = "true"
)

// Grant is what a token allows: its Secret without the secret.
type Grant struct {
	ID          string    `json:"id"`
	Description string    `json:"description,omitempty"`
	Node        string    `json:"node,omitempty"`     // empty: any node name
	Expires     time.Time `json:"expires,omitzero"`   // zero: never
	Limited     bool      `json:"limited"`            // by a number of uses
	UsesLeft    int       `json:"usesLeft,omitempty"` // when Limited
	Used        []Use     `json:"used,omitempty"`     // the last ones
}

// Use is one certificate that a token bought.
type Use struct {
	Node string    `json:"node"`
	Key  string    `json:"key"` // KeyHash of the public key
	Time time.Time `json:"time"`
}

// Expired reports whether the token is past its time.
func (g Grant) Expired(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// EndedBy reports whether the token was good for nothing any more at t: expired, or
// used up with its last use before.
func (g Grant) EndedBy(t time.Time) bool {
	if g.Expired(t) {
		return true
	}
	return g.Limited && g.UsesLeft == 0 && (len(g.Used) == 0 || g.Used[len(g.Used)-1].Time.Before(t))
}

// NewSecret makes the Secret of a new token with this grant.
func NewSecret(t Token, g Grant) (*corev1.Secret, error) {
	if g.Node != "" {
		if err := certs.ValidateNodeName(g.Node); err != nil {
			return nil, err
		}
	}
	data := map[string]string{keyID: t.ID, keySecret: t.secret, keyUsage: yes}
	if g.Description != "" {
		data[keyDescription] = g.Description
	}
	if g.Node != "" {
		data[keyNode] = g.Node
	}
	if !g.Expires.IsZero() {
		data[keyExpiration] = g.Expires.UTC().Format(time.RFC3339)
	}
	if g.Limited {
		if g.UsesLeft < 1 {
			return nil, fmt.Errorf("a token for %d uses is good for nothing", g.UsesLeft)
		}
		data[keyUses] = strconv.Itoa(g.UsesLeft)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace,
			Name:      SecretName(t.ID),
			Labels:    map[string]string{"app.kubernetes.io/managed-by": "skerry"},
		},
		Type: SecretType,
		Data: map[string][]byte{},
	}
	// Data, not StringData: that one is write-only and a test would not see it.
	for k, v := range data {
		secret.Data[k] = []byte(v)
	}
	return secret, nil
}

// ReadGrant reads a Secret. It reports false for one that is no join token. What
// a person garbled counts as the strictest: an unreadable time as expired, an
// unreadable number as none left.
func ReadGrant(secret *corev1.Secret) (Grant, bool) {
	id := string(secret.Data[keyID])
	if secret.Type != SecretType || !ValidID(id) || secret.Name != SecretName(id) ||
		string(secret.Data[keyUsage]) != yes {
		return Grant{}, false
	}
	g := Grant{ID: id, Description: string(secret.Data[keyDescription]), Node: string(secret.Data[keyNode])}
	if text, ok := secret.Data[keyExpiration]; ok {
		var err error
		if g.Expires, err = time.Parse(time.RFC3339, string(text)); err != nil {
			g.Expires = time.Unix(0, 0)
		}
	}
	if text, ok := secret.Data[keyUses]; ok {
		g.Limited = true
		if n, err := strconv.Atoi(string(text)); err == nil && n > 0 {
			g.UsesLeft = n
		}
	}
	if text, ok := secret.Data[keyUsed]; ok {
		if err := json.Unmarshal(text, &g.Used); err != nil {
			g.Used = nil // only a convenience for retries
		}
	}
	return g, true
}
