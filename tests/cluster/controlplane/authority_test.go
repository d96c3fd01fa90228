package controlplane

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

func TestIssuedCertificateServesAndCalls(t *testing.T) {
	now := time.Now()
	ca, err := newAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.issue(leaf{name: "x", user: "me", groups: []string{"g"}, hosts: []string{"localhost", "10.96.0.1"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		t.Error(err)
	}
	parsed, err := parseCert(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, tc := range []struct {
		name, host string
		usage      x509.ExtKeyUsage
		ok         bool
	}{
		{"host name", "localhost", x509.ExtKeyUsageServerAuth, true},
		{"address", "10.96.0.1", x509.ExtKeyUsageServerAuth, true},
		{"client", "", x509.ExtKeyUsageClientAuth, true},
		{"other host", "example.org", x509.ExtKeyUsageServerAuth, false},
		{"other address", "10.96.0.2", x509.ExtKeyUsageServerAuth, false},
		{"other use", "", x509.ExtKeyUsageCodeSigning, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parsed.Verify(x509.VerifyOptions{
				Roots: roots, DNSName: tc.host, KeyUsages: []x509.ExtKeyUsage{tc.usage}, CurrentTime: now,
			})
			if (err == nil) != tc.ok {
				t.Errorf("got error %v, want ok %v", err, tc.ok)
			}
		})
	}
	if got := parsed.Subject.String(); got != "CN=me,O=g" {
		t.Errorf("subject %s", got)
	}
}

func TestFits(t *testing.T) {
	now := time.Now()
	ca, err := newAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	asked := leaf{name: "x", user: "me", groups: []string{"g"}, hosts: []string{"a", "10.0.0.1"}}
	cert, _, err := ca.issue(asked, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		by   *authority
		leaf leaf
		at   time.Time
		want bool
	}{
		{"same", ca, asked, now, true},
		{"other authority of the same name", other, asked, now, false},
		{"other user", ca, leaf{user: "you", groups: asked.groups, hosts: asked.hosts}, now, false},
		{"no group", ca, leaf{user: "me", hosts: asked.hosts}, now, false},
		{"one more name", ca, leaf{user: "me", groups: asked.groups, hosts: []string{"a", "b", "10.0.0.1"}}, now, false},
		{"other address", ca, leaf{user: "me", groups: asked.groups, hosts: []string{"a", "10.0.0.2"}}, now, false},
		{"last day", ca, asked, now.Add(leafLife - renewBefore - time.Minute), true},
		{"too near its end", ca, asked, now.Add(leafLife - renewBefore + time.Minute), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.by.fits(cert, tc.leaf, tc.at); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	if ca.fits([]byte("no certificate"), asked, now) {
		t.Error("garbage fits")
	}
}

func TestParseAuthorityRejectsForeignKey(t *testing.T) {
	now := time.Now()
	a, err := newAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newAuthority("ca", now)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := a.pem()
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := b.pem()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseAuthority(cert, key); err != nil {
		t.Error(err)
	}
	if _, err := parseAuthority(cert, foreign); err == nil {
		t.Error("a foreign key was taken")
	}
}
