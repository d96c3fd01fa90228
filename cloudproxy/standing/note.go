package standing

import (
	"encoding/json"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Annotation is on the Nodes of edges; its value is a Note as JSON.
const Annotation = "skerry.io/certificate"

// Note is how an edge stood when it was last known.
type Note struct {
	// CA is the CAHash of the one that signed the certificate.
	CA string `json:"ca"`
	// Key is the certs.KeyHash of the edge's key.
	Key string `json:"key"`
	// NotBefore and NotAfter are of the certificate, Joined is when the edge joined.
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Joined    time.Time `json:"joined"`
	// Trusts are the fingerprints of the CAs that the edge trusts, as far as it was asked.
	Trusts []string `json:"trusts,omitempty"`
}

// ErrNoNote means that a Node does not tell how its edge stands: it was never connected
// to a proxy that writes it down.
var ErrNoNote = errors.New("it is not known how the edge stands")

// ReadNote reads what a Node tells.
func ReadNote(node *corev1.Node) (Note, error) {
	var n Note
	text, ok := node.Annotations[Annotation]
	if !ok {
		return n, ErrNoNote
	}
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return n, errors.Join(ErrNoNote, err)
	}
	return n, nil
}

// Key gives the hash of the key by which an edge is known, empty when none is.
func Key(node *corev1.Node) string {
	n, err := ReadNote(node)
	if err != nil {
		return ""
	}
	return n.Key
}

// String gives the annotation's value.
func (n Note) String() string {
	b, err := json.Marshal(n)
	if err != nil {
		return "" // a year beyond 9999
	}
	return string(b)
}
