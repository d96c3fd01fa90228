package samples

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/skerry-io/skerry/devices"
)

// Format is how samples are written.
type Format string

// The formats.
const (
	// Line is InfluxDB's line protocol, as VictoriaMetrics, QuestDB, Telegraf and others
	// take it, too.
	Line Format = "influx"
	// JSON is a JSON object a line.
	JSON Format = "json"
)

const (
	// timeout bounds one POST.
	timeout = 20 * time.Second
	// maxAnswer is how much is read of what a receiver says.
	maxAnswer = 64 << 10
	// maxQuoted is how much of that is told on.
	maxQuoted = 256
	// idleConns is how many connections are kept for the next frames.
	idleConns = 16
)

// ErrRefused says that the receiver will never take a frame.
var ErrRefused = errors.New("the receiver of samples refuses them")

// Config is what a Sink needs.
type Config struct {
	// URL is where samples are posted to, http or https. Required.
	URL string
	// Format is Line when empty.
	Format Format
	// AuthorizationFile holds the value of the header Authorization, such as "Token X"
	// or "Bearer X"; it is read for each frame, so that it may change. Empty means none.
	AuthorizationFile string
}

// Sink posts samples. Its methods may be called at the same time.
type Sink struct {
	cfg    Config
	client *http.Client
}

// New checks cfg, and connects to nothing yet.
func New(cfg Config) (*Sink, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no URL such as http://victoria:8428/write", cfg.URL)
	}
	if u.User != nil {
		return nil, errors.New("the URL has a user; put the header Authorization into a file instead")
	}
	switch cfg.Format {
	case "":
		cfg.Format = Line
	case Line, JSON:
	default:
		return nil, fmt.Errorf("format %q is neither %s nor %s", cfg.Format, Line, JSON)
	}
	if cfg.AuthorizationFile != "" {
		if _, err := authorization(cfg.AuthorizationFile); err != nil {
			return nil, err
		}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: idleConns, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: timeout,
	}
	return &Sink{cfg: cfg, client: &http.Client{
		Transport: transport, Timeout: timeout,
		// A POST that is answered by a redirect would become a GET, and seem to work.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func authorization(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read authorization: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("%s holds no value of the header Authorization in one line", file)
	}
	return text, nil
}

// Take returns nil when the receiver has taken a frame of an edge, and an error that is
// ErrRefused when it never will.
func (s *Sink) Take(ctx context.Context, node string, f devices.Frame) error {
	if len(f.Samples) == 0 && len(f.Gaps) == 0 {
		return nil
	}
	body, kind := lines(node, f), "text/plain; charset=utf-8"
	if s.cfg.Format == JSON {
		var err error
		if body, err = jsonLines(node, f); err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		kind = "application/x-ndjson"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post samples: %w", err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "skerry-cloudproxy")
	if s.cfg.AuthorizationFile != "" {
		text, err := authorization(s.cfg.AuthorizationFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", text)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("post samples: %w", err)
	}
	defer resp.Body.Close()                                       //nolint:errcheck // it was read
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status is what counts
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("post samples: %s: %.*q", resp.Status, maxQuoted, answer)
	switch resp.StatusCode {
	// What is wrong with the rights, the path or the load may be put right, these not.
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}
