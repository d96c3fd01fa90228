package jointoken

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
)

const (
	idLen     = 6
	secretLen = 16

	// Namespace and prefix of the Secrets, given by Kubernetes.
	Namespace    = "kube-system"
	secretPrefix = "bootstrap-token-"

	alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// ErrFormat means that a string is no token.
var ErrFormat = errors.New("a token looks like abcdef.0123456789abcdef")

// Token is ID.SECRET. The ID is public, it names the Secret.
type Token struct {
	ID     string
	secret string
}

// Parse reads the ID.SECRET form. Its error never holds the input.
func Parse(s string) (Token, error) {
	id, secret, ok := strings.Cut(s, ".")
	if !ok || len(secret) != secretLen || !inAlphabet(secret) || !ValidID(id) {
		return Token{}, ErrFormat
	}
	return Token{ID: id, secret: secret}, nil
}

// ValidID reports whether id can be a token's ID.
func ValidID(id string) bool { return len(id) == idLen && inAlphabet(id) }

// Generate makes a new token; its secret has 82 bits.
func Generate() Token {
	return Token{ID: randomString(idLen), secret: randomString(secretLen)}
}

// Reveal gives the whole token, for the one who has to hand it over.
func (t Token) Reveal() string { return t.ID + "." + t.secret }

// String hides the secret, so that no log ever has it.
func (t Token) String() string { return t.ID + ".****************" }

// GoString hides the secret from %#v.
func (t Token) GoString() string { return fmt.Sprintf("jointoken.Token(%s)", t) }

// SecretName gives the name of the token's Secret.
func SecretName(id string) string { return secretPrefix + id }

func inAlphabet(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func randomString(n int) string {
	// The largest multiple of the alphabet's length: above it a byte would make
	// the first letters likelier.
	const limit = 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	buf := make([]byte, 2*n)
	for len(out) < n {
		rand.Read(buf) // never fails: crypto/rand ends the program instead
		for _, b := range buf {
			if int(b) < limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}
