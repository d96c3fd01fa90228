package jointoken

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/certs"
)

func TestParse(t *testing.T) {
	for _, s := range []string{
		"", ".", "abcdef", "abcdef.", "abcdef.0123456789abcde", "abcdef.0123456789abcdefg", "ABCDEF.0123456789abcdef",
		"abcde.0123456789abcdef", "abcdef.0123456789abcde!", "abcdef.0123456789abcdef\n", " abcdef.0123456789abcdef",
		"abcd/f.0123456789abcdef", "abcdef.0123456789abc.ef",
	} {
		if tok, err := Parse(s); !errors.Is(err, ErrFormat) {
			t.Errorf("Parse(%q) = %v, %v; want ErrFormat", s, tok, err)
		}
	}
	tok, err := Parse("abcdef.0123456789abcdef")
	if err != nil || tok.ID != "abcdef" || tok.Reveal() != "abcdef.0123456789abcdef" {
		t.Fatalf("got %v, %v", tok, err)
	}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v", "%q"} {
		if got := fmt.Sprintf(verb, tok); strings.Contains(got, "0123456789abcdef") {
			t.Errorf("%s shows the secret: %s", verb, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("abcdef.0123456789abcdef")
	f.Add("abcdef.")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := Parse(s)
		if err != nil {
			return
		}
		if tok.Reveal() != s || len(s) != 23 || !ValidID(tok.ID) {
			t.Fatalf("%q parsed as %q", s, tok.Reveal())
		}
	})
}

func TestGenerate(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		tok := Generate()
		if _, err := Parse(tok.Reveal()); err != nil || seen[tok.Reveal()] {
			t.Fatalf("%s: %v", tok.Reveal(), err)
		}
		seen[tok.Reveal()] = true
	}
}

func TestSecretRoundTrip(t *testing.T) {
	want := Grant{
		ID: "abcdef", Description: "line 3", Node: "edge-1", Expires: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
		Limited: true, UsesLeft: 2,
	}
	secret, err := NewSecret(Token{"abcdef", "0123456789abcdef"}, want)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := ReadGrant(secret)
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("ok=%t %s", ok, diff)
	}
	if _, ok := secret.Data["usage-bootstrap-authentication"]; ok {
		t.Error("the token opens the Kubernetes API")
	}
	if _, err := NewSecret(Generate(), Grant{Node: "No Name"}); err == nil {
		t.Error("took a bad node name")
	}
	if _, err := NewSecret(Generate(), Grant{Limited: true}); err == nil {
		t.Error("took a token without uses")
	}
}

func TestSpend(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	tok := Token{"abcdef", "0123456789abcdef"}
	secret := func(edit func(map[string]string)) *corev1.Secret {
		s, err := NewSecret(tok, Grant{Node: "edge-1", Expires: now.Add(time.Hour), Limited: true, UsesLeft: 1})
		if err != nil {
			t.Fatal(err)
		}
		data := map[string]string{}
		for k, v := range s.Data {
			data[k] = string(v)
		}
		if edit != nil {
			edit(data)
		}
		s.Data = map[string][]byte{}
		for k, v := range data {
			s.Data[k] = []byte(v)
		}
		return s
	}
	used := func(age time.Duration) func(map[string]string) {
		return func(d map[string]string) {
			d[keyUses] = "0"
			d[keyUsed] = fmt.Sprintf(`[{"node":"edge-1","key":"k1","time":%q}]`, now.Add(-age).Format(time.RFC3339))
		}
	}
	good := Claim{Token: tok, Node: "edge-1", Key: "k1"}
	tests := []struct {
		name  string
		edit  func(map[string]string)
		claim Claim
		code  certs.EnrollCode
		write bool
	}{
		{name: "good", claim: good, write: true},
		{name: "wrong secret", claim: Claim{Token: Token{"abcdef", "0123456789abcdeg"}, Node: "edge-1", Key: "k1"}, code: certs.CodeUnauthorized},
		{name: "no secret at all", edit: func(d map[string]string) { delete(d, keySecret) }, claim: Claim{Token: Token{ID: "abcdef"}, Node: "edge-1", Key: "k1"}, code: certs.CodeUnauthorized},
		{name: "wrong secret of an expired token", edit: func(d map[string]string) { d[keyExpiration] = "2029-01-01T00:00:00Z" }, claim: Claim{Token: Token{"abcdef", "x"}, Node: "edge-1", Key: "k1"}, code: certs.CodeUnauthorized},
		{name: "expired", edit: func(d map[string]string) { d[keyExpiration] = now.Format(time.RFC3339) }, claim: good, code: certs.CodeTokenExpired},
		{name: "garbled expiration", edit: func(d map[string]string) { d[keyExpiration] = "soon" }, claim: good, code: certs.CodeTokenExpired},
		{name: "no expiration", edit: func(d map[string]string) { delete(d, keyExpiration) }, claim: good, write: true},
		{name: "not for joining", edit: func(d map[string]string) { delete(d, keyUsage) }, claim: good, code: certs.CodeTokenPurpose},
		{name: "again after a revocation", edit: used(time.Minute), claim: Claim{Token: tok, Node: "edge-1", Key: "k1", Revoked: now.Add(-time.Minute)}, code: certs.CodeTokenUsed},
		{name: "again after an older revocation", edit: used(time.Minute), claim: Claim{Token: tok, Node: "edge-1", Key: "k1", Revoked: now.Add(-time.Hour)}},
		{name: "other node", claim: Claim{Token: tok, Node: "edge-2", Key: "k1"}, code: certs.CodeOtherNode},
		{name: "any node", edit: func(d map[string]string) { delete(d, keyNode) }, claim: Claim{Token: tok, Node: "edge-2", Key: "k1"}, write: true},
		{name: "no limit", edit: func(d map[string]string) { delete(d, keyUses) }, claim: good},
		{name: "garbled uses", edit: func(d map[string]string) { d[keyUses] = "many" }, claim: good, code: certs.CodeTokenUsed},
		{name: "negative uses", edit: func(d map[string]string) { d[keyUses] = "-1" }, claim: good, code: certs.CodeTokenUsed},
		{name: "used by another key", edit: used(time.Minute), claim: Claim{Token: tok, Node: "edge-1", Key: "k2"}, code: certs.CodeTokenUsed},
		{name: "retry of the same key", edit: used(time.Minute), claim: good},
		{name: "retry too late", edit: used(11 * time.Minute), claim: good, code: certs.CodeTokenUsed},
		{name: "retry for another node", edit: func(d map[string]string) { used(time.Minute)(d); delete(d, keyNode) }, claim: Claim{Token: tok, Node: "edge-2", Key: "k1"}, code: certs.CodeTokenUsed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := secret(tt.edit)
			before := in.DeepCopy()
			next, err := Spend(in, tt.claim, now)
			var refusal *Refusal
			if errors.As(err, &refusal) != (tt.code != "") || refusal != nil && refusal.Code != tt.code {
				t.Fatalf("got %v; want code %q", err, tt.code)
			}
			if (next != nil) != tt.write {
				t.Fatalf("write: %t; want %t", next != nil, tt.write)
			}
			if diff := cmp.Diff(before, in); diff != "" {
				t.Errorf("changed its input: %s", diff)
			}
			if !tt.write || string(in.Data[keyUses]) == "" {
				return
			}
			g, ok := ReadGrant(next)
			if !ok || g.UsesLeft != 0 || len(g.Used) != 1 || g.Used[0] != (Use{tt.claim.Node, "k1", now}) {
				t.Errorf("written: %+v", g)
			}
		})
	}
}

func TestRecordOfUsesIsBounded(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	tok := Generate()
	secret, err := NewSecret(tok, Grant{Limited: true, UsesLeft: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if secret, err = Spend(secret, Claim{Token: tok, Node: "edge", Key: fmt.Sprint(i)}, now); err != nil {
			t.Fatal(err)
		}
	}
	g, _ := ReadGrant(secret)
	if len(g.Used) != maxUsed || g.Used[maxUsed-1].Key != "99" || g.UsesLeft != 0 {
		t.Errorf("%d uses recorded, last %v, %d left", len(g.Used), g.Used[len(g.Used)-1], g.UsesLeft)
	}
}

// FuzzReadGrant: whatever a person wrote into the Secret, a token is good for no more
// than is well written there.
func FuzzReadGrant(f *testing.F) {
	f.Add("abcdef", "true", "edge-1", "2030-01-01T00:00:00Z", "3", `[{"node":"a"}]`)
	f.Add("abcdef", "true", "", "tomorrow", "-1", "x")
	f.Fuzz(func(t *testing.T, id, usage, node, end, uses, used string) {
		g, ok := ReadGrant(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: SecretName(id)}, Type: SecretType,
			Data: map[string][]byte{
				keyID: []byte(id), keyUsage: []byte(usage), keyNode: []byte(node), keyExpiration: []byte(end), keyUses: []byte(uses), keyUsed: []byte(used),
			},
		})
		switch {
		case !ok:
		case usage != yes || !ValidID(id):
			t.Errorf("%q is a token for %q", id, usage)
		case !g.Limited || g.UsesLeft < 0 || g.Expires.IsZero():
			t.Errorf("%q and %q are read as %+v", end, uses, g)
		}
	})
}
