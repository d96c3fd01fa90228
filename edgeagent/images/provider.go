package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

const (
	// pluginTimeout is how long a plugin may take, the kubelet's bound.
	pluginTimeout = time.Minute
	// maxAnswer bounds what a plugin may say.
	maxAnswer = 1 << 20

	configVersion = "kubelet.config.k8s.io/v1"
	configKind    = "CredentialProviderConfig"
	pluginVersion = "credentialprovider.kubelet.k8s.io/v1"

	// everything is the cache's key of credentials that are for all images.
	everything = "<global>"
)

// providerConfig is a kubelet's CredentialProviderConfig file.
type providerConfig struct {
	metav1.TypeMeta `json:",inline"`
	Providers       []providerEntry `json:"providers"`
}

type providerEntry struct {
	Name                 string           `json:"name"`
	MatchImages          []string         `json:"matchImages"`
	DefaultCacheDuration *metav1.Duration `json:"defaultCacheDuration"`
	APIVersion           string           `json:"apiVersion"`
	Args                 []string         `json:"args"`
	Env                  []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"env"`
	// TokenAttributes wants a ServiceAccount's token for the plugin, which this node
	// has no way to ask for.
	TokenAttributes json.RawMessage `json:"tokenAttributes"`
}

// LoadKeyring reads a file, or all .yaml, .yml and .json files of a folder, of
// kind CredentialProviderConfig, whose plugins are in binDir. Without a path there
// are no plugins.
func LoadKeyring(path, binDir string) (*Keyring, error) {
	k := &Keyring{}
	if path == "" {
		return k, nil
	}
	if binDir == "" {
		return nil, errors.New("image credential providers: there is no folder of plugins")
	}
	files, err := configFiles(path)
	if err != nil {
		return nil, fmt.Errorf("image credential providers: %w", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("image credential providers: %w", err)
		}
		if err := k.load(raw, binDir); err != nil {
			return nil, fmt.Errorf("image credential providers: %s: %w", file, err)
		}
	}
	return k, nil
}

func configFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
			out = append(out, filepath.Join(path, e.Name()))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no configuration files found in %s", path)
	}
	return out, nil
}

func (k *Keyring) load(raw []byte, binDir string) error {
	var cfg providerConfig
	if err := yaml.UnmarshalStrict(raw, &cfg); err != nil {
		return err
	}
	if cfg.APIVersion != configVersion || cfg.Kind != configKind {
		return fmt.Errorf("want %s %s, got %s %s", configVersion, configKind, cfg.APIVersion, cfg.Kind)
	}
	if len(cfg.Providers) == 0 {
		return errors.New("providers: at least one is required")
	}
	for i := range cfg.Providers {
		e := &cfg.Providers[i]
		if err := e.check(); err != nil {
			return fmt.Errorf("provider %q: %w", e.Name, err)
		}
		if slices.ContainsFunc(k.providers, func(p *provider) bool { return p.Name == e.Name }) {
			return fmt.Errorf("provider %q: is there twice", e.Name)
		}
		binary := filepath.Join(binDir, e.Name)
		if _, err := exec.LookPath(binary); err != nil {
			return fmt.Errorf("provider %q: %w", e.Name, err)
		}
		k.providers = append(k.providers, &provider{
			providerEntry: *e, binary: binary, busy: make(chan struct{}, 1), cache: map[string]cached{},
		})
	}
	return nil
}

func (e *providerEntry) check() error {
	switch {
	case e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/ "):
		return errors.New("name: must be that of a file, without spaces")
	case e.APIVersion != pluginVersion:
		return fmt.Errorf("apiVersion: want %s, got %q", pluginVersion, e.APIVersion)
	case len(e.MatchImages) == 0:
		return errors.New("matchImages: at least one is required")
	case e.DefaultCacheDuration == nil || e.DefaultCacheDuration.Duration < 0:
		return errors.New("defaultCacheDuration: is required, and must not be negative")
	case e.TokenAttributes != nil:
		return errors.New("tokenAttributes: are not supported on this node")
	}
	return nil
}

// provider is one exec plugin.
type provider struct {
	providerEntry
	binary string
	busy   chan struct{} // holds one item while the plugin runs: one that waits may find its answer in the cache

	mu    sync.Mutex // guards the following field
	cache map[string]cached
}

type cached struct {
	auths map[string]*cri.Auth
	until time.Time
}

// provide returns the plugin's credentials for a repository, by registry.
func (p *provider) provide(ctx context.Context, repository string) (map[string]*cri.Auth, error) {
	if !slices.ContainsFunc(p.MatchImages, func(pattern string) bool { return matches(pattern, repository) }) {
		return nil, nil
	}
	if auths, ok := p.known(repository); ok {
		return auths, nil
	}
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if auths, ok := p.known(repository); ok {
		return auths, nil
	}
	answer, err := p.run(ctx, repository)
	if err != nil {
		return nil, fmt.Errorf("credential provider plugin %s for image %s: %w", p.Name, repository, err)
	}
	return p.keep(repository, answer)
}

// keep notes an answer for as long as it counts.
func (p *provider) keep(repository string, answer *pluginAnswer) (map[string]*cri.Auth, error) {
	var key string
	switch answer.CacheKeyType {
	case "Image":
		key = repository
	case "Registry":
		key, _ = cutHost(repository)
	case "Global":
		key = everything
	default:
		return nil, fmt.Errorf("credential provider plugin %s: cacheKeyType %q is none", p.Name, answer.CacheKeyType)
	}
	auths := make(map[string]*cri.Auth, len(answer.Auth))
	for registry, a := range answer.Auth {
		auths[registry] = &cri.Auth{Username: a.Username, Password: a.Password}
	}
	life := p.DefaultCacheDuration.Duration
	if answer.CacheDuration != nil {
		life = answer.CacheDuration.Duration
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, c := range p.cache {
		if now.After(c.until) {
			delete(p.cache, k)
		}
	}
	if life > 0 {
		p.cache[key] = cached{auths: auths, until: now.Add(life)}
	}
	return auths, nil
}

func (p *provider) known(repository string) (map[string]*cri.Auth, bool) {
	registry, _ := cutHost(repository)
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range []string{repository, registry, everything} {
		if c, ok := p.cache[key]; ok && !now.After(c.until) {
			return c.auths, true
		}
	}
	return nil, false
}

type pluginQuestion struct {
	metav1.TypeMeta `json:",inline"`
	Image           string `json:"image"`
}

type pluginAnswer struct {
	metav1.TypeMeta `json:",inline"`
	CacheKeyType    string           `json:"cacheKeyType"`
	CacheDuration   *metav1.Duration `json:"cacheDuration"`
	Auth            map[string]struct {
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"auth"`
}

// run asks the plugin: the question on its standard input, the answer on its
// standard output.
func (p *provider) run(ctx context.Context, repository string) (*pluginAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	question, err := json.Marshal(pluginQuestion{
		TypeMeta: metav1.TypeMeta{APIVersion: p.APIVersion, Kind: "CredentialProviderRequest"}, Image: repository,
	})
	if err != nil {
		return nil, err
	}
	out, complaint := &bounded{}, &bounded{}
	cmd := exec.CommandContext(ctx, p.binary, p.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(question), out, complaint
	cmd.WaitDelay = time.Second // a child of the plugin's may keep its output open
	cmd.Env = os.Environ()
	for _, v := range p.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.buf.String()))
	}
	var answer pluginAnswer
	if err := json.Unmarshal(out.buf.Bytes(), &answer); err != nil {
		return nil, errors.New("its answer can't be decoded") // without the content: it is secret
	}
	if answer.APIVersion != p.APIVersion || answer.Kind != "CredentialProviderResponse" {
		return nil, fmt.Errorf("it answers with %s %s, not with %s CredentialProviderResponse", answer.APIVersion, answer.Kind, p.APIVersion)
	}
	return &answer, nil
}

// bounded is a buffer that takes no more than maxAnswer.
type bounded struct{ buf bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxAnswer {
		return 0, errors.New("it says too much")
	}
	return b.buf.Write(p)
}
