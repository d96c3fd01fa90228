package images

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

func secret(json string) *corev1.Secret {
	s := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(json)}}
	s.Name = "regcred"
	return s
}

// auths is a docker configuration with one user for each registry.
func auths(registries ...string) string {
	var parts []string
	for _, r := range registries {
		parts = append(parts, fmt.Sprintf("%q:{\"username\":%q,\"password\":\"pw\"}", r, r))
	}
	return `{"auths":{` + strings.Join(parts, ",") + `}}`
}

func users(as []*cri.Auth) string {
	var out []string
	for _, a := range as {
		out = append(out, a.Username)
	}
	return strings.Join(out, " ")
}

func TestLookupOrder(t *testing.T) {
	for _, tt := range []struct {
		name, image, want string
		registries        []string
	}{
		{"host", "r.io/a:1", "r.io", []string{"r.io", "q.io"}},
		{"scheme", "r.io/a:1", "https://r.io http://r.io", []string{"https://r.io", "http://r.io"}},
		{"versions", "r.io/a:1", "https://r.io/v1/ https://r.io/v2/", []string{"https://r.io/v1/", "https://r.io/v2/"}},
		{"port", "r.io:5000/a", "r.io:5000", []string{"r.io", "r.io:5000", "r.io:443"}},
		{"path", "r.io/team/a", "r.io/team r.io", []string{"r.io", "r.io/team", "r.io/other"}},
		{"path is a beginning", "r.io/team2/a", "r.io/team", []string{"r.io/team"}},
		{"wildcard", "eu.r.io/a", "*.r.io e*.r.io eu.*.io", []string{"*.r.io", "*.io", "eu.*.io", "e*.r.io"}},
		{"wildcard with a path", "eu.r.io/team/a", "*.r.io/team *.r.io", []string{"*.r.io", "*.r.io/team"}},
		{"no wildcard in a port", "r.io:5000/a", "", []string{"r.io:*"}},
		{"docker hub", "busybox", "https://index.docker.io/v1/", []string{"https://index.docker.io/v1/", "r.io"}},
		{"docker hub by its name", "me/app", "docker.io", []string{"docker.io", "https://index.docker.io/v1/"}},
		{"nothing", "r.io/a", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var k *Keyring
			got, err := k.Lookup(t.Context(), tt.image, []*corev1.Secret{secret(auths(tt.registries...))})
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Fields(tt.want)
			have := strings.Fields(users(got))
			if tt.name != "path" { // elsewhere several are as good
				slices.Sort(want)
				slices.Sort(have)
			}
			if d := cmp.Diff(want, have); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSecretForms(t *testing.T) {
	padded := base64.StdEncoding.EncodeToString([]byte("user:pa:ss"))
	raw := base64.RawStdEncoding.EncodeToString([]byte("user:pass"))
	old := &corev1.Secret{Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"r.io":{"username":"u","password":"p","email":"e"}}`)}}
	for _, tt := range []struct {
		name   string
		secret *corev1.Secret
		want   *cri.Auth
		err    string
	}{
		{"user and password", secret(auths("r.io")), &cri.Auth{Username: "r.io", Password: "pw"}, ""},
		{"dockercfg", old, &cri.Auth{Username: "u", Password: "p"}, ""},
		{"auth", secret(`{"auths":{"r.io":{"auth":"` + padded + `"}}}`), &cri.Auth{Username: "user", Password: "pa:ss"}, ""},
		{"auth without padding", secret(`{"auths":{"r.io":{"auth":"` + raw + `"}}}`), &cri.Auth{Username: "user", Password: "pass"}, ""},
		{"auth wins", secret(`{"auths":{"r.io":{"username":"x","auth":"` + raw + `"}}}`), &cri.Auth{Username: "user", Password: "pass"}, ""},
		{"identity token", secret(`{"auths":{"r.io":{"identitytoken":"t"}}}`), &cri.Auth{IdentityToken: "t"}, ""},
		{"other keys", secret(`{"HttpHeaders":{},"credsStore":"x","auths":{"r.io":{"username":"u"}}}`), &cri.Auth{Username: "u"}, ""},
		{"auth is no base64", secret(`{"auths":{"r.io":{"auth":"?"}}}`), nil, "r.io: auth is not base64"},
		{"auth has no password", secret(`{"auths":{"r.io":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("u")) + `"}}}`), nil, "USER:PASSWORD"},
		{"no JSON", secret(`s3cret`), nil, "image pull secret regcred: is not a docker configuration"},
		{"another type", &corev1.Secret{Type: corev1.SecretTypeOpaque}, nil, "is of type Opaque"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var k *Keyring
			got, err := k.Lookup(t.Context(), "r.io/a", []*corev1.Secret{tt.secret})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Error("the error shows the secret")
			}
			var want []*cri.Auth
			if tt.want != nil {
				want = append(want, tt.want)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
