package images

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// Keyring gives the credentials for an image: those of the pod's own secrets
// first, then those that the exec plugins of this node have.
type Keyring struct {
	providers []*provider
}

// Lookup returns the credentials to try for an image, in that order. None means
// to pull without. Errors tell what could not be asked; the rest is there.
func (k *Keyring) Lookup(ctx context.Context, image string, secrets []*corev1.Secret) ([]*cri.Auth, error) {
	name, err := ParseName(image)
	if err != nil {
		return nil, err
	}
	var errs []error
	var own ring
	for _, s := range secrets {
		if err := own.addSecret(s); err != nil {
			errs = append(errs, fmt.Errorf("image pull secret %s: %w", s.Name, err))
		}
	}
	out := own.lookup(name.Repository)
	if k == nil {
		return out, errors.Join(errs...)
	}
	var external ring
	for _, p := range k.providers {
		entries, err := p.provide(ctx, name.Repository)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		external.add(entries)
	}
	return append(out, external.lookup(name.Repository)...), errors.Join(errs...)
}

// entry is what a docker configuration has for one registry.
type entry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func (e entry) auth() (*cri.Auth, error) {
	a := &cri.Auth{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken}
	if e.Auth == "" {
		return a, nil
	}
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(strings.TrimSpace(e.Auth), "=") {
		encoding = base64.StdEncoding
	}
	plain, err := encoding.DecodeString(e.Auth)
	if err != nil {
		return nil, errors.New("auth is not base64") // without the content: it is secret
	}
	var ok bool
	if a.Username, a.Password, ok = strings.Cut(string(plain), ":"); !ok {
		return nil, errors.New("auth is not USER:PASSWORD")
	}
	return a, nil
}

// ring holds credentials by the registry, or the part of it, that they are for.
type ring struct{ creds map[string][]*cri.Auth }

// addSecret adds what a pull secret has. One of another type has nothing.
func (r *ring) addSecret(s *corev1.Secret) error {
	var entries map[string]entry
	var err error
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
		var file struct {
			Auths map[string]entry `json:"auths"`
		}
		err = json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &file)
		entries = file.Auths
	case corev1.SecretTypeDockercfg:
		err = json.Unmarshal(s.Data[corev1.DockerConfigKey], &entries)
	default:
		return fmt.Errorf("is of type %s", s.Type)
	}
	if err != nil {
		return errors.New("is not a docker configuration") // without the content
	}
	auths := make(map[string]*cri.Auth, len(entries))
	var errs []error
	for registry, e := range entries {
		a, err := e.auth()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", registry, err))
			continue
		}
		auths[registry] = a
	}
	r.add(auths)
	return errors.Join(errs...)
}

// add takes credentials by registry: a host, perhaps with a scheme and a path.
func (r *ring) add(auths map[string]*cri.Auth) {
	if r.creds == nil {
		r.creds = map[string][]*cri.Auth{}
	}
	for _, registry := range slices.Sorted(maps.Keys(auths)) {
		u := registry
		if !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") {
			u = "https://" + u
		}
		parsed, err := url.Parse(u)
		if err != nil {
			continue // no image can be from there
		}
		p := parsed.Path
		if strings.HasPrefix(p, "/v1/") || strings.HasPrefix(p, "/v2/") {
			p = p[len("/v1"):]
		}
		if p == "/" {
			p = ""
		}
		r.creds[parsed.Host+p] = append(r.creds[parsed.Host+p], auths[registry])
	}
}

// lookup returns what fits a repository, the most specific first.
func (r *ring) lookup(repository string) []*cri.Auth {
	keys := slices.Sorted(maps.Keys(r.creds))
	slices.Reverse(keys)
	var out []*cri.Auth
	for _, key := range keys {
		if matches(key, repository) {
			out = append(out, r.creds[key]...)
		}
	}
	if len(out) == 0 && strings.HasPrefix(repository, defaultDomain+"/") {
		return r.creds[oldDomain]
	}
	return out
}

// matches says whether a pattern HOST[:PORT][/PATH] covers a repository: the same
// port, as many parts of the host, in which * stands for anything, and the
// beginning of the path.
func matches(pattern, repository string) bool {
	patternHost, patternPath := cutHost(pattern)
	host, p := cutHost(repository)
	patternName, patternPort := cutPort(patternHost)
	name, port := cutPort(host)
	globs, labels := strings.Split(patternName, "."), strings.Split(name, ".")
	if patternPort != port || len(globs) != len(labels) || !strings.HasPrefix(p, patternPath) {
		return false
	}
	for i, glob := range globs {
		if ok, err := path.Match(glob, labels[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

func cutHost(s string) (host, path string) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

func cutPort(host string) (name, port string) {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return host[:i], host[i+1:]
	}
	return host, ""
}
