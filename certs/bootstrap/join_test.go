package bootstrap

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
)

const cluster = "5a1b6b3e-0c9d-4a7e-9a51-0d2f1c3b4a5d"

// proxy is an enrolment server that signs whatever comes, with a place for faults.
type proxy struct {
	ca     *issuer.CA
	pair   *tls.Certificate
	answer func(w http.ResponseWriter, req certs.EnrollRequest, good certs.EnrollResponse)
	asked  int
}

func newProxy(t *testing.T) (*proxy, Config) {
	t.Helper()
	ca, err := issuer.NewCA(cluster)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.SignServer(issuer.ServerRequest{Cluster: cluster, Names: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ca: ca, pair: pair, answer: func(w http.ResponseWriter, _ certs.EnrollRequest, good certs.EnrollResponse) {
		reply(t, w, http.StatusOK, good)
	}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked++
		var req certs.EnrollRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.Method != http.MethodPost || r.URL.Path != certs.EnrollPath {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		cert, err := ca.SignEdge([]byte(req.CSR), certs.Identity{Cluster: cluster, Node: req.NodeName}, 0)
		if err != nil {
			t.Error(err)
		}
		p.answer(w, req, certs.EnrollResponse{
			Certificate: string(cert), CA: string(ca.CertPEM()), Cluster: cluster, NodeName: req.NodeName,
		})
	}))
	srv.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.pair, nil }}
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	srv.TLS.Certificates = nil // httptest's own
	t.Cleanup(srv.Close)
	return p, Config{
		Server: srv.Listener.Addr().String(), Token: "abcdef.0123456789abcdef", CAHash: ca.Hash(), NodeName: "edge-1",
		Dir: filepath.Join(t.TempDir(), "etc", "skerry"), AgentConfig: []byte("server: x\n"),
	}
}

func reply(t *testing.T, w http.ResponseWriter, status int, body any) {
	t.Helper()
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		t.Error(err)
	}
}

func TestJoin(t *testing.T) {
	p, cfg := newProxy(t)
	res, err := Join(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := certs.Identity{Cluster: cluster, Node: "edge-1"}
	pair, err := certs.NewKeyPairFile(filepath.Join(cfg.Dir, "pki/edge.crt"), filepath.Join(cfg.Dir, "pki/edge.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := pair.Identity(); err != nil || id != want || res.Identity != want {
		t.Errorf("identity %v and %v, %v; want %v", id, res.Identity, err, want)
	}
	for name, mode := range map[string]os.FileMode{"pki": 0o700, "pki/edge.key": 0o600, "pki/ca.crt": 0o644, "edgeagent.yaml": 0o644} {
		info, err := os.Stat(filepath.Join(cfg.Dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want %v", name, info, err, mode)
		}
	}
	yaml, err := os.ReadFile(filepath.Join(cfg.Dir, "edgeagent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(yaml, cfg.AgentConfig) {
		t.Errorf("edgeagent.yaml holds %q; want %q", yaml, cfg.AgentConfig)
	}
	noLeftovers(t, cfg.Dir, "edgeagent.yaml", "pki")

	if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrJoined) {
		t.Errorf("second join: %v; want ErrJoined", err)
	}
	if p.asked != 1 {
		t.Errorf("asked %d times: the second join spent a use", p.asked)
	}
	cfg.Replace, cfg.NodeName = true, "edge-2"
	if _, err := Join(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if changed, err := pair.Reload(); err != nil || !changed {
		t.Errorf("reload: %t, %v", changed, err)
	}
	if id, err := pair.Identity(); err != nil || id.Node != "edge-2" {
		t.Errorf("after joining again: %v, %v", id, err)
	}
	noLeftovers(t, cfg.Dir, "edgeagent.yaml", "edgeagent.yaml.old", "pki")
}

func noLeftovers(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %v; want %v", dir, got, want)
	}
}

func TestJoinTellsFailuresApart(t *testing.T) {
	other, err := issuer.NewCA(cluster)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(status int, code certs.EnrollCode) func(*proxy, *Config) {
		return func(p *proxy, _ *Config) {
			p.answer = func(w http.ResponseWriter, _ certs.EnrollRequest, _ certs.EnrollResponse) {
				reply(t, w, status, certs.EnrollRefusal{Code: code, Text: "no\x1b[2J"})
			}
		}
	}
	change := func(f func(*certs.EnrollResponse)) func(*proxy, *Config) {
		return func(p *proxy, _ *Config) {
			p.answer = func(w http.ResponseWriter, _ certs.EnrollRequest, good certs.EnrollResponse) {
				f(&good)
				reply(t, w, http.StatusOK, good)
			}
		}
	}
	tests := []struct {
		name string
		edit func(*proxy, *Config)
		want any // a pointer to an error type, or nil
		text string
	}{
		{"hash of another CA", func(_ *proxy, c *Config) { c.CAHash = other.Hash() }, new(*CAHashError), "hash"},
		{"the CA itself as server", func(p *proxy, _ *Config) { p.pair.Certificate = p.pair.Certificate[:1] }, new(*CAHashError), "hash"},
		{"foreign leaf beside our CA", func(p *proxy, _ *Config) {
			pair, err := other.SignServer(issuer.ServerRequest{Cluster: cluster, Names: []string{"127.0.0.1"}})
			if err != nil {
				t.Fatal(err)
			}
			pair.Certificate[1] = p.ca.Certificate().Raw
			p.pair = pair
		}, new(*UntrustedError), "nothing was sent"},
		{"name", func(p *proxy, _ *Config) {
			pair, err := p.ca.SignServer(issuer.ServerRequest{Cluster: cluster, Names: []string{"proxy.example.com"}})
			if err != nil {
				t.Fatal(err)
			}
			p.pair = pair
		}, new(*NameError), "--advertise-address 127.0.0.1"},
		{"unknown token", refuse(401, certs.CodeUnauthorized), new(*RefusedError), "Check the token"},
		{"expired token", refuse(401, certs.CodeTokenExpired), new(*RefusedError), "skerry token create"},
		{"other node", refuse(403, certs.CodeOtherNode), new(*RefusedError), "--node-name"},
		{"no proxy", func(p *proxy, _ *Config) {
			p.answer = func(w http.ResponseWriter, _ certs.EnrollRequest, _ certs.EnrollResponse) { w.WriteHeader(404) }
		}, new(*RefusedError), "Skerry cloud proxy?"},
		{"redirect", func(p *proxy, _ *Config) {
			p.answer = func(w http.ResponseWriter, _ certs.EnrollRequest, _ certs.EnrollResponse) {
				w.Header().Set("Location", "https://127.0.0.1:1/")
				w.WriteHeader(http.StatusTemporaryRedirect)
			}
		}, new(*RefusedError), "307"},
		{"answer without end", func(p *proxy, _ *Config) {
			p.answer = func(w http.ResponseWriter, _ certs.EnrollRequest, _ certs.EnrollResponse) {
				_, _ = io.WriteString(w, strings.Repeat(" ", certs.MaxEnrollBody+1))
			}
		}, nil, "larger than"},
		{"other node's certificate", change(func(r *certs.EnrollResponse) { r.NodeName = "edge-7" }), nil, "want"},
		{"other cluster", change(func(r *certs.EnrollResponse) { r.Cluster = "x" }), nil, "want"},
		{"other CA", change(func(r *certs.EnrollResponse) { r.CA = string(other.CertPEM()) }), nil, "pinned"},
		{"leaf in the bundle", change(func(r *certs.EnrollResponse) { r.CA += r.Certificate }), nil, "no CA"},
		{"no certificate", change(func(r *certs.EnrollResponse) { r.Certificate = "" }), nil, "not PEM"},
		{"other key", change(func(r *certs.EnrollResponse) { r.Certificate = r.CA }), nil, "another key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, cfg := newProxy(t)
			tt.edit(p, &cfg)
			var lines strings.Builder
			_, err := enrollOnce(t, cfg, &lines)
			if err == nil || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\x1b") {
				t.Fatalf("got %v; want %q in it", err, tt.text)
			}
			if tt.want != nil && !errors.As(err, tt.want) {
				t.Errorf("got %T; want %T", err, tt.want)
			}
			if strings.Contains(err.Error()+lines.String(), cfg.Token) {
				t.Error("the token is in the error or in the progress")
			}
			// Nothing was written, not even the directories.
			if _, err := os.Stat(filepath.Dir(cfg.Dir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left behind: %s (%v)", filepath.Dir(cfg.Dir), err)
			}
		})
	}
}

// enrollOnce joins and gives up at the first wait between tries.
func enrollOnce(t *testing.T, cfg Config, lines *strings.Builder) (Result, error) {
	t.Helper()
	ctx, cancel := contextWithCancel(t)
	defer cancel()
	cfg.Progress = func(line string) {
		lines.WriteString(line)
		if strings.Contains(line, "next try") {
			cancel()
		}
	}
	return Join(ctx, cfg)
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, cfg := newProxy(t)
	cfg.Server = addr
	var unreachable *UnreachableError
	if _, err := enrollOnce(t, cfg, &strings.Builder{}); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// TestInterrupted is Ctrl-C while the proxy is asked: it is not the network.
func TestInterrupted(t *testing.T) {
	_, cfg := newProxy(t)
	ctx, cancel := contextWithCancel(t)
	var lines strings.Builder
	cfg.Progress = func(line string) {
		lines.WriteString(line)
		cancel()
	}
	if _, err := Join(ctx, cfg); err == nil || !strings.Contains(err.Error(), "interrupted") || strings.Contains(lines.String(), "next try") {
		t.Errorf("got %v after %q", err, lines.String())
	}
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := issuer.NewCA(cluster)
		if err != nil {
			t.Fatal(err)
		}
		forger, err := issuer.NewCA(cluster)
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Server: "a.example:1", CAHash: ca.Hash()}
		pair, err := ca.SignServer(issuer.ServerRequest{Cluster: cluster, Names: []string{"a.example"}})
		if err != nil {
			t.Fatal(err)
		}
		chain := append(chainOf(t, pair)[:1], ca.Certificate())
		if err := verifyPinned(cfg, "a.example", chain, time.Now()); err != nil {
			t.Fatal(err)
		}
		var clock *ClockError
		if err := verifyPinned(cfg, "a.example", chain, time.Unix(0, 0)); !errors.As(err, &clock) || !clock.Early() ||
			!strings.Contains(err.Error(), "this machine's clock says 1970-01-01T00:00:00Z") {
			t.Errorf("late clock: %v", err)
		}
		if err := verifyPinned(cfg, "a.example", chain, time.Now().Add(issuer.DefaultTTL+time.Hour)); !errors.As(err, &clock) || clock.Early() {
			t.Errorf("early clock: %v", err)
		}
		// A forged leaf is not called a matter of clocks.
		pair, err = forger.SignServer(issuer.ServerRequest{Cluster: cluster, Names: []string{"a.example"}})
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chainOf(t, pair)[:1], ca.Certificate())
		if err := verifyPinned(cfg, "a.example", chain, time.Unix(0, 0)); err == nil || errors.As(err, &clock) {
			t.Errorf("forged leaf: %v", err)
		}
	})
}
