package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// health asks the components how they are.
type health struct {
	client *http.Client
}

// newHealth makes a client with the administrator's certificate.
func (p *Plane) newHealth() (*health, error) {
	cert, err := tls.LoadX509KeyPair(p.path("pki", "admin.crt"), p.path("pki", "admin.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(p.path("pki", "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate in pki/ca.crt")
	}
	return &health{&http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots},
			// A component that is restarted meanwhile must not be asked on a
			// connection to its predecessor.
			DisableKeepAlives: true,
		},
	}}, nil
}

// readyURL is the address that answers 200 when the component serves.
func (p *Plane) readyURL(component string) string {
	switch component {
	case Etcd:
		return fmt.Sprintf("http://127.0.0.1:%d/health", p.port(Etcd))
	case APIServer:
		return p.serverURL() + "/readyz"
	default:
		return fmt.Sprintf("https://127.0.0.1:%d/healthz", p.port(component))
	}
}

// ok returns nil when url answers 200.
func (h *health) ok(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, failing(string(body)))
	}
	return nil
}

// failing keeps the lines that say no of a kube-apiserver's list of checks, and
// the start of any other answer.
func failing(body string) string {
	var no []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			name, _, _ := strings.Cut(strings.TrimSpace(line[3:]), " ")
			no = append(no, name)
		}
	}
	if len(no) > 0 {
		return "waits for " + strings.Join(no, ", ")
	}
	const limit = 200
	if body = strings.TrimSpace(body); len(body) > limit {
		body = body[:limit]
	}
	return body
}
