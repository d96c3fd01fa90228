package issuer_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

func bundle(list ...*x509.Certificate) string { return string(certs.EncodeBundle(list)) }

// TestFollow is what an edge does that was off while the CA was rotated.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second, third, stranger := newCA(t), newCA(t), newCA(t), newCA(t)
		link := func(from, to *issuer.CA) *x509.Certificate {
			l, err := from.Link(to.Certificate())
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		to2, to3 := link(first, second), link(second, third)
		self := link(stranger, stranger)
		year := 365 * 24 * time.Hour
		for _, tt := range []struct {
			name    string
			trusted *issuer.CA
			said    certs.Succession
			now     time.Duration
			want    *issuer.CA // nil: nobody
		}{
			{"one step", first, certs.Succession{CAs: bundle(second.Certificate()), Links: bundle(to2)}, 0, second},
			{"two steps, in any order", first, certs.Succession{CAs: bundle(third.Certificate()), Links: bundle(to3, to2)}, 0, third},
			{"from the middle", second, certs.Succession{CAs: bundle(third.Certificate()), Links: bundle(to2, to3)}, 0, third},
			{"a late clock", first, certs.Succession{CAs: bundle(second.Certificate()), Links: bundle(to2)}, -20 * year, second},
			{"after the end of the link", first, certs.Succession{CAs: bundle(second.Certificate()), Links: bundle(to2)}, 11 * year, nil},
			{"a step is missing", first, certs.Succession{CAs: bundle(third.Certificate()), Links: bundle(to3)}, 0, nil},
			{"a stranger's word for itself", first, certs.Succession{CAs: bundle(stranger.Certificate()), Links: bundle(self)}, 0, nil},
			{"a stranger beside the successor", first, certs.Succession{CAs: bundle(stranger.Certificate(), second.Certificate()), Links: bundle(to2, self)}, 0, second},
			{"a link that names another", first, certs.Succession{CAs: bundle(third.Certificate()), Links: bundle(to2)}, 0, nil},
			{"trusted already", first, certs.Succession{CAs: bundle(first.Certificate()), Links: bundle(to2)}, 0, nil},
		} {
			got, err := certs.Follow([]*x509.Certificate{tt.trusted.Certificate()}, tt.said, time.Now().Add(tt.now))
			switch {
			case tt.want == nil:
				if !errors.Is(err, certs.ErrNoSuccession) {
					t.Errorf("%s: got %d CAs, %v", tt.name, len(got), err)
				}
			case err != nil || len(got) != 1 || !got[0].Equal(tt.want.Certificate()):
				t.Errorf("%s: got %d CAs, %v", tt.name, len(got), err)
			}
		}
	})
}

// TestFollowNeedsACA: an edge's certificate is signed by the CA as well, and names no
// successor.
func TestFollowNeedsACA(t *testing.T) {
	ca := newCA(t)
	key := newKey(t, elliptic.P256())
	text, err := ca.SignEdge(newCSR(t, key, x509.CertificateRequest{}), certs.Identity{Cluster: cluster, Node: "edge"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	said := certs.Succession{CAs: string(text), Links: string(text)}
	if got, err := certs.Follow([]*x509.Certificate{ca.Certificate()}, said, time.Now()); !errors.Is(err, certs.ErrNoSuccession) {
		t.Errorf("got %v, %v", got, err)
	}
}

func FuzzFollow(f *testing.F) {
	first, second := newCA(f), newCA(f)
	link, err := first.Link(second.Certificate())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bundle(second.Certificate()), bundle(link))
	f.Add("", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----")
	trusted := []*x509.Certificate{first.Certificate()}
	f.Fuzz(func(t *testing.T, cas, links string) {
		got, _ := certs.Follow(trusted, certs.Succession{CAs: cas, Links: links}, time.Now())
		if slices.ContainsFunc(got, func(c *x509.Certificate) bool { return !c.Equal(second.Certificate()) }) {
			t.Errorf("a CA that nobody named is followed: %q %q", cas, links)
		}
	})
}

func TestNewsMeets(t *testing.T) {
	first, second := newCA(t), newCA(t)
	id := certs.Identity{Cluster: cluster, Node: "edge"}
	csr := newCSR(t, newKey(t, elliptic.P256()), x509.CertificateRequest{})
	sign := func(ca *issuer.CA) *x509.Certificate {
		text, err := ca.SignEdge(csr, id, 0)
		if err != nil {
			t.Fatal(err)
		}
		return parseCert(t, text)
	}
	both := []*x509.Certificate{first.Certificate(), second.Certificate()}
	news := certs.CANews{Trusted: certs.Fingerprints([]*x509.Certificate{both[1], both[0]}), Signer: second.Hash().String()}
	for _, tt := range []struct {
		name    string
		trusted []*x509.Certificate
		leaf    *x509.Certificate
		want    bool
	}{
		{"as told", both, sign(second), true},
		{"the old certificate", both, sign(first), false},
		{"the old trust", both[1:], sign(second), false},
		{"a signer that is not trusted", both[:1], sign(second), false},
	} {
		if got := news.Meets(tt.trusted, tt.leaf); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
