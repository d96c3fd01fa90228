package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/certs"
)

const cluster = "5a1b6b3e-0c9d-4a7e-9a51-0d2f1c3b4a5d"

func TestParseIdentity(t *testing.T) {
	long := strings.Repeat("a", 253)
	tests := []struct {
		uri  string
		want certs.Identity
		ok   bool
	}{
		{"skerry://" + cluster + "/node/edge-1", certs.Identity{Cluster: cluster, Node: "edge-1"}, true},
		{"skerry://c/node/a.b-c.d", certs.Identity{Cluster: "c", Node: "a.b-c.d"}, true},
		{"skerry://c/cloudproxy", certs.Identity{Cluster: "c"}, true},
		{"skerry://c/node/" + long, certs.Identity{Cluster: "c", Node: long}, true},
		{uri: "skerry://c/node/" + long + "a"},
		{uri: "skerry://c/node/"},
		{uri: "skerry://c/node"},
		{uri: "skerry://c/cloudproxy/"},
		{uri: "skerry://c/node/A"},
		{uri: "skerry://c/node/a..b"},
		{uri: "skerry://c/node/-a"},
		{uri: "skerry://c/node/a-"},
		{uri: "skerry://c/node/a/b"},
		{uri: "skerry://c/node/a%2fb"},
		{uri: "skerry://c/node/a?x=1"},
		{uri: "skerry://c/node/a#x"},
		{uri: "skerry://u@c/node/a"},
		{uri: "skerry://c:1/node/a"},
		{uri: "skerry:///node/a"},
		{uri: "skerry://c"},
		{uri: "spiffe://c/node/a"},
		{uri: ""},
	}
	for _, tt := range tests {
		got, err := certs.ParseIdentity(tt.uri)
		if (err == nil) != tt.ok || got != tt.want && tt.ok {
			t.Errorf("ParseIdentity(%q) = %+v, %v; want %+v, ok=%t", tt.uri, got, err, tt.want, tt.ok)
		}
		if err == nil && got.String() != tt.uri {
			t.Errorf("String() = %q; want %q", got, tt.uri)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("skerry://c/node/edge-1")
	f.Add("skerry://c/cloudproxy")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := certs.ParseIdentity(s)
		if err != nil {
			return
		}
		if id.String() != s {
			t.Fatalf("%q parsed as %q", s, id)
		}
		uri, err := id.URI()
		if err != nil || uri.String() != s {
			t.Fatalf("URI of %q is %v, %v", s, uri, err)
		}
	})
}

func TestCertificateIdentity(t *testing.T) {
	parse := func(uris ...string) []*url.URL {
		var us []*url.URL
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			us = append(us, u)
		}
		return us
	}
	tests := []struct {
		name string
		uris []*url.URL
		ok   bool
	}{
		{"one", parse("skerry://c/node/a"), true},
		{"other schemes do not matter", parse("spiffe://c/x", "skerry://c/node/a"), true},
		{"none", nil, false},
		{"two", parse("skerry://c/node/a", "skerry://c/node/b"), false},
		{"the same twice", parse("skerry://c/node/a", "skerry://c/node/a"), false},
		{"a good one and a bad one", parse("skerry://c/node/a", "skerry://c/x"), false},
		{"escaped slash", parse("skerry://c/node/a%2Fb"), false},
		{"escaped letter", parse("skerry://c/node/%61"), false},
		{"query", parse("skerry://c/node/a?"), false},
		{"opaque", parse("skerry:c/node/a"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert := &x509.Certificate{URIs: tt.uris}
			id, err := certs.CertificateIdentity(cert)
			if tt.ok && (err != nil || id != certs.Identity{Cluster: "c", Node: "a"}) {
				t.Errorf("got %v, %v", id, err)
			}
			if !tt.ok && !errors.Is(err, certs.ErrNoIdentity) {
				t.Errorf("got %v, %v; want ErrNoIdentity", id, err)
			}
			// A certificate that nobody verified says nothing.
			state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
			if _, err := certs.PeerIdentity(state); !errors.Is(err, certs.ErrNoIdentity) {
				t.Errorf("unverified: got %v; want ErrNoIdentity", err)
			}
		})
	}
}

func TestIdentityURIRefusesWhatCannotBeParsedBack(t *testing.T) {
	for _, id := range []certs.Identity{{}, {Cluster: "a.b"}, {Cluster: "c", Node: "A"}, {Node: "a"}} {
		if uri, err := id.URI(); err == nil {
			t.Errorf("%+v: got %s", id, uri)
		}
	}
}
