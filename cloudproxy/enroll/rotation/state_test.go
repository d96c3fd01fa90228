package rotation_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

func newCA(tb testing.TB) *issuer.CA {
	tb.Helper()
	ca, err := issuer.NewCA("cluster")
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// kept is the state as a Secret gives it back.
func kept(tb testing.TB, s *rotation.State, err error) *rotation.State {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	secret := &corev1.Secret{}
	if err := s.Fill(secret); err != nil {
		tb.Fatal(err)
	}
	got, err := rotation.Parse(secret)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func TestRotation(t *testing.T) {
	a, b := newCA(t), newCA(t)
	idle := kept(t, &rotation.State{CA: a}, nil)
	if idle.Rotated() {
		t.Error("a new CA counts as rotated")
	}
	s, err := idle.Add(b, false)
	trust := kept(t, s, err)
	s, err = trust.Move()
	move := kept(t, s, err)
	s, err = move.Drop(false)
	done := kept(t, s, err)
	s, err = move.Drop(true)
	distrusted := kept(t, s, err)
	s, err = trust.Abandon()
	abandoned := kept(t, s, err)

	for _, tt := range []struct {
		name         string
		got          *rotation.State
		serves, sign *issuer.CA
		trusted      []*issuer.CA
		retired      int
		links        int
	}{
		{"idle", idle, a, a, []*issuer.CA{a}, 0, 0},
		{"trust", trust, a, a, []*issuer.CA{a, b}, 0, 1},
		{"move", move, a, b, []*issuer.CA{a, b}, 0, 1},
		{"done", done, b, b, []*issuer.CA{b}, 1, 1},
		{"distrusted", distrusted, b, b, []*issuer.CA{b}, 0, 1},
		{"abandoned", abandoned, a, a, []*issuer.CA{a}, 0, 0},
	} {
		var want []string
		for _, ca := range tt.trusted {
			want = append(want, certs.Fingerprint(ca.Certificate()))
		}
		news := tt.got.News()
		if tt.got.CA.Hash() != tt.serves.Hash() || news.Signer != tt.sign.Hash().String() || !slices.Equal(news.Trusted, want) ||
			len(tt.got.Retired) != tt.retired || len(tt.got.Links) != tt.links {
			t.Errorf("%s: %+v", tt.name, tt.got)
		}
		if !tt.got.Follows(idle) {
			t.Errorf("%s: edges of the first CA can't come to trust it", tt.name)
		}
	}
	if (&rotation.State{CA: newCA(t)}).Follows(done) {
		t.Error("a CA put in place of another passes for its successor")
	}
	for name, step := range map[string]func() (*rotation.State, error){
		"add": func() (*rotation.State, error) { return trust.Add(newCA(t), false) }, "move": idle.Move,
		"drop": func() (*rotation.State, error) { return trust.Drop(false) }, "abandon": move.Abandon,
	} {
		_, err := step()
		if _, ok := errors.AsType[*rotation.PhaseError](err); !ok {
			t.Errorf("%s out of turn: %v", name, err)
		}
	}
	if _, err := idle.Add(a, false); err == nil {
		t.Error("a CA takes its own place")
	}
}

// TestOldKeyIsGone: what is left in the Secret can't sign for the old CA, and what
// people put there stays.
func TestOldKeyIsGone(t *testing.T) {
	a, b := newCA(t), newCA(t)
	secret := &corev1.Secret{Data: map[string][]byte{"note": []byte("ours")}}
	s, err := (&rotation.State{CA: a}).Add(b, false)
	for _, step := range []func() (*rotation.State, error){
		func() (*rotation.State, error) { return s, err }, func() (*rotation.State, error) { return s.Move() },
		func() (*rotation.State, error) { return s.Drop(false) },
	} {
		if s, err = step(); err != nil {
			t.Fatal(err)
		}
		if err := s.Fill(secret); err != nil {
			t.Fatal(err)
		}
	}
	got := slices.Sorted(maps.Keys(secret.Data))
	if want := []string{"links.crt", "note", "retired.crt", "tls.crt", "tls.key"}; !slices.Equal(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
	if _, err := issuer.ParseCA(a.CertPEM(), secret.Data["tls.key"]); err == nil {
		t.Error("the old key is still there")
	}
}

// TestWhose: the Secret tells an operator's CA from ours, in each phase and after it.
func TestWhose(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}}}
	s := &rotation.State{CA: newCA(t), Brought: true}
	fill := func(next *rotation.State, err error, brought bool) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := next.Fill(secret); err != nil {
			t.Fatal(err)
		}
		if s, err = rotation.Parse(secret); err != nil || s.Brought != brought {
			t.Errorf("brought: %t, %v, want %t", s.Brought, err, brought)
		}
	}
	fill(s, nil, true)
	for _, tt := range []struct{ before, next bool }{{true, false}, {false, false}, {false, true}, {true, true}} {
		next, err := s.Add(newCA(t), tt.next)
		fill(next, err, tt.before)
		next, err = s.Abandon()
		fill(next, err, tt.before)
		next, err = s.Add(newCA(t), tt.next)
		fill(next, err, tt.before)
		next, err = s.Move()
		fill(next, err, tt.before)
		next, err = s.Drop(false)
		fill(next, err, tt.next)
	}
}

func FuzzParse(f *testing.F) {
	s, err := (&rotation.State{CA: newCA(f)}).Add(newCA(f), false)
	if err != nil {
		f.Fatal(err)
	}
	secret := &corev1.Secret{}
	if err := s.Fill(secret); err != nil {
		f.Fatal(err)
	}
	d := secret.Data
	f.Add(d["tls.crt"], d["tls.key"], d["next.crt"], d["next.key"], "trust", d["retired.crt"], d["links.crt"])
	f.Add([]byte("x"), []byte{}, []byte{}, []byte{}, "", []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, crt, key, nextCrt, nextKey []byte, phase string, retired, links []byte) {
		got, err := rotation.Parse(&corev1.Secret{Data: map[string][]byte{
			"tls.crt": crt, "tls.key": key, "next.crt": nextCrt, "next.key": nextKey, "phase": []byte(phase), "retired.crt": retired, "links.crt": links,
		}})
		if err == nil && (got.Signer() == nil || len(got.Trusted()) == 0 || (got.Phase == rotation.Idle) != (got.Next == nil)) {
			t.Errorf("half a state: %+v", got)
		}
	})
}
